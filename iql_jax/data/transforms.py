"""Named transforms of rewards, observations and actions, fitted on a dataset and used online too.

They are named in the configuration, never guessed from a dataset's name. Each is a small frozen
record of numbers: `to_dict` and `from_dict` put it in a run's record and take it out again.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from iql_jax.data.raw import RawDataset, row_chunks
from iql_jax.errors import InputError, did_you_mean

REWARD_NAMES = ("none", "minus_one", "return_range_1000", "unit_range")
OBSERVATION_NAMES = ("none", "standardize", "auctionnet")
ACTION_NAMES = ("none", "rescale", "rescale_quantile")

# The authors clip dataset actions to +-(1 - 1e-5), so that arctanh and log-probs stay finite.
ACTION_LIMIT = np.float32(1.0 - 1e-5)
# How far a stored action may lie outside its bounds before it is an error, in units of half the
# range: more than float32 rounding, less than anything that could matter.
_ACTION_TOLERANCE = 1e-5
# Added to the standard deviation, as in TD3+BC and CORL: constant dimensions do not blow up.
_STD_EPS = 1e-3
# Where `rescale_quantile` bounds actions that the environment does not.
_QUANTILES = (0.01, 0.99)
# AuctionNet's volumes of impressions, the only numbers of its state that are not of order 1, and
# what it adds to their range.
_AUCTION_VOLUMES, _AUCTION_DIM, _AUCTION_EPS = slice(13, 16), 16, 0.01


@dataclasses.dataclass(frozen=True)
class RewardTransform:
    """`rewards * scale + shift`."""

    name: str
    scale: float
    shift: float

    def __call__(self, rewards: np.ndarray) -> np.ndarray:
        """Return f32[N], the transformed rewards."""
        rewards = np.asarray(rewards, np.float32)
        if self.name == "none":
            return rewards
        return rewards * np.float32(self.scale) + np.float32(self.shift)

    def to_dict(self) -> dict[str, Any]:
        """Return the transform as a dictionary that JSON can store."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "RewardTransform":
        """Return the transform that `to_dict` recorded."""
        return cls(**record)


