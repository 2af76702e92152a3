"""The environments that members act in while they learn: one each, stepped in lockstep."""

from typing import Any

import numpy as np

from iql_jax.envs.lockstep import Lockstep
from iql_jax.training.plain import from_plain, to_plain
from iql_jax.training.problem import Problem

_KEPT = ("observations", "returns", "success", "finished", "num_episodes", "num_failures")

# The environments of training draw from streams that neither training nor evaluation uses.
_STREAM = 0x0E75


class ActingEnvironments:
    """P environments, one per member, their episodes following each other.

    Attributes:
      observations: f32[P, O], transformed, as they are now.
      returns: f64[P], of the episodes so far, in the environment's own rewards.
      success: bool[P], whether the episode has reached the goal.
      finished: the episodes that ended since `take_finished`: (member, return, success).
      num_episodes: i64[P], episodes that ended since the start.
      num_failures: i64[P], of those, how many never reached the goal: the regret of a goal task.
    """

    def __init__(self, problem: Problem, seeds: list[int]):
        """Makes the environments and starts an episode in each, seeded by its member's seed."""
        self._problem = problem
        self._envs = Lockstep(problem.make_env, len(seeds))
        starts = [np.random.SeedSequence([_STREAM, seed]).generate_state(1)[0] for seed in seeds]
        first = self._envs.reset([int(start) >> 1 for start in starts])
        self.observations = problem.transforms.observation(first)
        self.returns = np.zeros(len(seeds))
        self.success = np.zeros(len(seeds), bool)
        self.finished: list[tuple[int, float, bool]] = []
        self.num_episodes = np.zeros(len(seeds), np.int64)
        self.num_failures = np.zeros(len(seeds), np.int64)

    @property
    def resumable(self) -> bool:
        """Whether the environments can save their state."""
        return self._envs.can_save

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Takes a step in every environment and returns the transitions, rows f32[P, W].

        They are what the dataset's are: transformed, and cut off from the next value only where
        the task ended, not at a time limit. Episodes that ended start anew.

        Args:
          actions: f32[P, A] in [-1, 1].
        """
        transforms = self._problem.transforms
        result = self._envs.step(transforms.action.to_env(actions))
        observations = transforms.observation(result.observations)
        rows = np.concatenate(
            (
                self.observations,
                actions,
                observations,
                transforms.reward(result.rewards)[:, None],
                ~result.terminated[:, None],
            ),
            axis=1,
        )
        self.returns += result.rewards
        self.success |= result.success
        ended = result.terminated | result.truncated
        if ended.any():
            self._count(ended)
            # Each goes on with its own stream of random numbers.
            observations = transforms.observation(self._envs.reset_where(ended))
        self.observations = observations
        return rows

    def _count(self, ended: np.ndarray) -> None:
        for member in np.flatnonzero(ended).tolist():
            self.finished.append((member, float(self.returns[member]), bool(self.success[member])))
        self.num_episodes += ended
        self.num_failures += ended & ~self.success
        self.returns[ended] = 0.0
        self.success[ended] = False

    def take_finished(self) -> dict[str, np.ndarray]:
        """Returns means f64[P] over the episodes since the last call; NaN where none ended."""
        members = np.arange(len(self.returns))
        episodes = [[e for e in self.finished if e[0] == member] for member in members]
        self.finished = []

        def mean(column: int) -> np.ndarray:
            return np.array([np.mean([e[column] for e in es]) if es else np.nan for es in episodes])

        row = {"online/return": mean(1), "online/episodes": self.num_episodes.astype(np.float64)}
        if self._problem.reports_success:
            row["online/success_rate"] = mean(2)
            # The share of all episodes so far that failed: what learning by acting has cost.
            row["online/regret"] = self.num_failures / np.maximum(self.num_episodes, 1)
        return row

    def get_state(self) -> dict[str, Any]:
        """Returns everything as JSON can hold it; `set_state` goes on from it bit for bit.

        Raises:
          InputError: the environments cannot save their state.
        """
        return to_plain({name: getattr(self, name) for name in _KEPT} | self._envs.get_state())

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from what `get_state` returned."""
        values = from_plain(state)
        for name in _KEPT:
            setattr(self, name, values.pop(name))
        self._envs.set_state(values)

    def close(self) -> None:
        """Closes the environments."""
        self._envs.close()
