"""Populations: seeds crossed with grids."""

import pytest

from iql_jax.config import RunConfig
from iql_jax.errors import InputError
from iql_jax.training.members import Member, plan_members, settings_of


def test_seeds_follow_the_first():
    assert plan_members(RunConfig(), 3, 2) == [Member(3, {}), Member(4, {})]


def test_a_grid_is_crossed_with_the_seeds():
    members = plan_members(RunConfig(), 0, 2, "expectile=0.7,0.9; temperature=1,3")
    assert len(members) == 8
    assert members[0] == Member(0, {"expectile": 0.7, "temperature": 1.0})
    assert members[1] == Member(1, {"expectile": 0.7, "temperature": 1.0})
    assert members[-1] == Member(1, {"expectile": 0.9, "temperature": 3.0})
    assert settings_of(RunConfig(), members[-1])["expectile"] == 0.9
    assert settings_of(RunConfig(), members[-1])["discount"] == 0.99


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("expectil=0.7", "did you mean 'expectile'"),
        ("batch_size=1,2", "sweep over 'batch_size' is not possible"),
        ("expectile=a", "not of the form name=number,number"),
        ("expectile", "not of the form"),
        ("expectile=0.7,0.7", "names a value twice"),
        ("expectile=2", "expectile is 2.0, but must be strictly between 0 and 1"),
    ],
)
def test_bad_sweeps(sweep, message):
    with pytest.raises(InputError, match=message):
        plan_members(RunConfig(), 0, 1, sweep)


@pytest.mark.parametrize(("seed", "num_seeds"), [(0, 0), (0, -1), (-1, 1), (2**32, 1)])
def test_bad_counts(seed, num_seeds):
    with pytest.raises(InputError, match="must be"):
        plan_members(RunConfig(), seed, num_seeds)
