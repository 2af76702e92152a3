import numpy as np
import pytest

from iql_jax import data
from iql_jax.data import __main__ as program
from iql_jax.data import catalog, describe, generated


def facts(raw):
    return dict(describe.describe(raw).facts)


def test_facts_are_counted(make_dataset):
    raw = make_dataset(rows=12)
    known = facts(raw)
    assert known["transitions"] == "12"
    assert known["episodes"] == ("2, of 6 to 6 steps (median 6); 1 of them end in a termination")
    assert known["observations"].startswith("3 numbers, from -")
    returns = describe.describe(raw).returns
    np.testing.assert_allclose(returns, raw.rewards.reshape(2, 6).sum(axis=1), rtol=1e-6)
    assert known["score"] == "no reference returns: not normalised"


def test_few_values_of_rewards_are_listed(make_dataset):
    rewards = np.array([0, 0, 0, 0, 0, 1] * 2, np.float32)
    assert facts(make_dataset(rewards=rewards))["rewards"] == "0 (83.33%), 1 (16.67%)"


def test_scores_are_normalised_where_that_can_be(make_dataset):
    raw = make_dataset(rewards=np.full(12, 3234.3 / 6, np.float32), env_name="hopper-medium-v2")
    assert facts(raw)["score"] == "100.0 normalised on average, the best episode 100.0"


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"name": "generated/antmaze-umaze-v0"}, "made on this machine"),
        ({"name": "minari/D4RL/pen/human-v2"}, "not D4RL's data"),
        ({"name": "d4rl/antmaze-umaze-v2"}, "this is v2, IQL's and IDQL's papers use v0"),
        ({"name": "d4rl/hopper-medium-expert-v2"}, "train ten seeds"),
        ({"name": "d4rl/walker2d-medium-expert-v2"}, "about 2,000,000 rows, this has 12"),
        ({"env_name": None}, "no environment is known"),
        ({"rewards": np.zeros(12, np.float32)}, "all rewards are 0"),
        ({"rewards": np.float32([0, 0, 0, 0, 0, 1] * 2)}, "reward_transform=minus_one"),
        ({"rewards": np.float32([0, 0, 0, 1, 1, 1] * 2)}, "rewards of 1 come in runs"),
        ({"actions": np.full((12, 2), 1.5, np.float32)}, "actions reach 1.5"),
        ({"actions": np.full((12, 2), -1, np.float32)}, "100% of the actions' numbers"),
        ({}, "only 2 episodes"),
        ({"masks": np.float32([0] * 11 + [1])}, "92% of the rows are terminal"),
        ({"masks": np.float32([0, 0] + [1] * 10)}, "2 terminal rows are followed by rows"),
        ({"observations": np.ones((12, 3), np.float32)}, "3 numbers of the observations never"),
        ({"observations": np.full((12, 3), 2e4, np.float32)}, "as large as 2e+04"),
    ],
)
def test_traps_are_warned_of(make_dataset, changes, warning):
    fields = {"env_name": "Pendulum-v1"} | changes
    assert any(warning in text for text in describe.warnings(make_dataset(**fields)))


def test_ordinary_data_has_no_warnings(make_dataset):
    raw = make_dataset(rows=12, env_name="Pendulum-v1", ends=np.ones(12, np.bool_))
    assert describe.warnings(raw) == []


def test_choices_are_no_actions_at_a_bound(make_dataset):
    actions = np.eye(2, dtype=np.float32)[np.arange(12) % 2]
    assert not any("bound" in text for text in describe.warnings(make_dataset(actions=actions)))


def test_the_program_describes_and_draws(tmp_path, monkeypatch, capsys, make_arrays, write_file):
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "mine.npz", make_arrays())
    assert program.main(["describe", "file/mine.npz"]) == 0
    out = capsys.readouterr().out
    assert "transitions   11" in out and "fingerprint   " in out
    assert (tmp_path / "file-mine.npz-returns.png").read_bytes().startswith(b"\x89PNG")
    assert program.main(["describe", "file/mine.npz", "--no_picture"]) == 0
    assert "histogram" not in capsys.readouterr().out


def test_the_program_refuses_in_one_line(capsys):
    assert program.main(["describe", "hoper-medium-v2"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown dataset 'hoper-medium-v2'")


def test_the_list_shows_what_is_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("IQL_JAX_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    (tmp_path / "hopper_medium-v2.hdf5").touch()
    made = generated.default_path("generated/pointmaze-medium-v0")
    made.touch()
    assert program.main(["list", "medium-v"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["d4rl/hopper-medium-v2"] == str(tmp_path / "hopper_medium-v2.hdf5")
    assert lines["generated/pointmaze-medium-v0"] == str(made)
    assert lines["d4rl/walker2d-medium-v2"] == "-"
    assert program.main(["list", "--here", "hopper"]) == 0
    assert capsys.readouterr().out.split()[0] == "d4rl/hopper-medium-v2"
    assert program.main(["list", "--here", "nothing-like-it"]) == 2
    assert "no dataset here has 'nothing-like-it'" in capsys.readouterr().err


def test_the_catalog_has_every_known_name(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert {entry.name for entry in catalog.entries()} == set(data.known_names())
