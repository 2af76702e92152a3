"""Environments with dictionaries, images or choices as vectors of numbers.

Both a dataset's rows and its environment's observations are flattened here, by one rule: the parts
of a dictionary or tuple one after another in the order of the space (Gymnasium sorts keys:
achieved_goal, desired_goal, observation), each as a flat row. A choice is a one-hot row.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from iql_jax.errors import InputError


def num_numbers(space: spaces.Space) -> int:
    """Returns how many numbers a flattened element of `space` has.

    Raises:
      InputError: the space holds what is no vector of real numbers.
    """
    if isinstance(space, spaces.Box):
        return int(np.prod(space.shape))
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return sum(map(num_numbers, _parts(space).values()))
    raise InputError(
        f"a {type(space).__name__} space cannot be flattened; supported: Box, Discrete, and "
        "dictionaries and tuples of them"
    )


def flatten_rows(space: spaces.Space, values: Any) -> np.ndarray:
    """Returns f32[N, O], the rows of N elements of `space` stored part by part.

    Args:
      space: of one element.
      values: an array [N, ...], or a dictionary or tuple of such, as Minari stores episodes.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = _parts(space)
        return np.concatenate([flatten_rows(parts[key], values[key]) for key in parts], axis=1)
    values = np.asarray(values)
    if isinstance(space, spaces.Discrete):
        choices = values.reshape(-1).astype(np.int64) - int(space.start)
        return np.eye(int(space.n), dtype=np.float32)[choices]
    return values.reshape(len(values), -1).astype(np.float32)


def flatten_env(env: gymnasium.Env) -> gymnasium.Env:
    """Returns `env` with vectors for observations and actions, itself where it has them.

    `info["success"]` is there too where the environment calls it `is_success`.

    Raises:
      InputError: a space that cannot be flattened.
    """
    num_numbers(env.observation_space)  # refuses what cannot be flattened
    if _is_vector(env.observation_space) and _is_vector(env.action_space):
        return env
    return _Flat(env)


def takes_choices(env: gymnasium.Env) -> bool:
    """Returns whether the actions of an environment of `envs.make` are one-hot choices."""
    return isinstance(env, _Flat) and isinstance(env.env.action_space, spaces.Discrete)


def _is_vector(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def _parts(space: spaces.Dict | spaces.Tuple) -> dict[Any, spaces.Space]:
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces))


class _Flat(gymnasium.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """Vectors for whatever `env` observes and does."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        size = num_numbers(env.observation_space)
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        action = env.action_space
        if isinstance(action, spaces.Discrete):
            self.action_space = spaces.Box(0.0, 1.0, (int(action.n),), np.float32)
        elif isinstance(action, spaces.Box):
            low, high = action.low.ravel(), action.high.ravel()
            self.action_space = spaces.Box(low, high, dtype=np.float32)
        else:
            raise InputError(
                f"actions in a {type(action).__name__} space are not supported; Box and Discrete "
                "are"
            )

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        return self._observation(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        space = self.env.action_space
        if isinstance(space, spaces.Discrete):
            act: Any = int(space.start) + int(np.argmax(action))
        else:
            act = np.asarray(action).reshape(space.shape)
        observation, reward, terminated, truncated, info = self.env.step(act)
        if "is_success" in info and "success" not in info:
            info = info | {"success": bool(info["is_success"])}
        return self._observation(observation), float(reward), terminated, truncated, info

    def _observation(self, observation: Any) -> np.ndarray:
        return flatten_row(self.env.observation_space, observation)


def flatten_row(space: spaces.Space, value: Any) -> np.ndarray:
    """Returns f64[O], one element of `space` as numbers."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = _parts(space)
        return np.concatenate([flatten_row(parts[key], value[key]) for key in parts])
    if isinstance(space, spaces.Discrete):
        row = np.zeros(int(space.n))
        row[int(value) - int(space.start)] = 1.0
        return row
    return np.asarray(value, np.float64).ravel()
