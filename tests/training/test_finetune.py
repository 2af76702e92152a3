"""Finetuning: the authors' update, the right transitions, and exact continuation."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.agents import iql
from iql_jax.config import OnlineConfig, RunConfig
from iql_jax.data import replay, transforms
from iql_jax.envs.lockstep import StepResult
from iql_jax.errors import InputError
from iql_jax.training import acting, finetune, online_step, population, problem, session
from iql_jax.training.interrupt import StopSignals
from iql_jax.training.members import plan_members
from iql_jax.training.plain import from_plain, to_plain
from iql_jax.training.problem import Problem, Transforms
from iql_jax.training.run_directory import RunOptions
from iql_jax.training.transition_log import TransitionLog
from tests.agents.test_iql_golden import deviation, golden_state
from tests.golden import load, params


@pytest.mark.usefixtures("all_optimizations")
def test_the_online_update_equals_the_authors(shared):
    arrays, meta = load(shared / "golden" / "finetune.npz")
    config, state = golden_state(arrays, meta, decay=False)
    fields = ("observations", "actions", "next_observations", "rewards", "masks")
    batches = np.concatenate(
        [arrays[name].reshape(*arrays["rewards"].shape, -1) for name in fields], axis=-1
    )
    run = jax.jit(
        lambda state, batches: population.run_updates(
            iql, config, state, jax.random.key(0), batches, lambda rows: rows
        )
    )
    state, _, broken_at = run(state, jnp.asarray(batches))
    assert broken_at == -1
    expected = params(arrays, "step20")
    assert deviation(state.policy.params, expected["policy"]) < 1e-4
    assert deviation(state.critic.q.params, expected["q"]) < 1e-4
    assert deviation(state.critic.target_q_params, expected["target_q"]) < 1e-4


class Corridor:
    """Stands for `Lockstep`: two environments, the second's episode ends by its time limit."""

    can_save = True

    def __init__(self, make_env, num_envs):
        self.time = 0

    def reset(self, seeds):
        assert len(set(seeds)) == 2
        return np.zeros((2, 1), np.float32)

    def reset_where(self, mask):
        observations = np.full((2, 1), self.time, np.float32)
        observations[mask] = -1.0
        return observations

    def step(self, actions):
        self.time += 1
        ended = self.time == 2
        return StepResult(
            observations=np.full((2, 1), self.time, np.float32),
            rewards=np.array([3.0, 4.0]),
            terminated=np.array([ended, False]),
            truncated=np.array([False, ended]),
            success=np.array([ended, False]),
        )


def test_lived_transitions_are_what_the_datasets_are(monkeypatch):
    monkeypatch.setattr(acting, "Lockstep", Corridor)
    one = np.ones(1, np.float32)
    fitted = Transforms(
        reward=transforms.RewardTransform("scaled", 10.0, -1.0),
        observation=transforms.ObservationTransform("standardize", 2 * one, 4 * one),
        action=transforms.ActionTransform("none", -one, one),
    )
    problem = Problem(np.zeros((1, 5), np.float32), 1, 1, fitted, {}, "corridor", True)
    envs = acting.ActingEnvironments(problem, [0, 1])
    actions = np.array([[0.5], [-0.5]], np.float32)
    first = replay.unpack(jnp.asarray(envs.step(actions)), 1, 1)
    np.testing.assert_allclose(first.observations, [[-0.5], [-0.5]])  # (0 - 2) / 4
    np.testing.assert_allclose(first.actions, actions)
    np.testing.assert_allclose(first.next_observations, [[-0.25], [-0.25]])
    np.testing.assert_allclose(first.rewards, [29.0, 39.0])
    np.testing.assert_allclose(first.masks, [1.0, 1.0])
    second = replay.unpack(jnp.asarray(envs.step(actions)), 1, 1)
    np.testing.assert_allclose(second.masks, [0.0, 1.0])  # a time limit cuts off nothing
    np.testing.assert_allclose(second.next_observations, [[0.0], [0.0]])  # not the new episode's
    np.testing.assert_allclose(envs.observations, [[-0.75], [-0.75]])
    row = envs.take_finished()
    np.testing.assert_allclose(row["online/return"], [6.0, 8.0])  # the environment's own rewards
    np.testing.assert_allclose(row["online/success_rate"], [1.0, 0.0])
    np.testing.assert_allclose(row["online/regret"], [0.0, 1.0])
    assert np.isnan(envs.take_finished()["online/return"]).all()


