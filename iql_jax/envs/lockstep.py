"""Many environments of one kind advanced together, one policy call for all of them."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np

from iql_jax.envs.spaces import check_spaces, env_label
from iql_jax.envs.threads import Pace, Team
from iql_jax.errors import InputError


class StepResult(NamedTuple):
    """What a step gave, row i from environment i.

    Attributes:
      observations: f32[N, O].
      rewards: f64[N].
      terminated: bool[N]; the task ended.
      truncated: bool[N]; the time limit was reached.
      success: bool[N]; the goal is reached now. Always False for tasks without one.
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray


def _available_cores() -> int:
    """The cores this process may use, where the system tells; else those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _uses_mujoco(env: gymnasium.Env) -> bool:
    return isinstance(getattr(env.unwrapped, "model", None), mujoco.MjModel)


def _time_limit(env: gymnasium.Env) -> int:
    """The number of steps after which an episode of `env` is cut."""
    limit = getattr(env.unwrapped, "max_episode_steps", None)
    if limit is None and env.spec is not None:
        limit = env.spec.max_episode_steps
    if limit is None:
        raise InputError(
            f"environment {env_label(env)!r} has no time limit, so an episode may never end; "
            "register it with max_episode_steps"
        )
    return int(limit)


class Lockstep:
    """N environments, each with its own seed, stepped together.

    Nothing restarts by itself: an environment whose episode has ended is left out of the following
    steps by the caller's `active`, so that exactly N episodes, one each, are played. The numbers do
    not depend on the number of threads.

    Attributes:
      num_envs: N.
      num_threads: the most threads that step environments, the calling one included.
      observation_dim, action_dim: O and A.
      action_low, action_high: f32[A], the bounds of the action space.
      max_episode_steps: the time limit.
    """

    def __init__(
        self,
        make_env: Callable[[], gymnasium.Env] | Sequence[Callable[[], gymnasium.Env]],
        num_envs: int,
        num_threads: int | None = None,
    ):
        """Makes `num_envs` environments.

        Args:
          make_env: makes one, or one function for each; all must be of one kind.
          num_envs: N.
          num_threads: None takes one, or for MuJoCo, whose physics runs outside the interpreter
            lock, as many as there are cores where the first steps show that to be faster.

        Raises:
          InputError: a count below 1, spaces that are not flat boxes, or no time limit.
        """
        for name, count in (("num_envs", num_envs), ("num_threads", num_threads)):
            if count is not None and count < 1:
                raise InputError(f"{name} is {count}; give at least 1")
        makers = num_envs * [make_env] if callable(make_env) else make_env
        self._envs = [make() for make in makers]
        first = self._envs[0]
        check_spaces(first)
        self.num_envs = num_envs
        self.max_episode_steps = _time_limit(first)
        self.observation_dim = first.observation_space.shape[0]  # type: ignore[index]
        self.action_dim = first.action_space.shape[0]  # type: ignore[index]
        self.action_low = np.asarray(first.action_space.low, np.float32)  # type: ignore[attr-defined]
        self.action_high = np.asarray(first.action_space.high, np.float32)  # type: ignore[attr-defined]
        most_threads = num_threads
        if most_threads is None:
            most_threads = _available_cores() if _uses_mujoco(first) else 1
        self.num_threads = min(most_threads, num_envs)
        self._team = Team(self.num_threads)
        self._pace = Pace(self.num_threads, measure=num_threads is None)
        self._everyone = list(range(num_envs))
        self._last = StepResult(
            observations=np.zeros((num_envs, self.observation_dim), np.float32),
            rewards=np.zeros(num_envs),
            terminated=np.zeros(num_envs, bool),
            truncated=np.zeros(num_envs, bool),
            success=np.zeros(num_envs, bool),
        )
        self._started = np.zeros(num_envs, bool)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Starts an episode in each environment, seeded, and returns observations f32[N, O]."""
        self._pace.restart()
        return self.reset_where(np.ones(self.num_envs, bool), seeds)

    def reset_where(self, mask: np.ndarray, seeds: Sequence[int] | None = None) -> np.ndarray:
        """Starts an episode in the environments of `mask` and returns observations f32[N, O].

        Args:
          mask: bool[N]; the others stay as they are, and so do their rows.
          seeds: one per environment, N of them, used where `mask` is True; None goes on with each
            environment's own stream of random numbers.
        """
        mask = self._per_env(mask, "mask")
        if seeds is not None and len(seeds) != self.num_envs:
            raise InputError(f"{len(seeds)} seeds for {self.num_envs} environments; give one each")
        last = self._last

        def reset_one(i: int) -> None:
            seed = None if seeds is None else int(seeds[i])
            last.observations[i] = self._envs[i].reset(seed=seed)[0]
            last.rewards[i] = 0.0
            last.terminated[i] = last.truncated[i] = last.success[i] = False

        self._team.run(reset_one, np.flatnonzero(mask).tolist(), self._pace.num_threads())
        self._started |= mask
        return last.observations.copy()

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> StepResult:
        """Steps the environments of `active` and returns new arrays for all N.

        Args:
          actions: f32[N, A] in the environments' units.
          active: bool[N]; the others are not stepped and their rows repeat the last values. None
            steps all.
        """
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs, self.action_dim):
            raise InputError(
                f"actions have shape {actions.shape}, expected {(self.num_envs, self.action_dim)}"
            )
        if active is None:
            indices, started = self._everyone, self._started
        else:
            indices = np.flatnonzero(self._per_env(active, "active")).tolist()
            started = self._started[indices]
        if not started.all():
            raise InputError("environments are stepped before their first reset; call reset(seeds)")
        envs, last = self._envs, self._last

        def step_one(i: int) -> None:
            observation, reward, terminated, truncated, info = envs[i].step(actions[i])
            last.observations[i] = observation
            last.rewards[i] = reward
            last.terminated[i] = terminated
            last.truncated[i] = truncated
            last.success[i] = info.get("success", False)

        num_threads, start = self._pace.num_threads(), time.perf_counter()
        self._team.run(step_one, indices, num_threads)
        if len(indices) == self.num_envs:
            self._pace.record(num_threads, time.perf_counter() - start)
        return StepResult(*(array.copy() for array in last))

    @property
    def can_save(self) -> bool:
        """Whether `get_state` works: the environments can tell their state."""
        first: Any = self._envs[0]
        return hasattr(first, "get_state") and hasattr(first, "set_state")

    def get_state(self) -> dict[str, Any]:
        """Returns where all environments are, exactly, as picklable values.

        Raises:
          InputError: the environments cannot tell their state; those made by this package can.
        """
        first: Any = self._envs[0]
        if not self.can_save:
            raise InputError(
                f"environment {env_label(first)!r} cannot save its state; environments of D4RL "
                "and generated/... names can"
            )
        return {
            "envs": [env.get_state() for env in self._envs],  # type: ignore[attr-defined]
            "last": tuple(array.copy() for array in self._last),
            "started": self._started.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues bit for bit from what `get_state` returned, here or in another process."""
        if len(state["envs"]) != self.num_envs:
            raise InputError(
                f"the saved state is of {len(state['envs'])} environments, this has {self.num_envs}"
            )
        for env, env_state in zip(self._envs, state["envs"], strict=True):
            env.set_state(env_state)  # type: ignore[attr-defined]
        for array, saved in zip(self._last, state["last"], strict=True):
            array[:] = saved
        self._started[:] = state["started"]

    def close(self) -> None:
        """Ends the threads and closes the environments; may be called again."""
        self._team.close()
        for env in self._envs:
            env.close()

    def _per_env(self, flags: np.ndarray, name: str) -> np.ndarray:
        flags = np.asarray(flags)
        if flags.shape != (self.num_envs,) or flags.dtype != bool:
            raise InputError(
                f"{name} is {flags.dtype}{list(flags.shape)}, expected bool[{self.num_envs}]"
            )
        return flags
