"""A period of AuctionNet to replay: what each impression is worth, and what it costs to win."""

import dataclasses
import functools
import pathlib

import numpy as np

from iql_jax.errors import InputError, did_you_mean

PREFIX = "auctionnet/"
NUM_TICKS = 48
OPTIONS = ("sparse", "relative")
_KEYS = (
    "advertisers",
    "budget",
    "CPAConstraint",
    "pValue",
    "pValueSigma",
    "leastWinningCost",
    "tick_offsets",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Period:
    """N impressions in order of time, as K advertisers see them.

    Attributes:
      path: where it was read from.
      advertisers: i64[K], their numbers.
      budget: f64[K].
      cpa_limit: f64[K].
      values: f32[K, N], each advertiser's predicted chance of a conversion.
      sigmas: f32[K, N], the standard deviation of that prediction.
      costs: f32[N], the least winning cost.
      tick_offsets: i64[49]; tick t is impressions `tick_offsets[t]:tick_offsets[t + 1]`.
    """

    path: str
    advertisers: np.ndarray
    budget: np.ndarray
    cpa_limit: np.ndarray
    values: np.ndarray
    sigmas: np.ndarray
    costs: np.ndarray
    tick_offsets: np.ndarray

    def tick(self, advertiser: int, tick: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns values, sigmas and costs, each f32[n], of a tick for the advertiser's row."""
        rows = slice(self.tick_offsets[tick], self.tick_offsets[tick + 1])
        return self.values[advertiser, rows], self.sigmas[advertiser, rows], self.costs[rows]


def parse_name(name: str) -> tuple[pathlib.Path, frozenset[str]]:
    """Returns path and options of `auctionnet/PATH@option@option`.

    Raises:
      InputError: no path, or an unknown option.
    """
    text, *options = name.removeprefix(PREFIX).split("@")
    for option in options:
        if option not in OPTIONS:
            raise InputError(
                f"'{name}' has the unknown option '@{option}'{did_you_mean(option, OPTIONS)} "
                f"(allowed: {', '.join('@' + known for known in OPTIONS)})"
            )
    if not text:
        raise InputError(f"'{name}' names no file; write {PREFIX}PATH, a CSV or a folder")
    return pathlib.Path(text).expanduser(), frozenset(options)


def period_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of periods to replay in `folder`, by their names."""
    return sorted([*folder.glob("*period*.hdf5"), *folder.glob("*period*.npz")])


def period_file(path: pathlib.Path) -> pathlib.Path:
    """Returns the one file of a period at `path`, which may be its folder.

    Raises:
      InputError: there is none, or there are several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder (looked for at {path.absolute()})")
    files = period_files(path)
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise InputError(
            f"{path}: a folder to evaluate in has one period to replay, *period*.hdf5 or "
            f"*period*.npz; found {found}; name the file itself"
        )
    return files[0]


def load_period(path: pathlib.Path) -> Period:
    """Returns the period stored at `path`, shared by all environments that replay it.

    Keys, in HDF5 or NPZ: `advertisers` [K], `budget` [K], `CPAConstraint` [K], `pValue` [N, K],
    `pValueSigma` [N, K], `leastWinningCost` [N], `tick_offsets` [49].

    Raises:
      InputError: naming the file, the key and the reason.
    """
    return _load_period(path.absolute(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _load_period(path: pathlib.Path, modified: int) -> Period:
    del modified  # part of the key alone
    arrays = _read(path)
    values = np.ascontiguousarray(arrays["pValue"].T, np.float32)
    sigmas = np.ascontiguousarray(arrays["pValueSigma"].T, np.float32)
    period = Period(
        path=str(path),
        advertisers=np.asarray(arrays["advertisers"], np.int64),
        budget=np.asarray(arrays["budget"], np.float64),
        cpa_limit=np.asarray(arrays["CPAConstraint"], np.float64),
        values=values,
        sigmas=sigmas,
        costs=np.asarray(arrays["leastWinningCost"], np.float32),
        tick_offsets=np.asarray(arrays["tick_offsets"], np.int64),
    )
    _check(period)
    return period


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                arrays = {key: file[key] for key in file.files}
        else:
            import h5py

            with h5py.File(path, "r", locking=False) as file:
                arrays = {key: file[key][()] for key in _KEYS if key in file}
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as a period to replay: {reason}") from error
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise InputError(
            f"{path}: no period to replay, it lacks {', '.join(missing)} "
            f"(needed: {', '.join(_KEYS)})"
        )
    return arrays


def _check(period: Period) -> None:
    """Returns nothing if the arrays fit each other.

    Raises:
      InputError: they do not.
    """
    num_advertisers, num_impressions = len(period.advertisers), len(period.costs)
    for key, found, wanted in (
        ("budget", period.budget.shape, (num_advertisers,)),
        ("CPAConstraint", period.cpa_limit.shape, (num_advertisers,)),
        ("pValue", period.values.shape[::-1], (num_impressions, num_advertisers)),
        ("pValueSigma", period.sigmas.shape[::-1], (num_impressions, num_advertisers)),
        ("tick_offsets", period.tick_offsets.shape, (NUM_TICKS + 1,)),
    ):
        if found != wanted:
            raise InputError(f"{period.path}: '{key}' has shape {found}, but must be {wanted}")
    offsets = period.tick_offsets
    if offsets[0] != 0 or offsets[-1] != num_impressions or (np.diff(offsets) <= 0).any():
        raise InputError(
            f"{period.path}: 'tick_offsets' must rise from 0 to {num_impressions}, the number of "
            "impressions, with at least one impression in each tick"
        )
    if not ((period.budget > 0).all() and (period.cpa_limit > 0).all()):
        raise InputError(f"{period.path}: 'budget' and 'CPAConstraint' must be positive")
