"""Several tasks over one dataset: a member each, as if it were alone, in its own environment."""

import dataclasses
import json

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from jax.sharding import Mesh

from iql_jax import agents, data
from iql_jax.config import OnlineConfig, RunConfig
from iql_jax.data import replay
from iql_jax.data.raw import RawDataset
from iql_jax.errors import InputError
from iql_jax.evaluate import evaluate_run
from iql_jax.report import book, runs
from iql_jax.training import population
from iql_jax.training.members import Member, plan_members
from iql_jax.training.offline import train_offline
from iql_jax.training.population import Layout
from iql_jax.training.problem import load_problem
from iql_jax.training.run_directory import RunOptions
from tests.training.small_runs import stored_arrays

TASKS = ("Left-v0", "Right-v0")
CONFIG = RunConfig(
    env_name="Both-v0",
    hidden_dims=(8, 8),
    discount=0.0,
    batch_size=32,
    actor_lr=1e-2,
    critic_lr=1e-2,
    value_lr=1e-2,
    target_update_rate=0.5,
    opt_decay_schedule="none",
    max_steps=150,
    log_interval=50,
    eval_interval=150,
    eval_episodes=2,
)
ALONE = dataclasses.replace(CONFIG, env_name="Right-v0")


class Push(gymnasium.Env):
    """Three steps that earn the action, or its negative."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, sign):
        self.sign = sign

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample() * 0.0, {}

    def step(self, action):
        self.t += 1
        reward = self.sign * float(action[0])
        return np.zeros(2, np.float32), reward, False, self.t == 3, {"success": reward > 0.1}


def both_tasks() -> RawDataset:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.5, 0.5, (200, 1)).astype(np.float32)
    masks = np.float32(rng.random(200) < 0.9)
    outcomes = np.stack([np.c_[-actions, masks], np.c_[actions, 1 - masks]])
    observations = rng.normal(size=(2, 200, 2)).astype(np.float32)
    return RawDataset(
        name="Both-v0",
        source="made for a test",
        observations=observations[0],
        actions=actions,
        rewards=outcomes[0, :, 0],
        masks=outcomes[0, :, 1],
        next_observations=observations[1],
        ends=np.arange(200) % 10 == 9,
        env_name="Both-v0",
        tasks=TASKS,
        outcomes=outcomes,
    )


@pytest.fixture(scope="module", autouse=True)
def both():
    """The two tasks where data and environments are looked up."""
    raw = both_tasks()
    known = {"Both-v0": raw} | {name: raw.of_task(k) for k, name in enumerate(TASKS)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda name: known[name])
        patch.setattr(data, "tasks", lambda name: known[name].tasks if name in known else ())
        for name, sign in zip(TASKS, (-1.0, 1.0), strict=True):
            spec = EnvSpec(name, Push, max_episode_steps=3, kwargs={"sign": sign})
            patch.setitem(gymnasium.registry, name, spec)
        yield raw


def train(config, path, seed=4, **options):
    members = plan_members(config, seed, 1)
    assert train_offline(config, members, RunOptions(str(path), **options)) == 0
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return train(CONFIG, tmp_path_factory.mktemp("tasks") / "both")


def assert_equal_member(one, member, other):
    """Asserts that a member's arrays of one run are all that the other run has, bit for bit."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array[member].tobytes() == other[name][0].tobytes(), name


def test_there_is_a_member_for_each_task_and_seed():
    assert plan_members(CONFIG, 3, 2) == [
        *(Member(seed, {"task": 1}) for seed in (3, 4)),
        *(Member(seed, {"task": 2}) for seed in (3, 4)),
    ]
    swept = plan_members(CONFIG, 0, 1, "expectile=0.7,0.9")
    assert [dict(member.overrides) for member in swept] == [
        {"task": task, "expectile": expectile} for task in (1, 2) for expectile in (0.7, 0.9)
    ]
    assert plan_members(ALONE, 3, 1) == [Member(3, {})]


def test_each_task_is_trained_as_if_it_were_alone(run_dir, tmp_path):
    alone = train(ALONE, tmp_path / "alone")
    assert_equal_member(stored_arrays(run_dir), 1, stored_arrays(alone))


def test_each_member_is_evaluated_in_its_own_task(run_dir):
    scores = evaluate_run(str(run_dir))
    assert [row["task"] for row in scores.rows()] == [1, 2]
    assert scores.score_meaning == "success rate (%)"
    np.testing.assert_array_equal(scores.evaluation.success, True)
    second = evaluate_run(str(run_dir), member=1)
    np.testing.assert_array_equal(second.evaluation.returns[0], scores.evaluation.returns[1])
    crossed = evaluate_run(str(run_dir), env_name="Left-v0")
    np.testing.assert_array_equal(crossed.evaluation.success, [[True] * 2, [False] * 2])


def test_reports_tell_tasks_apart(run_dir):
    results = json.loads((run_dir / "results.json").read_text())
    assert [part["overrides"] for part in results["parts"]] == [{"task": 1}, {"task": 2}]
    assert [part["last"]["mean"] for part in results["parts"]] == [100.0, 100.0]
    text = book.results_book(runs.find_runs([run_dir]))
    assert "| Left-v0 | iql |" in text and "| Right-v0 | iql |" in text
    assert "| Both-v0 |" not in text
    record = json.loads((run_dir / "record.json").read_text())
    left, right = record["dataset"]["tasks"]
    assert (left["name"], right["name"]) == TASKS
    assert left["behaviour_return"] == -right["behaviour_return"] != 0


@pytest.mark.slow
def test_tasks_from_the_host_and_after_a_break_are_the_same(run_dir, tmp_path):
    whole = stored_arrays(run_dir)
    hosted = stored_arrays(train(CONFIG, tmp_path / "host", data_location="host"))
    short = dataclasses.replace(CONFIG, max_steps=100)
    train(short, tmp_path / "broken")
    broken = stored_arrays(train(CONFIG, tmp_path / "broken", resume="must"))
    for name, array in whole.items():
        assert array.tobytes() == hosted[name].tobytes() == broken[name].tobytes(), name


def test_members_of_several_tasks_advance_together():
    raw = both_tasks()
    agent = agents.get("iql")
    config = agent.make_config(CONFIG.settings(), 2, 1)
    hyper = population.stack_hyperparameters(3 * [agent.make_hyperparameters(CONFIG.settings())])
    mesh = Mesh(np.array(jax.devices()[:1]), ("members",))
    results = []
    for vectorized in (False, True):
        layout, keys = Layout(mesh, vectorized), population.member_keys([0, 1, 2])
        states = population.init_many(agent, config, layout, hyper, keys[0])
        rows = (replay.pack(raw), np.int32(200))
        states, *_ = population.update_many(
            agent, config, layout, states, keys[1], *rows,
            batch_size=8, num_updates=3, tasks=np.array([1, 0, 1], np.int32),
        )  # fmt: skip
        results.append((states.policy.params, states.critic.q.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *results)


def test_what_tasks_cannot_share_is_refused():
    with pytest.raises(InputError, match=r"2 tasks, and finetuning acts in one: name it, as Left"):
        load_problem(dataclasses.replace(CONFIG, online=OnlineConfig()))
    with pytest.raises(InputError, match=r"each evaluated in its own environment"):
        load_problem(dataclasses.replace(CONFIG, dataset="Both-v0", env_name="Left-v0"))
    with pytest.raises(InputError, match=r"'Right-v0' \(x .*train them one by one"):
        load_problem(dataclasses.replace(CONFIG, reward_transform="unit_range"))
