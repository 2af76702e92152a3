"""Exported policies compute what the policy itself does, without this package."""

import subprocess
import sys

import numpy as np
import pytest

import iql_jax
from iql_jax import export
from iql_jax.errors import InputError

OBSERVATIONS = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def policy(pendulum_run):
    return iql_jax.load_policy(pendulum_run, 1)


@pytest.fixture(scope="module")
def artifact(pendulum_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "policy.jaxpolicy"
    assert export.main([str(pendulum_run), f"--out={path}", "--member=1"]) == 0
    return path


def test_the_artifact_acts_as_the_policy(policy, artifact):
    act = export.load(artifact)
    np.testing.assert_allclose(act(OBSERVATIONS), policy.act(OBSERVATIONS), atol=1e-5)
    np.testing.assert_allclose(act(OBSERVATIONS[0]), policy.act(OBSERVATIONS[0]), atol=1e-5)
    np.testing.assert_allclose(
        act(OBSERVATIONS, seed=7, temperature=0.5),
        policy.act(OBSERVATIONS, seed=7, temperature=0.5),
        atol=1e-5,
    )


def test_the_artifact_needs_jax_alone(policy, artifact, tmp_path):
    np.save(tmp_path / "observations.npy", OBSERVATIONS)
    code = """
import sys
import jax
import jax.export
import numpy as np
artifact, observations = sys.argv[1:]
policy = jax.export.deserialize(bytearray(open(artifact, "rb").read()))
actions = policy.call(np.load(observations), np.uint32(0), np.float32(0.0))
np.save("actions.npy", actions)
assert not [name for name in sys.modules if name.startswith(("iql_jax", "flax"))]
"""
    subprocess.run(
        [sys.executable, "-c", code, artifact, tmp_path / "observations.npy"],
        cwd=tmp_path,
        check=True,
    )
    actions = np.load(tmp_path / "actions.npy")
    np.testing.assert_allclose(actions, policy.act(OBSERVATIONS), atol=1e-5)


def test_the_artifact_runs_on_accelerators_too(artifact):
    from jax import export as jax_export

    exported = jax_export.deserialize(bytearray(artifact.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert [str(aval) for aval in exported.in_avals] == ["float32[b,3]", "uint32[]", "float32[]"]
    assert [str(aval) for aval in exported.out_avals] == ["float32[b,1]"]


@pytest.mark.parametrize("count", [1, 1000])
def test_onnx_acts_as_the_policy(pendulum_run, policy, tmp_path, capsys, count):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "policy.onnx"
    arguments = [str(pendulum_run), f"--out={path}", "--format=onnx", "--member=1"]
    assert export.main(arguments) == 0
    assert "member 1 at update 100; 3 numbers in, 1 out" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(path.read_bytes())
    (actions,) = session.run(None, {"observations": OBSERVATIONS[:count]})
    assert actions.shape == (count, 1)
    np.testing.assert_allclose(actions, policy.act(OBSERVATIONS[:count]), atol=1e-5)


@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        ("bc", {"hidden_dims": (16, 8, 4), "observation": "none", "action": "none"}),
        ("iql", {"activation": "gelu", "policy_distribution": "constant_std"}),
        ("iql", {"action": "none", "policy_distribution": "categorical"}),
    ],
)
def test_onnx_of_other_networks_and_without_transforms(agent, settings):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    policy = made_policy(agent, **settings)
    session = onnxruntime.InferenceSession(export.export_onnx(policy))
    (actions,) = session.run(None, {"observations": OBSERVATIONS})
    assert np.std(actions) > 0.01
    np.testing.assert_allclose(actions, policy.act(OBSERVATIONS), atol=1e-5)


def made_policy(agent, observation="standardize", action="rescale", **settings):
    """Returns an untrained policy of an agent."""
    import jax

    from iql_jax import agents
    from iql_jax.config import RunConfig
    from iql_jax.data import transforms
    from iql_jax.policy import Policy
    from iql_jax.training.problem import Transforms

    settings = RunConfig(agent=agent, **({"hidden_dims": (8, 8)} | settings)).settings()
    module = agents.get(agent)
    config = module.make_config(settings, 3, 2)
    hyper = module.make_hyperparameters(settings)
    state = jax.jit(module.init, static_argnums=0)(config, hyper, jax.random.key(0))
    vector = np.arange(3, dtype=np.float32)
    fitted = Transforms(
        reward=transforms.RewardTransform("none", 1.0, 0.0),
        observation=transforms.ObservationTransform(observation, vector, vector + 1),
        action=transforms.ActionTransform(action, vector[:2] - 3, vector[1:] * 4),
    )
    return Policy(module, config, state, fitted, "float32", 0)


def test_a_diffusion_policy_is_exported_for_jax_only(tmp_path):
    policy = made_policy("idql")
    path = tmp_path / "policy"
    path.write_bytes(export.export_jax(policy))
    act = export.load(path)
    some = OBSERVATIONS[:5]
    np.testing.assert_allclose(act(some, seed=2), policy.act(some, seed=2), atol=1e-3)
    assert not np.array_equal(act(some, seed=2), act(some, seed=3))
    with pytest.raises(InputError, match=r"--format=onnx is for Gaussian.*export it with --format"):
        export.export_onnx(policy)


def test_what_cannot_be_exported_is_one_line(pendulum_run, tmp_path, capsys, monkeypatch):
    assert export.main([str(tmp_path), f"--out={tmp_path}/x"]) == 2
    assert "is no run directory" in capsys.readouterr().err
    assert export.main([str(pendulum_run), f"--out={tmp_path}/no/x"]) == 2
    assert "cannot write" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export.main([str(pendulum_run), f"--out={tmp_path}/x", "--format=onnx"]) == 2
    assert 'needs the package onnx: pip install "onnx>=1.17,<2"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_artifact_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        export.load(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"something else entirely")
    with pytest.raises(InputError, match="is no exported policy"):
        export.load(tmp_path / "x")