@dataclasses.dataclass(frozen=True, eq=False)
class ObservationTransform:
    """`(observations - mean) / std`, with `mean` and `std` f32[O]."""

    name: str
    mean: np.ndarray
    std: np.ndarray

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return f32[..., O], the transformed observations; the same array for `none`."""
        observations = np.asarray(observations, np.float32)
        if self.name == "none":
            return observations
        result = observations - self.mean
        result /= self.std
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return the transform as a dictionary that JSON can store."""
        return {"name": self.name, "mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ObservationTransform":
        """Return the transform that `to_dict` recorded."""
        return cls(record["name"], *_vectors(record["mean"], record["std"]))


@dataclasses.dataclass(frozen=True, eq=False)
class ActionTransform:
    """A linear map between the environment's actions in [`low`, `high`], f32[A], and [-1, 1]."""

    name: str
    low: np.ndarray
    high: np.ndarray

    def to_unit(self, actions: np.ndarray) -> np.ndarray:
        """Return f32[..., A] in [-(1 - 1e-5), 1 - 1e-5]: what a policy learns from."""
        actions = np.asarray(actions, np.float32)
        if self.name == "none":
            return np.clip(actions, -ACTION_LIMIT, ACTION_LIMIT)
        result = actions - self.low
        result *= np.float32(2.0) / (self.high - self.low)
        result -= np.float32(1.0)
        return np.clip(result, -ACTION_LIMIT, ACTION_LIMIT, out=result)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Return f32[..., A] for the environment, from a policy's actions in [-1, 1]."""
        # Not by np.clip, which takes several times as long for the few numbers of one step.
        actions = np.minimum(np.maximum(np.asarray(actions, np.float32), -1.0), 1.0)
        if self.name == "none":
            return actions
        # Written as a weighted mean, so that -1 and 1 give the bounds themselves.
        weight = (actions + np.float32(1.0)) * np.float32(0.5)
        return (np.float32(1.0) - weight) * self.low + weight * self.high

    def to_dict(self) -> dict[str, Any]:
        """Return the transform as a dictionary that JSON can store."""
        return {"name": self.name, "low": self.low.tolist(), "high": self.high.tolist()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ActionTransform":
        """Return the transform that `to_dict` recorded."""
        return cls(record["name"], *_vectors(record["low"], record["high"]))


def fit_reward(name: str, raw: RawDataset) -> RewardTransform:
    """Return the reward transform `name` for a dataset.

    `none`: rewards as they are. `minus_one`: reward - 1, for AntMaze. `return_range_1000`: reward
    * 1000 / (largest - smallest return over the dataset's episodes and fragments), for locomotion.
    `unit_range`: the dataset's smallest and largest reward onto [0, 1], for AuctionNet.

    Raises:
      InputError: if the name is unknown, or all returns of the dataset are the same.
    """
    _check_name("reward_transform", name, REWARD_NAMES)
    if name == "none":
        return RewardTransform(name, scale=1.0, shift=0.0)
    if name == "minus_one":
        return RewardTransform(name, scale=1.0, shift=-1.0)
    if name == "unit_range":
        low, high = float(raw.rewards.min()), float(raw.rewards.max())
        if low == high:
            raise InputError(
                f"{raw.name}: reward transform 'unit_range' divides by the range of rewards, which "
                f"are all {low:g}; use --config.reward_transform=none"
            )
        return RewardTransform(name, scale=1.0 / (high - low), shift=-low / (high - low))
    returns = episode_returns(raw)
    span = float(returns.max() - returns.min())
    if span <= 0.0:
        raise InputError(
            f"{raw.name}: reward transform 'return_range_1000' divides by the range of episode "
            f"returns, which is 0 ({len(returns)} episode(s), return {returns[0]:g}); use "
            "--config.reward_transform=none"
        )
    return RewardTransform(name, scale=1000.0 / span, shift=0.0)


def fit_observation(name: str, raw: RawDataset) -> ObservationTransform:
    """Return the observation transform `name` for a dataset.

    `none`: observations as they are. `standardize`: zero mean and unit standard deviation over
    the dataset's observations, 1e-3 added to the standard deviation. `auctionnet`: the three
    volumes of AuctionNet's state, (x - min) / (max - min + 0.01) over the dataset's observations.

    Raises:
      InputError: if the name is unknown, or the observations are none of AuctionNet's.
    """
    _check_name("observation_transform", name, OBSERVATION_NAMES)
    width = raw.observations.shape[1]
    if name == "none":
        return ObservationTransform(name, np.zeros(width, np.float32), np.ones(width, np.float32))
    if name == "auctionnet":
        return _fit_auctionnet(raw)
    mean, std = _mean_and_std(raw.observations)
    return ObservationTransform(name, *_vectors(mean, std + _STD_EPS))


def _fit_auctionnet(raw: RawDataset) -> ObservationTransform:
    width = raw.observations.shape[1]
    if width != _AUCTION_DIM:
        raise InputError(
            f"{raw.name}: observation transform 'auctionnet' is for AuctionNet's states of "
            f"{_AUCTION_DIM} numbers, these have {width}; use standardize or none"
        )
    low, scale = np.zeros(width), np.ones(width)
    volumes = raw.observations[:, _AUCTION_VOLUMES]
    low[_AUCTION_VOLUMES] = volumes.min(axis=0)
    scale[_AUCTION_VOLUMES] = volumes.max(axis=0) - low[_AUCTION_VOLUMES] + _AUCTION_EPS
    return ObservationTransform("auctionnet", *_vectors(low, scale))


def fit_action(
    name: str,
    raw: RawDataset,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
) -> ActionTransform:
    """Return the action transform `name` for a dataset.

    `none`: actions must lie in [-1, 1] already. `rescale`: the bounds of the environment are
    mapped onto [-1, 1]; where they are not given or infinite, the dataset's smallest and largest.
    `rescale_quantile`: likewise, but where they are not given or infinite the dataset's 1% and 99%
    quantiles; actions beyond them are clipped.

    Args:
      name: one of `ACTION_NAMES`.
      raw: the dataset.
      low: f32[A], the environment's lower bounds, or None if there is no environment.
      high: f32[A], its upper bounds.

    Raises:
      InputError: if the name is unknown, an action of the dataset lies outside the bounds, or a
        dimension has no range.
    """
    _check_name("action_transform", name, ACTION_NAMES)
    width = raw.actions.shape[1]
    if name == "none":
        transform = ActionTransform(name, -np.ones(width, np.float32), np.ones(width, np.float32))
    else:
        smallest, largest = raw.actions.min(axis=0), raw.actions.max(axis=0)
        if name == "rescale_quantile":
            smallest, largest = np.quantile(raw.actions, _QUANTILES, axis=0).astype(np.float32)
        transform = ActionTransform(
            name, *_vectors(_bounds("low", low, smallest), _bounds("high", high, largest))
        )
        flat = np.flatnonzero(~(transform.high > transform.low))
        if len(flat):
            raise InputError(
                f"{raw.name}: action dimension {flat[0]} has no range to rescale (from "
                f"{transform.low[flat[0]]:g} to {transform.high[flat[0]]:g}); leave it out of the "
                "data, or use --config.action_transform=none"
            )
    if name != "rescale_quantile":
        _check_bounds(raw, transform)
    return transform


def apply(
    raw: RawDataset,
    reward: RewardTransform,
    observation: ObservationTransform,
    action: ActionTransform,
) -> RawDataset:
    """Return `raw` as an agent learns from it; arrays that stay as they are, are not copied."""
    outcomes = raw.outcomes
    if outcomes is not None and reward.name != "none":
        outcomes = np.stack([reward(outcomes[..., 0]), outcomes[..., 1]], axis=-1)
    return dataclasses.replace(
        raw,
        outcomes=outcomes,
        observations=observation(raw.observations),
        actions=action.to_unit(raw.actions),
        rewards=reward(raw.rewards),
        next_observations=observation(raw.next_observations),
    )


def episode_returns(raw: RawDataset) -> np.ndarray:
    """Return f64[E], the sum of rewards of each episode or fragment, in order."""
    starts = np.concatenate([[0], np.flatnonzero(raw.ends[:-1]) + 1])
    return np.add.reduceat(raw.rewards, starts, dtype=np.float64)


def behaviour_return(raw: RawDataset) -> float:
    """Return the mean return of the episodes of `raw`, of who made the data.

    Where the return of an evaluation is something else, the loader says the mean of that.
    """
    told = raw.extras.get("behaviour_return")
    return float(episode_returns(raw).mean()) if told is None else float(told)


def behaviour_success(raw: RawDataset) -> float | None:
    """Return the share of episodes of `raw` that reach a goal, None where rewards do not tell.

    They tell where there are two: an episode with the higher one has reached its goal.
    """
    values = np.unique(raw.rewards)
    if len(values) != 2:
        return None
    starts = np.concatenate([[0], np.flatnonzero(raw.ends[:-1]) + 1])
    return float(np.logical_or.reduceat(raw.rewards == values[1], starts).mean())


def _check_name(field: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise InputError(
            f"unknown {field} '{name}': allowed are {', '.join(known)}{did_you_mean(name, known)}"
        )


def _check_bounds(raw: RawDataset, transform: ActionTransform) -> None:
    slack = _ACTION_TOLERANCE * (transform.high - transform.low) / 2
    low, high = transform.low - slack, transform.high + slack
    for rows in row_chunks(raw.actions):
        outside = (raw.actions[rows] < low) | (raw.actions[rows] > high)
        if outside.any():
            row, dim = np.argwhere(outside)[0]
            fix = (
                "map them onto it with --config.action_transform=rescale"
                if transform.name == "none"
                else "clip them to the environment's bounds in the file"
            )
            raise InputError(
                f"{raw.name}: 'actions' row {rows.start + row}, dimension {dim} is "
                f"{raw.actions[rows][row, dim]:g}, outside [{transform.low[dim]:g}, "
                f"{transform.high[dim]:g}]; {fix}"
            )


def _bounds(side: str, given: np.ndarray | None, seen: np.ndarray) -> np.ndarray:
    if given is None:
        return seen
    given = np.asarray(given, np.float32)
    if given.shape != seen.shape:
        raise InputError(
            f"the environment's action bound '{side}' has shape {given.shape}, but the dataset's "
            f"actions have {seen.shape[0]} numbers; name the environment that made the data"
        )
    return np.where(np.isfinite(given), given, seen)


def _mean_and_std(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return f64[O] twice; float64 sums in chunks, so that no float64 copy of the data is made."""
    total = np.zeros(array.shape[1])
    for rows in row_chunks(array):
        total += array[rows].sum(axis=0, dtype=np.float64)
    mean = total / len(array)
    squares = np.zeros(array.shape[1])
    for rows in row_chunks(array):
        squares += ((array[rows] - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(squares / len(array))


def _vectors(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(first, np.float32), np.asarray(second, np.float32)
