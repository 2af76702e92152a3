"""Evaluation: exactly N episodes per member, seeded apart from training."""

from types import SimpleNamespace

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax import agents
from iql_jax.config import RunConfig
from iql_jax.data import transforms
from iql_jax.errors import InputError
from iql_jax.training import evaluation, loop, population
from iql_jax.training.problem import Problem, Transforms


class Countdown(gymnasium.Env):
    """Pays the action each step; ends after a number of steps drawn at reset, at most 6."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    max_episode_steps = 6
    resets: list = []  # noqa: RUF012 - shared by all instances on purpose: counts episodes

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 7))
        Countdown.resets.append(seed)
        return np.array([self.left, 0.0], np.float32), {}

    def step(self, action):
        self.left -= 1
        reached = self.left == 0
        observation = np.array([self.left, 0.0], np.float32)
        return observation, float(action[0]), reached, False, {"success": reached}


class constant:
    """An agent whose action is its one parameter, whatever it sees."""

    @staticmethod
    def sample_actions(config, state, observations, key, *, temperature):
        return jnp.broadcast_to(state["action"], (observations.shape[0], 1))


def problem(action=None):
    one = np.ones(1, np.float32)
    fitted = Transforms(
        reward=transforms.RewardTransform("minus_one", 1.0, -1.0),
        observation=transforms.ObservationTransform(
            "none", np.zeros(2, np.float32), np.ones(2, np.float32)
        ),
        action=action or transforms.ActionTransform("none", -one, one),
    )
    made = Problem(np.zeros((1, 7), np.float32), 2, 1, fitted, {}, "Countdown", True)
    object.__setattr__(made, "make_env", Countdown)
    return made


def evaluator(seeds, num_episodes, **kwargs):
    Countdown.resets.clear()
    layout = population.choose_layout(len(seeds))
    return evaluation.Evaluator(
        constant, None, layout, problem(**kwargs), seeds, num_episodes, "float32"
    )


def states(*actions):
    return {"action": jnp.asarray(actions, jnp.float32)[:, None]}


def test_exactly_n_episodes_each_and_rewards_of_the_environment():
    result = evaluator([0, 1], 5)(states(0.5, 0.25), update=100)
    assert len(Countdown.resets) == 10
    assert result.returns.shape == result.lengths.shape == result.success.shape == (2, 5)
    # The environment's own reward, not the transformed one, until its own end.
    np.testing.assert_allclose(result.returns[0], 0.5 * result.lengths[0])
    np.testing.assert_allclose(result.returns[1], 0.25 * result.lengths[1])
    assert result.success.all()
    assert result.lengths.min() >= 1 and result.lengths.max() <= 6
    columns = result.columns()
    np.testing.assert_allclose(columns["success_rate"], [1.0, 1.0])
    np.testing.assert_allclose(columns["score"], [100.0, 100.0])  # no reference returns: success
    assert columns["episodes"] == 5


def test_waves_play_the_same_episodes(monkeypatch):
    together = evaluator([0, 1], 7)(states(1.0, 1.0), update=3)
    monkeypatch.setattr(evaluation, "MAX_ENVS", 4)
    in_waves = evaluator([0, 1], 7)(states(1.0, 1.0), update=3)
    assert len(Countdown.resets) == 14
    np.testing.assert_array_equal(together.lengths, in_waves.lengths)
    np.testing.assert_array_equal(together.returns, in_waves.returns)


def test_episodes_depend_on_seed_and_update_alone():
    first = evaluator([0, 1], 20)(states(1.0, 1.0), update=3)
    again = evaluator([0, 1], 20)(states(1.0, 1.0), update=3)
    later = evaluator([0, 1], 20)(states(1.0, 1.0), update=4)
    alone = evaluator([1], 20)(states(1.0), update=3)
    np.testing.assert_array_equal(first.lengths, again.lengths)
    assert not np.array_equal(first.lengths, later.lengths)
    np.testing.assert_array_equal(first.lengths[1], alone.lengths[0])


def test_actions_are_in_the_environments_units():
    rescale = transforms.ActionTransform(
        "rescale", np.array([0.0], np.float32), np.array([10.0], np.float32)
    )
    result = evaluator([0], 3, action=rescale)(states(0.0), update=0)
    np.testing.assert_allclose(result.returns, 5.0 * result.lengths)


def test_a_stop_ends_an_evaluation_without_a_result():
    asked = []

    def stopped():
        asked.append(True)
        return len(asked) > 2

    assert evaluator([0], 50)(states(0.0), 0, stopped) is None


def test_states_are_not_consumed():
    kept = states(1.0)
    made = evaluator([0], 2)
    made(kept, 0)
    made(kept, 1)
    assert not kept["action"].is_deleted()


@pytest.mark.parametrize("members", [1, 2])
def test_one_policy_call_serves_all(members):
    before = evaluation.act_many._cache_size()
    made = evaluator(list(range(members)), 9)
    made(states(*([0.0] * members)), 0)
    made(states(*([0.0] * members)), 1)
    assert evaluation.act_many._cache_size() == before + 1


class choosing:
    """An agent whose action is its configuration."""

    @staticmethod
    def sample_actions(config, state, observations, key, *, temperature):
        return jnp.full((observations.shape[0], 1), config)

    @staticmethod
    def acting_by(config, num_candidates, acting_rule):
        return num_candidates / 100 if acting_rule is None else acting_rule


def test_other_ways_to_act_play_the_same_episodes():
    made = evaluation.Evaluator(
        choosing, 0.5, population.choose_layout(1), problem(), [3], 10, "float32"
    )
    ways = evaluation.ways_to_act(choosing, 0.5, ["25", "64:0.75"])
    assert ways == {"25": 0.25, "64:0.75": "0.75"}
    own = made(states(0.0), update=2)
    other = made.acting_by(ways["25"])(states(0.0), update=2)
    np.testing.assert_array_equal(own.lengths, other.lengths)
    np.testing.assert_allclose(own.returns, 0.5 * own.lengths)
    np.testing.assert_allclose(other.returns, 0.25 * own.lengths)
    assert 0 < other.acting_seconds < other.wall_seconds


def test_the_configured_way_to_act_is_not_played_twice():
    class Playing:
        def __init__(self, config):
            self.config = config

        def acting_by(self, config):
            return Playing(config)

        def __call__(self, *_, members):
            played.append(self.config)
            return self.config

    played = []
    never = SimpleNamespace(stopped=lambda: False, closing=lambda: False)
    session = SimpleNamespace(
        evaluator=Playing(64),
        setup=SimpleNamespace(agent_config=64, ways_to_act={"16": 16, "64": 64}),
        done=SimpleNamespace(update=1),
        signals=never,
        beside=never,
        alive_here=[0],
    )
    assert loop._evaluate(session, None, None) == {"": 64, "16": 16, "64": 64}
    assert played == [64, 16]


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", ":argmax"])
def test_ways_to_act_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="eval_candidates has"):
        evaluation.ways_to_act(choosing, 0.5, [text])


def test_an_agent_without_candidates_says_so():
    with pytest.raises(InputError, match="candidates are drawn by the agent idql alone"):
        evaluation.ways_to_act(agents.get("iql"), None, ["16"])


def test_a_rule_that_is_none_is_refused():
    config = agents.get("idql").make_config(RunConfig(agent="idql").settings(), 3, 2)
    with pytest.raises(InputError, match="acting_rule is 'best', but must be one of argmax"):
        evaluation.ways_to_act(agents.get("idql"), config, ["16:best"])
    with pytest.raises(InputError, match="num_candidates is 0"):
        evaluation.ways_to_act(agents.get("idql"), config, ["0"])
