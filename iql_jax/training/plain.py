"""Nested Python and NumPy values as what JSON can hold, and back again, exactly."""

from typing import Any

import numpy as np


def to_plain(value: Any) -> Any:
    """Returns `value` as JSON can hold it: arrays as dtype, shape and list, tuples marked.

    Raises:
      TypeError: for anything but None, bool, int, float, str, NumPy values, and lists, tuples and
        string-keyed dictionaries of them.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        return {
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "data": value.ravel().tolist(),
        }
    if isinstance(value, np.generic):
        return {"dtype": value.dtype.str, "data": value.item()}
    if isinstance(value, tuple):
        return {"tuple": [to_plain(item) for item in value]}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: to_plain(item) for key, item in value.items()}}
    raise TypeError(f"cannot keep {type(value).__name__} {value!r} in a checkpoint")


def from_plain(value: Any) -> Any:
    """Returns what `to_plain` was given."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "shape" in value:
        return np.array(value["data"], value["dtype"]).reshape(value["shape"])
    if "dtype" in value:
        return np.dtype(value["dtype"]).type(value["data"])
    if "tuple" in value:
        return tuple(from_plain(item) for item in value["tuple"])
    return {key: from_plain(item) for key, item in value["dict"].items()}
