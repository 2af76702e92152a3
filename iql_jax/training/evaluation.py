"""Evaluation: all members' environments in lockstep, one policy call per step for all of them."""

import copy
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.agents import Agent
from iql_jax.envs import scores
from iql_jax.envs.lockstep import Lockstep
from iql_jax.errors import InputError
from iql_jax.training.population import Layout, choose_layout, over_members
from iql_jax.training.problem import Problem

# Environments alive at once; further episodes are played in further waves.
MAX_ENVS = 1024

# Called with observations f32[P, n, O] and played bool[P, n] at the start of the first wave of
# episodes and after each of its steps.
Watch = Callable[[np.ndarray, np.ndarray], None]

# Evaluation draws from streams of its own, so that it can never change training.
_STREAM = 0xE7A1


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What P members' policies achieved in E episodes each.

    Attributes:
      returns: f64[P, E], undiscounted sums of the environment's own rewards.
      lengths: i64[P, E], in environment steps.
      success: bool[P, E], whether the goal was ever reached; None for tasks without one.
      env_name: the environment.
      wall_seconds: how long it took, all members together.
      acting_seconds: how much of that the policy took.
    """

    returns: np.ndarray
    lengths: np.ndarray
    success: np.ndarray | None
    env_name: str
    wall_seconds: float
    acting_seconds: float

    def columns(self) -> dict[str, Any]:
        """Returns the means over episodes, f64[P] by the names of `evaluations.csv`."""
        mean_return = self.returns.mean(axis=1)
        success_rate = None if self.success is None else self.success.mean(axis=1)
        score = scores.normalized_score(self.env_name, mean_return)
        if score is None and success_rate is not None:
            score = 100.0 * success_rate
        return {
            "episodes": self.returns.shape[1],
            "return_mean": mean_return,
            "return_std": self.returns.std(axis=1),
            "score": score,
            "success_rate": success_rate,
            "length_mean": self.lengths.mean(axis=1),
            "wall_seconds": self.wall_seconds,
        }


def join_evaluations(
    shares: Sequence[dict[str, Evaluation] | None],
) -> dict[str, Evaluation] | None:
    """Returns the evaluations of all members, by way to act, from those of each process's members.

    None if one was interrupted.
    """
    whole = [share for share in shares if share is not None]
    if len(whole) < len(shares):
        return None
    return {name: _join([share[name] for share in whole]) for name in whole[0]}


def _join(parts: Sequence[Evaluation]) -> Evaluation:
    success = [part.success for part in parts if part.success is not None]
    return Evaluation(
        returns=np.concatenate([part.returns for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        success=np.concatenate(success) if success else None,
        env_name=parts[0].env_name,
        wall_seconds=max(part.wall_seconds for part in parts),
        acting_seconds=max(part.acting_seconds for part in parts),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2), static_argnames="precision")
def act_many(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Any,
    observations: jax.Array,
    keys: jax.Array,
    temperature: jax.Array,
    *,
    precision: str,
) -> jax.Array:
    """Returns actions f32[P, B, A] in [-1, 1] of P members, each on its own observations.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live.
      states: states of P members.
      observations: f32[P, B, O], transformed.
      keys: key[P].
      temperature: f32[]; 0 for evaluation.
      precision: of matrix products, a name of `jax.default_matmul_precision`.
    """

    def act(member: tuple[Any, jax.Array, jax.Array], temperature: jax.Array) -> jax.Array:
        state, observations, key = member
        return agent.sample_actions(config, state, observations, key, temperature=temperature)

    with jax.default_matmul_precision(precision):
        return over_members(act, layout, (states, observations, keys), temperature)


class Evaluator:
    """Plays exactly E episodes per member with environments that training never touches."""

    def __init__(
        self,
        agent: Agent,
        config: Any,
        layout: Layout,
        problem: Problem,
        seeds: Sequence[int],
        num_episodes: int,
        precision: str,
        tasks: Sequence[int | None] | None = None,
    ):
        """Makes the environments.

        Args:
          agent: the agent's module.
          config: its static configuration.
          layout: where members act.
          problem: names the environment and the transforms.
          seeds: the seed of each member.
          num_episodes: E.
          precision: of matrix products.
          tasks: each member's, where they differ in it.
        """
        assert problem.env_name is not None
        self._agent, self._precision = agent, precision
        self._act = functools.partial(act_many, agent, config, layout, precision=precision)
        self._acting_seconds = 0.0
        self._layout, self._problem, self._seeds = layout, problem, list(seeds)
        self._env_name = problem.env_name
        self.num_episodes = num_episodes
        self._per_wave = min(num_episodes, max(1, MAX_ENVS // len(seeds)))
        makers = [
            problem.make_env if task is None else functools.partial(problem.make_env, task)
            for task in tasks or [None] * len(seeds)
            for _ in range(self._per_wave)
        ]
        self._envs = Lockstep(makers, len(makers))

    def acting_by(self, config: Any) -> "Evaluator":
        """Returns an evaluator in the same environments that acts by another configuration.

        Args:
          config: a static configuration for the same states, of the agent's `acting_by`.
        """
        other = copy.copy(self)
        other._act = functools.partial(
            act_many, self._agent, config, self._layout, precision=self._precision
        )
        return other

    def _placed(self, states: Any) -> Any:
        """Returns the states where members act, which may be other devices than they train on."""
        return jax.device_put(states, self._layout.members(len(self._seeds)))

    def __call__(
        self,
        states: Any,
        update: int,
        stopped: Callable[[], bool] = lambda: False,
        watch: Watch | None = None,
        members: Sequence[int] | None = None,
    ) -> Evaluation | None:
        """Returns the evaluation of these states, or None if `stopped` became true meanwhile.

        The episodes' seeds are a function of the member's seed and the update.

        Args:
          states: states of P members; not changed.
          update: the number of updates done, which the episodes' seeds depend on.
          stopped: asked at every step.
          watch: shown the first wave of episodes as they go.
          members: those who play, where some are no longer fit to; the others score 0.
        """
        start, self._acting_seconds = time.perf_counter(), 0.0
        states = self._placed(states)
        seeds, keys = self._streams(update)
        plays = np.isin(
            np.arange(len(self._seeds)), range(len(seeds)) if members is None else members
        )
        waves = []
        for first in range(0, self.num_episodes, self._per_wave):
            wave_seeds = seeds[:, first : first + self._per_wave]
            wave = self._play(states, wave_seeds, keys, plays, stopped, watch)
            if wave is None:
                return None
            waves.append(wave)
            watch = None
        returns, lengths, success = (np.concatenate(x, axis=1) for x in zip(*waves, strict=True))
        return Evaluation(
            returns=returns,
            lengths=lengths,
            success=success if self._problem.reports_success else None,
            env_name=self._env_name,
            wall_seconds=time.perf_counter() - start,
            acting_seconds=self._acting_seconds,
        )

    def _streams(self, update: int) -> tuple[np.ndarray, jax.Array]:
        """Returns the episodes' seeds u32[P, E] and each member's key for noise: key[P]."""
        sequences = [np.random.SeedSequence([_STREAM, seed, update]) for seed in self._seeds]
        words = np.stack([s.generate_state(self.num_episodes + 1) for s in sequences])
        keys = jax.vmap(jax.random.key)(jnp.asarray(words[:, 0]))
        # Gymnasium wants seeds below 2**31.
        return words[:, 1:] >> 1, jax.device_put(keys, self._layout.members(len(self._seeds)))

    def _play(
        self,
        states: Any,
        seeds: np.ndarray,
        keys: jax.Array,
        plays: np.ndarray,
        stopped: Callable[[], bool],
        watch: Watch | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Returns returns, lengths and success [P, n] of one episode for each seed u32[P, n]."""
        num_members, num_episodes = seeds.shape
        shape = (num_members, self._per_wave)
        active = np.zeros(shape, bool)
        active[plays, :num_episodes] = True
        all_seeds = np.zeros(shape, np.int64)
        all_seeds[:, :num_episodes] = seeds
        observations = self._envs.reset_where(active.ravel(), all_seeds.ravel().tolist())
        returns = np.zeros(shape)
        lengths = np.zeros(shape, np.int64)
        success = np.zeros(shape, bool)
        step = 0
        if watch is not None:
            watch(observations.reshape(*shape, -1), active)
        while active.any():
            if stopped():
                return None
            actions = self._actions(states, observations.reshape(*shape, -1), keys, step)
            result = self._envs.step(actions, active.ravel())
            observations = result.observations
            returns += np.where(active, result.rewards.reshape(shape), 0.0)
            lengths += active
            success |= active & result.success.reshape(shape)
            if watch is not None:
                watch(observations.reshape(*shape, -1), active)
            active &= ~(result.terminated | result.truncated).reshape(shape)
            step += 1
        return tuple(x[:, :num_episodes] for x in (returns, lengths, success))  # type: ignore[return-value]

    def _actions(
        self, states: Any, observations: np.ndarray, keys: jax.Array, step: int
    ) -> np.ndarray:
        """Returns the environments' actions f32[P * n, A] for observations f32[P, n, O]."""
        start = time.perf_counter()
        transforms = self._problem.transforms
        step_keys = _fold(keys, step)
        actions = self._act(
            states, transforms.observation(observations), step_keys, np.float32(0.0)
        )
        flat = np.asarray(actions).reshape(-1, actions.shape[-1])
        self._acting_seconds += time.perf_counter() - start
        return transforms.action.to_env(flat)

    def episode(
        self, states: Any, update: int, member: int
    ) -> tuple[int, Callable[[np.ndarray, int], np.ndarray]]:
        """Returns the seed of the first episode of a member's evaluation, and how it acts in it.

        Args:
          states: states of P members.
          update: the number of updates done.
          member: whose episode.

        The policy takes an observation f32[O] and the step, and returns the environment's action
        f32[A].
        """
        states = self._placed(states)
        seeds, keys = self._streams(update)

        def act(observation: np.ndarray, step: int) -> np.ndarray:
            everyone = np.broadcast_to(observation, (len(self._seeds), 1, len(observation)))
            return self._actions(states, everyone, keys, step)[member]

        return int(seeds[member, 0]), act

    def close(self) -> None:
        """Closes the environments."""
        self._envs.close()


