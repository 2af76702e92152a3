"""Arrays in D4RL's layout, read from HDF5 or NPZ and checked row by row of the file."""

import contextlib
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from iql_jax.data.raw import first_nonfinite
from iql_jax.errors import InputError

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")

_FLAGS = ("terminals", "timeouts")
_MATRICES = ("observations", "actions", "next_observations")
_HDF5 = (".hdf5", ".h5")
SUFFIXES = (*_HDF5, ".npz")

# What h5py, numpy and zipfile raise on files that are cut short or not what they claim to be.
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    MemoryError,  # from a damaged shape
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(path: pathlib.Path, optional: tuple[str, ...] = OPTIONAL) -> dict[str, np.ndarray]:
    """Return the arrays of a file in D4RL's layout by key, checked and in the types used here.

    `observations` f32[N, O], `actions` f32[N, A], `rewards` f32[N], `terminals` bool[N], and
    those of `optional` that the file has: `timeouts` bool[N], `next_observations` f32[N, O].
    Columns of shape (N, 1) become (N,), and integer actions of shape (N,) one-hot rows over the
    choices, as many as the largest needs or the key `num_actions` says. Other keys and groups
    (`infos/...`, `metadata/...`) are left in the file.

    Raises:
      InputError: naming the file, the key, the row and the reason.
    """
    arrays = {}
    with open_file(path) as file:
        missing = [key for key in REQUIRED if key not in file]
        if missing:
            raise InputError(
                f"{path}: missing {_quoted(missing)}; needed are {_quoted(REQUIRED)}, optional "
                f"{_quoted(OPTIONAL)}, found are {_quoted(sorted(map(str, file.keys())))}"
            )
        for key in (*REQUIRED, *(key for key in optional if key in file)):
            arrays[key] = _read_key(path, file, key)
    _check_rows(path, arrays)
    return arrays


@contextlib.contextmanager
def open_file(path: pathlib.Path) -> Iterator[Any]:
    """Return the open HDF5 or NPZ file at `path` as a mapping from key to array.

    Raises:
      InputError: if there is no such file or it cannot be read as what its ending says, now or
        anywhere inside the `with` block.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path}: a dataset's name ends in {' or '.join(SUFFIXES)}, this one in "
            f"'{path.suffix}'; convert it to one of them"
        )
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {kind} (looked for at {path.absolute()})")
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(_opened(path, stack))
        except InputError:
            raise
        except _UNREADABLE as error:  # damage may show only when a key is looked up or read
            raise _unreadable(path, error) from error


def _opened(path: pathlib.Path, stack: contextlib.ExitStack) -> Any:
    if path.suffix in _HDF5:
        import h5py

        # No lock: a finished file is never written to, and some file systems have none.
        return h5py.File(path, "r", locking=False)
    handle = stack.enter_context(path.open("rb"))  # np.load leaves it open if it fails
    file = np.load(handle, allow_pickle=False)
    if isinstance(file, np.ndarray):
        raise ValueError("it holds one bare array, not named arrays")
    return file


def _unreadable(path: pathlib.Path, error: Exception) -> InputError:
    kind = "HDF5" if path.suffix in _HDF5 else "NPZ"
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"{path}: cannot be read as {kind} ({path.stat().st_size} bytes): {reason}; it is damaged "
        "or cut short: delete it and download or make it again"
    )


class _Source(Protocol):
    """What an HDF5 dataset and a NumPy array have in common."""

    dtype: np.dtype
    shape: tuple[int, ...]


def _read_key(path: pathlib.Path, file: Any, key: str) -> np.ndarray:
    source: _Source = file[key]
    if not hasattr(source, "shape"):
        kind = type(source).__name__.lower()
        raise InputError(f"{path}: '{key}' is a {kind}, but must be one array")
    if source.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: '{key}' is of type {source.dtype}, but must be numbers; store it as float32"
        )
    if key == "actions" and len(source.shape) == 1 and source.dtype.kind in "iu":
        return _one_hot(path, np.asarray(source[()]), file.get("num_actions"))  # type: ignore[index]
    _check_axes(path, key, source.shape)
    wanted = np.dtype(np.float32)
    if isinstance(source, np.ndarray) or source.dtype.kind == "b" or 0 in source.shape:
        array = np.asarray(source[()])  # type: ignore[index]
    else:
        # HDF5 converts while it reads: no second copy of a large float64 array.
        array = np.empty(source.shape, source.dtype if key in _FLAGS else wanted)
        source.read_direct(array)  # type: ignore[attr-defined]
    if key in _FLAGS:
        return _flags(path, key, array.reshape(-1))
    with np.errstate(over="ignore"):  # becomes an infinity, which is reported with its row
        array = array.astype(wanted, copy=False)
    return array if key in _MATRICES else array.reshape(-1)


def _one_hot(path: pathlib.Path, choices: np.ndarray, num_actions: Any) -> np.ndarray:
    """Return f32[N, A], a row of zeros and one 1 for each choice."""
    if not len(choices):
        return np.zeros((0, 1), np.float32)
    largest = int(choices.max())
    count = largest + 1 if num_actions is None else int(np.asarray(num_actions[()]))
    if choices.min() < 0 or largest >= count:
        row = int(np.argmax((choices < 0) | (choices >= count)))
        raise InputError(
            f"{path}: 'actions' row {row} is choice {choices[row]}, but choices are 0 to "
            f"{count - 1}; 'num_actions' says how many there are"
        )
    return np.eye(count, dtype=np.float32)[choices]


def _check_axes(path: pathlib.Path, key: str, shape: tuple[int, ...]) -> None:
    if key in _MATRICES:
        if len(shape) != 2:
            raise InputError(
                f"{path}: '{key}' has shape {shape}, but must be (rows, numbers per row); "
                "flatten each row"
            )
    elif len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
        raise InputError(f"{path}: '{key}' has shape {shape}, but must be (rows,) or (rows, 1)")


def _flags(path: pathlib.Path, key: str, array: np.ndarray) -> np.ndarray:
    odd = (array != 0) & (array != 1)
    if odd.any():
        row = int(np.argmax(odd))
        raise InputError(
            f"{path}: '{key}' row {row} is {array[row]:g}, but must be 0 (or False) or 1 (or True)"
        )
    return array.astype(np.bool_, copy=False)


def _check_rows(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    rows = len(arrays["observations"])
    if rows == 0:
        raise InputError(f"{path}: 'observations' has no rows; nothing can be learned from it")
    for key, array in arrays.items():
        if len(array) != rows:
            raise InputError(
                f"{path}: '{key}' has {len(array)} rows but 'observations' has {rows}; every key "
                "must have one row per step"
            )
    if "next_observations" in arrays:
        found, wanted = arrays["next_observations"].shape[1], arrays["observations"].shape[1]
        if found != wanted:
            raise InputError(
                f"{path}: 'next_observations' has {found} numbers per row but 'observations' has "
                f"{wanted}; they must agree"
            )
    for key, array in arrays.items():
        place = None if key in _FLAGS else first_nonfinite(array)
        if place:
            raise InputError(
                f"{path}: '{key}' {place}; every number must be finite (and fit in float32): "
                "remove or repair that row"
            )


def _quoted(keys: Any) -> str:
    return ", ".join(map(repr, keys)) or "none"
