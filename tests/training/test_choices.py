"""Choices instead of numbers, and goals in dictionaries: from own data to an exported policy."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

import iql_jax
from iql_jax import envs, export
from iql_jax.config import OnlineConfig, RunConfig
from iql_jax.data.recording import Recorder
from iql_jax.errors import InputError
from iql_jax.evaluate import evaluate_run
from iql_jax.training.finetune import train_finetune
from iql_jax.training.members import Member
from iql_jax.training.offline import train_offline
from iql_jax.training.problem import load_problem
from iql_jax.training.run_directory import RunOptions


class Follow(gymnasium.Env):
    """Four steps; choosing what the goal says gains 1."""

    observation_space = spaces.Dict({"goal": spaces.Discrete(3), "time": spaces.Box(0, 1, (1,))})
    action_space = spaces.Discrete(3, start=5)

    def _observe(self):
        self.goal = int(self.np_random.integers(3))
        return {"goal": self.goal, "time": np.array([self.t / 4], np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        reward = float(action - 5 == self.goal)
        self.t += 1
        return self._observe(), reward, False, self.t == 4, {"is_success": reward == 1}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Settings to learn from one who mostly takes the choice after the right one."""
    gymnasium.register("Follow-v0", Follow, max_episode_steps=4)
    rng = np.random.default_rng(0)
    env = Recorder(gymnasium.make("Follow-v0"))
    for seed in range(100):
        seen, ended = env.reset(seed=seed)[0], False
        while not ended:
            shift = rng.choice(3, p=[0.2, 0.6, 0.2])
            seen, _, _, ended, _ = env.step(5 + (seen["goal"] + shift) % 3)
    path = env.save(tmp_path_factory.mktemp("choices") / "data.npz")
    yield RunConfig(
        env_name="Follow-v0",
        dataset=f"file/{path}",
        policy_distribution="categorical",
        hidden_dims=(16, 16),
        discount=0.5,
        batch_size=64,
        actor_lr=1e-2,
        critic_lr=1e-2,
        value_lr=1e-2,
        target_update_rate=0.1,
        max_steps=200,
        log_interval=100,
        eval_interval=200,
        eval_episodes=10,
    )
    gymnasium.registry.pop("Follow-v0", None)


@pytest.fixture(scope="module")
def run_dir(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    assert train_offline(config, [Member(0, {})], RunOptions(str(path))) == 0
    return path


def test_iql_finds_the_right_choice_where_cloning_repeats_the_usual_one(config, run_dir, tmp_path):
    scores = evaluate_run(run_dir)
    assert scores.score_meaning == "success rate (%)"
    np.testing.assert_array_equal(scores.evaluation.returns, 4)
    cloning = dataclasses.replace(config, agent="bc")
    assert train_offline(cloning, [Member(0, {})], RunOptions(str(tmp_path / "bc"))) == 0
    np.testing.assert_array_equal(evaluate_run(tmp_path / "bc").evaluation.returns, 0)


def test_the_policy_chooses_wherever_it_is_used(run_dir):
    policy = iql_jax.load_policy(run_dir)
    env = envs.make("Follow-v0")
    seen, _ = env.reset(seed=3)
    assert seen.tolist() == [*np.eye(3)[env.unwrapped.goal], 0.0]
    np.testing.assert_array_equal(policy.act(seen), seen[:3])
    assert env.step(policy.act(seen))[1] == 1.0
    seen = np.c_[np.eye(3), np.zeros(3)].astype(np.float32)
    np.testing.assert_array_equal(policy.act(seen), np.eye(3))
    noisy = policy.act(np.repeat(seen, 50, axis=0), temperature=3.0, seed=0)
    assert set(noisy.sum(axis=1)) == {1.0} and (noisy.sum(axis=0) > 0).all()
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(export.export_onnx(policy))
    np.testing.assert_array_equal(session.run(None, {"observations": seen})[0], np.eye(3))


@pytest.mark.slow
def test_finetuning_goes_on_from_there(config, run_dir, tmp_path, capsys):
    online = OnlineConfig(replay_buffer_size=500)
    config = dataclasses.replace(config, online=online, max_steps=20, eval_interval=20)
    config = dataclasses.replace(config, opt_decay_schedule="none", log_interval=10)
    options = RunOptions(str(tmp_path / "tuned"))
    assert train_finetune(config, [Member(0, {})], options, str(run_dir)) == 0
    np.testing.assert_array_equal(evaluate_run(tmp_path / "tuned").evaluation.returns, 4)
    assert "cannot save its state" in capsys.readouterr().out


def test_what_does_not_fit_is_refused(config, tmp_path, monkeypatch):
    class Push(Follow):
        action_space = spaces.Box(-1, 1, (3,))

        def step(self, action):
            return self._observe(), 0.0, False, False, {}

    monkeypatch.setitem(gymnasium.registry, "Push-v0", EnvSpec("Push-v0", Push))
    with pytest.raises(InputError, match=r"takes one of 3 choices: use --config.policy_distrib"):
        load_problem(dataclasses.replace(config, policy_distribution="gaussian"))
    with pytest.raises(InputError, match=r"'Push-v0' takes numbers: use .*=gaussian"):
        load_problem(dataclasses.replace(config, env_name="Push-v0"))
    rows = np.load(config.dataset.removeprefix("file/"))
    np.savez(tmp_path / "x.npz", **{**rows, "actions": rows["actions"] * 0.5})
    with pytest.raises(InputError, match=r"'actions' row 0 is \[.*0.5.*\], which is no choice"):
        load_problem(dataclasses.replace(config, dataset=f"file/{tmp_path / 'x.npz'}"))