def acting_layout(agent: Agent, layout: Layout, num_members: int) -> Layout:
    """Returns where members act in evaluations, given where they live.

    The host steps the environments. A policy of one small pass acts there too: it answers as fast
    as an accelerator would, which is left to training.

    Args:
      agent: the agent's module.
      layout: where members live.
      num_members: P.
    """
    if layout.platform == "cpu" or not agent.ACTS_IN_ONE_PASS:
        return layout
    try:
        host = jax.local_devices(backend="cpu")
    except RuntimeError:  # JAX_PLATFORMS names the accelerator alone
        return layout
    return choose_layout(num_members, host)


def ways_to_act(agent: Agent, config: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Returns configurations that act in other ways than `config` does, by their text.

    Args:
      agent: the agent's module.
      config: its static configuration.
      texts: a number of candidates, or that with a rule: `64`, `64:implicit`.

    Raises:
      InputError: not of that form, or the agent has no candidates.
    """
    configs = {}
    for text in texts:
        count, _, rule = text.partition(":")
        if not count.isdecimal():
            raise InputError(
                f"eval_candidates has {text!r}, but must be numbers with an optional rule, such as "
                "16,64,64:implicit"
            )
        configs[text] = agent.acting_by(config, int(count), rule or None)
    return configs


@jax.jit
def _fold(keys: jax.Array, step: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, step)