CONFIG = RunConfig(
    env_name="generated/pointmaze-umaze-v0",
    hidden_dims=(16, 16),
    batch_size=16,
    reward_transform="minus_one",
    opt_decay_schedule="none",
    max_steps=240,
    log_interval=40,
    eval_interval=80,
    eval_episodes=2,
    online=OnlineConfig(num_pretraining_steps=20, init_dataset_size=500, warmup_steps=5),
)


@pytest.fixture
def maze_data(monkeypatch, tmp_path_factory):
    """A small generated dataset in place of the full one, and no pictures of runs."""
    from iql_jax.data import generated

    folder = tmp_path_factory.getbasetemp() / "maze"
    monkeypatch.setenv("IQL_JAX_DATA_DIR", str(folder))
    monkeypatch.setitem(generated._NUM_TRANSITIONS, "generated/pointmaze-umaze-v0", 3000)
    monkeypatch.setattr(session.pictures, "draw_run", lambda run_dir: [])
    with jax.debug_key_reuse(False):  # takes longer for each call than these small programs
        yield


def records(run_dir: Path):
    """What a run leaves that must not depend on interruptions."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if not k.startswith("timing/")} for row in rows]
    evaluations = [
        line.rsplit(",", 1)[0] for line in (run_dir / "evaluations.csv").read_text().splitlines()
    ]
    last = max((run_dir / "checkpoints").glob("update_*"), key=lambda p: int(p.name.split("_")[1]))
    manifest = json.loads((last / "manifest.json").read_text())
    return rows, evaluations, (run_dir / "transitions.bin").read_bytes(), manifest["leaves"], last


def train(save_dir, num_seeds=1, config=CONFIG, **options):
    members = plan_members(config, 0, num_seeds)
    run_options = RunOptions(save_dir=str(save_dir), checkpoint_seconds=1e9, **options)
    return finetune.train_finetune(config, members, run_options)


def arrays_of(checkpoint: Path, num_seeds):
    from iql_jax import agents
    from iql_jax.training.checkpoint import Checkpoints

    agent = agents.get("iql")
    config = agent.make_config(CONFIG.settings(), 4, 2)
    hyper = population.stack_hyperparameters(
        [agent.make_hyperparameters(CONFIG.settings())] * num_seeds
    )
    layout = population.choose_layout(num_seeds)
    keys, _ = population.member_keys(range(num_seeds))
    template = population.init_many(agent, config, layout, hyper, keys)
    return jax.tree.leaves(Checkpoints(checkpoint.parent, say=print).restore(template).arrays)


@pytest.mark.parametrize("num_seeds", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_continued_run_ends_bit_for_bit_like_one_never_stopped(
    maze_data, tmp_path, monkeypatch, num_seeds
):
    assert train(tmp_path / "whole", num_seeds) == 0

    asked = []

    def stop_in_mid_episode(self):
        asked.append(True)
        return len(asked) > 130

    with monkeypatch.context() as patched:
        patched.setattr(StopSignals, "stopped", stop_in_mid_episode)
        train(tmp_path / "parts", num_seeds)
    assert train(tmp_path / "parts", num_seeds, resume="must") == 0

    *whole, whole_last = records(tmp_path / "whole")
    *parts, parts_last = records(tmp_path / "parts")
    for a, b in zip(whole[:3], parts[:3], strict=True):
        assert a == b
    assert whole_last.name == parts_last.name == "update_255"  # 20 + 240 - 5 warming up
    for a, b in zip(
        arrays_of(whole_last, num_seeds), arrays_of(parts_last, num_seeds), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert whole[0][-1]["env_steps"] == 240


def test_learning_while_the_environments_step_changes_no_bit(maze_data, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, max_steps=80)
    looked = []
    tells = online_step.Lookahead.needs_newest

    def told(self, update, count):
        looked.append(tells(self, update, count))
        return looked[-1]

    monkeypatch.setattr(online_step.Lookahead, "needs_newest", told)
    train(tmp_path / "beside", 2, config)
    assert 0 < sum(looked) < len(looked)  # some batches hold the transition of their own step
    monkeypatch.setattr(online_step.Lookahead, "needs_newest", lambda *_: True)
    train(tmp_path / "in_turn", 2, config)
    for beside, in_turn in zip(
        records(tmp_path / "beside")[:4], records(tmp_path / "in_turn")[:4], strict=True
    ):
        assert beside == in_turn


def test_finetuning_starts_from_an_offline_run(maze_data, tmp_path):
    from iql_jax.training.offline import train_offline

    members = plan_members(CONFIG, 0, 1)
    offline = dataclasses.replace(CONFIG, online=None, max_steps=30, eval_interval=30)
    train_offline(offline, members, RunOptions(save_dir=str(tmp_path / "offline")))
    config = dataclasses.replace(CONFIG, max_steps=20, log_interval=10, eval_interval=20)
    online = RunOptions(save_dir=str(tmp_path / "online"))
    finetune.train_finetune(config, members, online, from_run=str(tmp_path / "offline"))
    rows = records(tmp_path / "online")[0]
    assert rows[-1]["update"] == 30 + 20 - 5
    with pytest.raises(InputError, match="holds no checkpoint"):
        finetune.train_finetune(config, members, online, from_run=str(tmp_path))


def test_finetuning_starts_with_as_many_rows_as_asked_for(maze_data):
    whole = problem.load_problem(dataclasses.replace(CONFIG, online=None))
    limited = problem.load_problem(CONFIG)
    assert limited.rows.shape == (500, whole.rows.shape[1]) and len(whole.rows) > 2000
    assert len(np.unique(limited.rows, axis=0)) == 500
    assert {row.tobytes() for row in limited.rows} <= {row.tobytes() for row in whole.rows}
    told = problem.describe(limited)
    assert f"{len(whole.rows):,} transitions (500 of them drawn to start with)" in told
    assert "drawn" not in problem.describe(whole)
    more = dataclasses.replace(CONFIG.online, init_dataset_size=4000)
    with pytest.raises(InputError, match=r"init_dataset_size is 4,000, but .* rows"):
        problem.load_problem(dataclasses.replace(CONFIG, online=more))


def test_a_buffer_smaller_than_the_dataset_is_refused(maze_data, tmp_path):
    small = dataclasses.replace(CONFIG.online, replay_buffer_size=400)
    with pytest.raises(InputError, match="replay_buffer_size is 400, but the data"):
        train(tmp_path / "run", config=dataclasses.replace(CONFIG, online=small))


def test_a_damaged_transition_log_is_detected(tmp_path):
    log = TransitionLog(tmp_path / "t.bin", 2, 3)
    rows = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    for step in rows:
        log.append(step)
    checksum = log.sync()
    log.append(rows[0])  # after the checkpoint: dropped when the run is continued
    log.close()
    again = TransitionLog(tmp_path / "t.bin", 2, 3)
    np.testing.assert_array_equal(again.restore(2, checksum), rows)
    again.append(rows[1])
    assert again.sync() != checksum
    again.close()
    data = bytearray((tmp_path / "t.bin").read_bytes())
    data[5] ^= 1
    (tmp_path / "t.bin").write_bytes(data)
    damaged = TransitionLog(tmp_path / "t.bin", 2, 3)
    with pytest.raises(InputError, match="truncated or changed"):
        damaged.restore(2, checksum)
    damaged.close()


def test_values_survive_json_exactly():
    values = {
        "array": np.random.default_rng(0).normal(size=(2, 3)),
        "bool": np.array([True, False]),
        "scalar": np.float32(0.1),
        "generator": np.random.default_rng(1).bit_generator.state,
        "list": [(1, 2.5, None), {"a": "b"}],
    }
    again = from_plain(json.loads(json.dumps(to_plain(values))))
    assert again["list"] == values["list"] and again["generator"] == values["generator"]
    np.testing.assert_array_equal(again["array"], values["array"])
    assert again["bool"].dtype == bool and again["scalar"].dtype == np.float32
    with pytest.raises(TypeError, match="cannot keep"):
        to_plain(object())
