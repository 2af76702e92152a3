"""What every dataset adapter returns: plain NumPy transitions and where they came from."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from iql_jax.errors import InputError

_CHUNK_BYTES = 1 << 24  # temporaries stay this small however large the dataset


@dataclasses.dataclass(frozen=True)
class RawDataset:
    """Transitions as stored, before any transform.

    Attributes:
      name: the name it was asked for, e.g. `d4rl/hopper-medium-v2`.
      source: one line on what made the data, printed with every score.
      observations: f32[N, O].
      actions: f32[N, A], in the units of the environment.
      rewards: f32[N].
      masks: f32[N]; 0 where bootstrapping stops (true termination), else 1.
      next_observations: f32[N, O].
      ends: bool[N]; True on the last row of each episode or fragment of one.
      env_name: the environment that evaluates a policy trained on it; None if there is none.
      extras: anything else worth keeping, by name.
      tasks: the datasets of several tasks that this one is at once; their rows differ in rewards
        and masks alone, and `rewards` and `masks` are the first's.
      outcomes: f32[K, N, 2], rewards and masks of the K tasks; None where there is one.
    """

    name: str
    source: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    masks: np.ndarray
    next_observations: np.ndarray
    ends: np.ndarray
    env_name: str | None = None
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    outcomes: np.ndarray | None = None

    def of_task(self, number: int) -> "RawDataset":
        """Return the dataset of one of `tasks`, counted from 0."""
        assert self.outcomes is not None
        return dataclasses.replace(
            self,
            name=self.tasks[number],
            env_name=self.tasks[number],
            rewards=self.outcomes[number, :, 0],
            masks=self.outcomes[number, :, 1],
            tasks=(),
            outcomes=None,
        )


# Field -> (number of axes, dtype).
_FIELDS: dict[str, tuple[int, type]] = {
    "observations": (2, np.float32),
    "actions": (2, np.float32),
    "rewards": (1, np.float32),
    "masks": (1, np.float32),
    "next_observations": (2, np.float32),
    "ends": (1, np.bool_),
}


def row_chunks(array: np.ndarray) -> Iterator[slice]:
    """Return slices that cover the rows of `array` in pieces of a few megabytes."""
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    step = max(1, _CHUNK_BYTES // row_bytes)
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


def first_nonfinite(array: np.ndarray) -> str | None:
    """Return where `array` first holds a NaN or an infinity, as text for a message, or None."""
    for rows in row_chunks(array):
        finite = np.isfinite(array[rows]).reshape(rows.stop - rows.start, -1)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            value = array[rows][row].reshape(-1)[column]
            place = f"row {rows.start + row}"
            if array.ndim > 1:
                place += f", dimension {column},"
            return f"{place} is {value:g}"
    return None


def validate(
    raw: RawDataset,
    observation_dim: int | None = None,
    action_dim: int | None = None,
    env_name: str | None = None,
) -> None:
    """Return None if `raw` keeps the contract of `RawDataset` and fits the environment.

    Whether actions lie in [-1, 1] is checked where the action transform is known:
    `transforms.fit_action`.

    Args:
      raw: the dataset.
      observation_dim: numbers in an observation of the environment, if there is one.
      action_dim: numbers in an action of the environment, if there is one.
      env_name: the environment those are of, for the message.

    Raises:
      InputError: naming the dataset, the field, the first row and the reason.
    """
    for field, (axes, dtype) in _FIELDS.items():
        array = getattr(raw, field)
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != axes:
            found = (
                f"{array.dtype} of shape {array.shape}"
                if isinstance(array, np.ndarray)
                else type(array).__name__
            )
            shape = "(rows, numbers per row)" if axes == 2 else "(rows,)"
            raise InputError(
                f"{raw.name}: '{field}' is {found}, but must be a NumPy array of "
                f"{np.dtype(dtype)} of shape {shape}; convert it in the adapter"
            )
    _validate_shapes(raw)
    _validate_values(raw)
    for number in range(len(raw.tasks)):
        _validate_values(raw.of_task(number))
    _validate_dims(raw, observation_dim, action_dim, env_name or raw.env_name)


def _validate_shapes(raw: RawDataset) -> None:
    rows = len(raw.observations)
    if rows == 0:
        raise InputError(f"{raw.name}: 'observations' has no rows; nothing can be learned from it")
    for field in _FIELDS:
        found = len(getattr(raw, field))
        if found != rows:
            raise InputError(
                f"{raw.name}: '{field}' has {found} rows but 'observations' has {rows}; "
                "every field must have one row per transition"
            )
    for field in ("observations", "actions"):
        if getattr(raw, field).shape[1] == 0:
            raise InputError(
                f"{raw.name}: '{field}' has rows of no numbers; at least one is needed"
            )
    if raw.next_observations.shape != raw.observations.shape:
        raise InputError(
            f"{raw.name}: 'next_observations' has {raw.next_observations.shape[1]} numbers per row "
            f"but 'observations' has {raw.observations.shape[1]}; they must agree"
        )


def _validate_values(raw: RawDataset) -> None:
    for field in ("observations", "actions", "rewards", "masks", "next_observations"):
        place = first_nonfinite(getattr(raw, field))
        if place:
            raise InputError(
                f"{raw.name}: '{field}' {place}; every number must be finite: remove or repair "
                "that row"
            )
    odd = (raw.masks != 0.0) & (raw.masks != 1.0)
    if odd.any():
        row = int(np.argmax(odd))
        raise InputError(
            f"{raw.name}: 'masks' row {row} is {raw.masks[row]:g}; it must be 0 where the episode "
            "terminated and 1 elsewhere"
        )
    if not raw.masks.any():
        raise InputError(
            f"{raw.name}: 'masks' is 0 in every row, so no value would ever be bootstrapped; "
            "mark only true terminations as terminal, not every row"
        )
    if not raw.ends[-1]:
        raise InputError(
            f"{raw.name}: 'ends' row {len(raw.ends) - 1} is False; the last row always ends an "
            "episode or a fragment of one"
        )


def _validate_dims(
    raw: RawDataset, observation_dim: int | None, action_dim: int | None, env_name: str | None
) -> None:
    environment = f"the environment '{env_name}'" if env_name else "the environment"
    for field, wanted in (("observations", observation_dim), ("actions", action_dim)):
        found = getattr(raw, field).shape[1]
        if wanted is not None and found != wanted:
            raise InputError(
                f"{raw.name}: '{field}' has {found} numbers per row but {environment} has "
                f"{wanted}; name the environment that made the data with --env_name"
            )


def fingerprint(raw: RawDataset) -> str:
    """Return 16 hex digits that change with any number, shape or type of the arrays of `raw`."""
    digest = hashlib.sha256()
    for field in _FIELDS:
        array = getattr(raw, field)
        digest.update(f"{field} {array.dtype.str} {array.shape} ".encode())
        for rows in row_chunks(array):
            digest.update(np.ascontiguousarray(array[rows]).reshape(-1).data)
    if raw.outcomes is not None:
        digest.update(f"outcomes {raw.outcomes.shape}".encode())
        digest.update(np.ascontiguousarray(raw.outcomes).reshape(-1).data)
    return digest.hexdigest()[:16]
