"""A saved policy acts as the run's own evaluation does, in the environment's units."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import iql_jax
from iql_jax import policy as policy_module
from iql_jax.errors import InputError
from tests.training.small_runs import stored_arrays

OBSERVATIONS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def by_hand(run_dir, member, observations, update=100):
    """Returns actions computed with NumPy from the files of a run."""
    record = json.loads((run_dir / "record.json").read_text())["transforms"]
    arrays = {
        name.removeprefix("policy.params.params."): array[member].astype(np.float64)
        for name, array in stored_arrays(run_dir, update).items()
    }
    hidden = (observations - record["observation"]["mean"]) / record["observation"]["std"]
    for layer in ("MLP_0.Dense_0", "MLP_0.Dense_1"):
        hidden = np.maximum(hidden @ arrays[f"{layer}.kernel"] + arrays[f"{layer}.bias"], 0)
    mean = np.tanh(hidden @ arrays["mean.kernel"] + arrays["mean.bias"])
    low, high = (np.array(record["action"][side]) for side in ("low", "high"))
    return low + (mean + 1) / 2 * (high - low)


@pytest.mark.parametrize("member", [0, 1])
def test_it_acts_by_the_saved_numbers_and_transforms(pendulum_run, member):
    policy = iql_jax.load_policy(pendulum_run, member)
    assert policy.update == 100
    actions = policy.act(OBSERVATIONS)
    assert actions.shape == (7, 1) and actions.dtype == np.float32
    np.testing.assert_allclose(actions, by_hand(pendulum_run, member, OBSERVATIONS), atol=1e-5)
    assert np.abs(actions).max() > 1.0  # rescaled to Pendulum's [-2, 2]


def test_one_observation_or_many(pendulum_run):
    policy = iql_jax.load_policy(str(pendulum_run))
    many = policy.act(OBSERVATIONS)
    assert policy.act(OBSERVATIONS[2]).shape == (1,)
    np.testing.assert_allclose(policy.act(OBSERVATIONS[2].tolist()), many[2], atol=1e-5)
    assert policy.act(OBSERVATIONS[:1]).shape == (1, 1)


def test_it_compiles_once_per_number_of_observations(pendulum_run):
    policy = iql_jax.load_policy(pendulum_run)
    policy.act(OBSERVATIONS), policy.act(OBSERVATIONS[0])
    before = policy_module._act._cache_size()
    for temperature in (0.0, 0.3, 1.0):
        policy.act(OBSERVATIONS, temperature=temperature, seed=1)
        policy.act(OBSERVATIONS[1], temperature=temperature, seed=2)
    assert policy_module._act._cache_size() == before
    policy.act(OBSERVATIONS[:3])
    assert policy_module._act._cache_size() == before + 1


def test_noise_comes_from_a_seed_or_a_key(pendulum_run):
    policy = iql_jax.load_policy(pendulum_run)
    noisy = policy.act(OBSERVATIONS, temperature=1.0, seed=3)
    np.testing.assert_array_equal(noisy, policy.act(OBSERVATIONS, temperature=1.0, seed=3))
    key = jax.random.key(3)
    np.testing.assert_array_equal(noisy, policy.act(OBSERVATIONS, temperature=1.0, key=key))
    assert not np.array_equal(noisy, policy.act(OBSERVATIONS, temperature=1.0, seed=4))
    assert not np.array_equal(noisy, policy.act(OBSERVATIONS))
    with pytest.raises(InputError, match=r"temperature 1.0 adds noise, which needs a seed"):
        policy.act(OBSERVATIONS, temperature=1.0)
    with pytest.raises(InputError, match="a seed or a key, not both"):
        policy.act(OBSERVATIONS, temperature=1.0, seed=1, key=key)


@pytest.mark.parametrize("shape", [(4,), (7, 2), (2, 2, 3), ()], ids=str)
def test_a_wrong_shape_is_told(pendulum_run, shape):
    policy = iql_jax.load_policy(pendulum_run)
    with pytest.raises(InputError) as caught:
        policy.act(np.zeros(shape))
    assert str(caught.value) == (
        f"observations have shape {shape}; this policy takes (3,) for one or (any number, 3) for "
        "many"
    )


def test_checkpoints_by_name_and_number(pendulum_run):
    manifests = (pendulum_run / "checkpoints").glob("*/manifest.json")
    scores = {m["update"]: m["score"] for m in (json.loads(p.read_text()) for p in manifests)}
    best = max(scores, key=scores.get)
    assert iql_jax.load_policy(pendulum_run, update="best").update == best
    assert iql_jax.load_policy(pendulum_run, update="last").update == 100
    assert iql_jax.load_policy(pendulum_run, 1, 90).update == 90
    np.testing.assert_allclose(
        iql_jax.load_policy(pendulum_run, 1, 90).act(OBSERVATIONS),
        by_hand(pendulum_run, 1, OBSERVATIONS, 90),
        atol=1e-5,
    )
    with pytest.raises(InputError, match=r"no checkpoint of update 7 in .*; choose one of .* 100"):
        iql_jax.load_policy(pendulum_run, update=7)
    with pytest.raises(InputError, match="'first' is none of best, last or the number"):
        iql_jax.load_policy(pendulum_run, update="first")


def test_what_is_not_there_is_told(pendulum_run, tmp_path):
    with pytest.raises(InputError, match=r"is no run directory: it has no config.json"):
        iql_jax.load_policy(tmp_path)
    with pytest.raises(InputError, match=r"member 3 does not exist: .* has 3, counted from 0"):
        iql_jax.load_policy(pendulum_run, 3)
    with pytest.raises(InputError, match=r"member 2 of .* was dropped before update 100"):
        iql_jax.load_policy(pendulum_run, 2)
    for name in ("config.json", "record.json"):
        shutil.copy(pendulum_run / name, tmp_path)
    with pytest.raises(InputError, match=r"no checkpoint in .*; give a directory where a run has"):
        iql_jax.load_policy(tmp_path)


def test_records_of_another_version_are_told(pendulum_run, tmp_path):
    config = json.loads((pendulum_run / "config.json").read_text())
    shutil.copy(pendulum_run / "record.json", tmp_path)
    config["config"]["novelty"] = 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has the setting 'novelty', which this version does not"):
        iql_jax.load_policy(tmp_path)
    del config["config"]["novelty"], config["flags"]["members"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"not what this version writes \(KeyError\('members'\)\)"):
        iql_jax.load_policy(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json' cannot be read"):
        iql_jax.load_policy(tmp_path)


def test_a_damaged_checkpoint_is_told_and_the_one_before_used(pendulum_run, tmp_path, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(pendulum_run, run_dir)
    (run_dir / "checkpoints" / "update_100" / "host.json").write_text("{}")
    assert iql_jax.load_policy(run_dir).update == 90
    told = capsys.readouterr().err
    assert "WARNING: damaged checkpoint, not used" in told
    assert "WARNING: using the checkpoint of update 90 instead" in told


def test_importing_the_package_stays_cheap():
    code = "import sys, iql_jax; iql_jax.__all__; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    with pytest.raises(AttributeError, match="module 'iql_jax' has no attribute 'laod_policy'"):
        iql_jax.laod_policy  # noqa: B018
