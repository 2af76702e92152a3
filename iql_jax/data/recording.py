"""Datasets written from a Gymnasium loop, in the layout that `file/...` reads."""

import pathlib
from typing import Any

import gymnasium
import numpy as np

from iql_jax.errors import InputError

_SUFFIXES = (".npz", ".hdf5")


class Recorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Plays like the environment it wraps, and remembers every step.

        env = Recorder(gymnasium.make("Pendulum-v1"))
        ...                                  # any loop of reset and step
        env.save("mine.npz")

    Observations and actions become flat rows, choices one-hot ones. An episode that is left by
    `reset` before its end is a fragment, which ends where it was left.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._rows: list[tuple[np.ndarray, Any, float, bool, bool, np.ndarray]] = []
        self._observation: np.ndarray | None = None

    @property
    def num_steps(self) -> int:
        """How many steps are remembered."""
        return len(self._rows)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        self._observation = self._flat(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        following = self._flat(observation)
        assert self._observation is not None, "step before reset"
        row = (self._observation, action, float(reward), bool(terminated), bool(truncated))
        self._rows.append((*row, following))
        self._observation = following
        return observation, reward, terminated, truncated, info

    def _flat(self, observation: Any) -> np.ndarray:
        from iql_jax.envs.flatten import flatten_row

        return flatten_row(self.env.observation_space, observation).astype(np.float32)

    def save(self, path: str | pathlib.Path) -> pathlib.Path:
        """Writes all steps so far to `path`, `.npz` or `.hdf5`, and returns it.

        Raises:
          InputError: nothing is remembered, or the path ends in something else.
        """
        path = pathlib.Path(path).expanduser()
        if path.suffix not in _SUFFIXES:
            raise InputError(f"{path}: a dataset's name ends in {' or '.join(_SUFFIXES)}")
        if not self._rows:
            raise InputError(f"{path}: nothing to save yet; step the environment first")
        observations, actions, rewards, terminals, timeouts, following = zip(
            *self._rows, strict=True
        )
        arrays = {
            "observations": np.stack(observations),
            "actions": self._actions(actions),
            "rewards": np.array(rewards, np.float32),
            "terminals": np.array(terminals),
            "timeouts": np.array(timeouts),
            "next_observations": np.stack(following),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            np.savez(path, **arrays)  # type: ignore[arg-type]
        else:
            import h5py

            with h5py.File(path, "w") as file:
                for key, array in arrays.items():
                    file[key] = array
        return path

    def _actions(self, actions: tuple[Any, ...]) -> np.ndarray:
        space = self.env.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            choices = np.array(actions, np.int64).reshape(-1) - int(space.start)
            return np.eye(int(space.n), dtype=np.float32)[choices]
        return np.stack(actions).reshape(len(actions), -1).astype(np.float32)
