import dataclasses

import numpy as np
import pytest

from iql_jax.data import raw as raw_module
from iql_jax.data.raw import fingerprint, first_nonfinite, validate
from iql_jax.errors import InputError


def with_value(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_a_good_dataset_is_valid(make_dataset):
    validate(make_dataset())
    validate(make_dataset(), observation_dim=3, action_dim=2)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda d: {"observations": d.observations.astype(np.float64)},
            "test/small: 'observations' is float64 of shape (12, 3), but must be a NumPy array of "
            "float32 of shape (rows, numbers per row)",
        ),
        (
            lambda d: {"rewards": d.rewards[:, None]},
            "test/small: 'rewards' is float32 of shape (12, 1), but must be a NumPy array of "
            "float32 of shape (rows,)",
        ),
        (lambda d: {"ends": d.ends.astype(np.float32)}, "test/small: 'ends' is float32"),
        (lambda d: {"rewards": list(d.rewards)}, "test/small: 'rewards' is list, but must be"),
        (
            lambda d: {"actions": np.array([["a", "b"]] * 12)},
            "test/small: 'actions' is <U1 of shape (12, 2), but must be",
        ),
        (
            lambda d: {"rewards": d.rewards[:-2]},
            "test/small: 'rewards' has 10 rows but 'observations' has 12",
        ),
        (
            lambda d: {"actions": d.actions[:, :0]},
            "test/small: 'actions' has rows of no numbers",
        ),
        (
            lambda d: {"next_observations": d.next_observations[:, :2]},
            "test/small: 'next_observations' has 2 numbers per row but 'observations' has 3",
        ),
        (
            lambda d: {"observations": with_value(d.observations, (7, 1), np.nan)},
            "test/small: 'observations' row 7, dimension 1, is nan; every number must be finite",
        ),
        (
            lambda d: {"next_observations": with_value(d.next_observations, (0, 2), -np.inf)},
            "test/small: 'next_observations' row 0, dimension 2, is -inf",
        ),
        (
            lambda d: {"rewards": with_value(d.rewards, 11, np.inf)},
            "test/small: 'rewards' row 11 is inf",
        ),
        (
            lambda d: {"masks": with_value(d.masks, 4, 0.5)},
            "test/small: 'masks' row 4 is 0.5; it must be 0 where the episode terminated",
        ),
        (
            lambda d: {"masks": np.zeros_like(d.masks)},
            "test/small: 'masks' is 0 in every row",
        ),
        (
            lambda d: {"ends": np.zeros_like(d.ends)},
            "test/small: 'ends' row 11 is False; the last row always ends",
        ),
    ],
)
def test_each_fault_is_named(make_dataset, change, message):
    good = make_dataset()
    with pytest.raises(InputError) as caught:
        validate(dataclasses.replace(good, **change(good)))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_empty_dataset_is_named(make_dataset):
    good = make_dataset()
    empty = {
        field.name: getattr(good, field.name)[:0]
        for field in dataclasses.fields(good)
        if isinstance(getattr(good, field.name), np.ndarray)
    }
    with pytest.raises(InputError, match="test/small: 'observations' has no rows"):
        validate(dataclasses.replace(good, **empty))


def test_a_dataset_of_another_environment_is_named(make_dataset):
    good = make_dataset(env_name="hopper-medium-v2")
    with pytest.raises(
        InputError,
        match=r"'observations' has 3 numbers per row but the environment 'hopper-medium-v2' has 11",
    ):
        validate(good, observation_dim=11, action_dim=2)
    with pytest.raises(
        InputError, match=r"'actions' has 2 numbers per row but the environment 'Ant-v5' has 8"
    ):
        validate(good, observation_dim=3, action_dim=8, env_name="Ant-v5")


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_the_first_bad_row_is_found_across_chunks(monkeypatch, rows):
    monkeypatch.setattr(raw_module, "_CHUNK_BYTES", rows * 3 * 4)
    array = np.zeros((40, 3), np.float32)
    assert first_nonfinite(array) is None
    array[33, 0] = np.nan
    array[17, 2] = np.inf
    assert first_nonfinite(array) == "row 17, dimension 2, is inf"


def test_the_fingerprint_is_of_the_numbers_alone(make_dataset):
    good = make_dataset()
    print_of_good = fingerprint(good)
    assert len(print_of_good) == 16
    assert int(print_of_good, 16) >= 0
    again = make_dataset(name="other", source="elsewhere")
    assert fingerprint(again) == print_of_good
    # A view of other memory with the same numbers is the same data.
    backwards = dataclasses.replace(good, observations=good.observations[::-1].copy()[::-1])
    assert fingerprint(backwards) == print_of_good


@pytest.mark.parametrize(
    "field", ["observations", "actions", "rewards", "masks", "next_observations", "ends"]
)
def test_the_fingerprint_changes_with_every_field(make_dataset, field):
    good = make_dataset()
    array = getattr(good, field).copy()
    array.flat[5] = not array.flat[5] if array.dtype == np.bool_ else array.flat[5] + 1
    assert fingerprint(dataclasses.replace(good, **{field: array})) != fingerprint(good)


def test_the_fingerprint_changes_with_shape_and_type(make_dataset):
    good = make_dataset(rows=12)
    reshaped = dataclasses.replace(good, actions=good.actions.reshape(6, 4))
    assert fingerprint(reshaped) != fingerprint(good)
    retyped = dataclasses.replace(good, actions=good.actions.view(np.int32))
    assert fingerprint(retyped) != fingerprint(good)


def test_the_fingerprint_does_not_depend_on_the_chunks(monkeypatch, make_dataset):
    good = make_dataset()
    expected = fingerprint(good)
    monkeypatch.setattr(raw_module, "_CHUNK_BYTES", 50)
    assert fingerprint(good) == expected
