"""A pytree of arrays on disk, in Orbax's format: copied from the devices, written, put back.

This is the only module that knows Orbax. Leaves are stored under their names in a flat mapping,
so that reading needs no class of ours, and `orbax.checkpoint` alone opens what is written.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.errors import InputError

PyTree = Any


def copy_to_host(tree: PyTree) -> dict[str, np.ndarray]:
    """Returns copies of the leaves by name; the tree may be donated or overwritten afterwards.

    Raises:
      TypeError: a leaf is no array of numbers, or two have one name.
    """
    names, leaves, _ = _flatten(tree)
    for name, leaf in zip(names, leaves, strict=True):
        _require_numbers(name, leaf)
    # On a CPU `device_get` returns a view of the buffer that is about to be donated.
    copies = [np.array(leaf, order="C", copy=True) for leaf in jax.device_get(leaves)]
    return dict(zip(names, copies, strict=True))


def describe(arrays: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns each array's shape and dtype, for a JSON file."""
    return {
        name: {"shape": list(array.shape), "dtype": np.dtype(array.dtype).name}
        for name, array in arrays.items()
    }


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays into the new directory `path`.

    Raises:
      OSError: the disk refused; or ValueError with `os_error_code` in its text, which is how the
        storage library below Orbax says it.
    """
    from orbax.checkpoint.args import PyTreeSave

    # Orbax refuses arrays without elements; their description says all there is to know of them.
    stored = {name: array for name, array in arrays.items() if array.size}
    with _quiet_orbax(), contextlib.closing(_checkpointer()) as checkpointer:
        checkpointer.save(path, args=PyTreeSave(stored))


def read(path: Path, described: dict[str, dict[str, Any]], template: PyTree) -> PyTree:
    """Returns the arrays of a directory in the structure of a template, bit for bit.

    Args:
      path: the directory that `write` made.
      described: what `describe` returned of what it wrote.
      template: where it has a jax array (or a `ShapeDtypeStruct` with a sharding), the result has
        one of its sharding; elsewhere the result has a NumPy array.

    Raises:
      InputError: the template's leaves differ in name, shape or dtype.
    """
    names, leaves, structure = _flatten(template)
    _require_same(path, described, describe(dict(zip(names, leaves, strict=True))))
    with _quiet_orbax(), contextlib.closing(_checkpointer()) as checkpointer:
        arrays = checkpointer.restore(path)
    for name, leaf in described.items():
        if 0 in leaf["shape"]:
            arrays[name] = np.zeros(leaf["shape"], np.dtype(leaf["dtype"]))
    placed = [_place(arrays[name], leaf) for name, leaf in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(structure, placed)


def _flatten(tree: PyTree) -> tuple[list[str], list[Any], Any]:
    """Returns the leaves' names (`critic.q.params...`), the leaves, and the structure."""
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise TypeError(f"leaves of a checkpoint need names of their own: {twice} occur twice")
    return names, [leaf for _, leaf in paths], structure


def _require_numbers(name: str, leaf: Any) -> None:
    """Raises TypeError for what cannot be stored bit for bit."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"{name!r} is a {type(leaf).__name__}, not an array: put it into `host`")
    numbers = any(jax.dtypes.issubdtype(leaf.dtype, kind) for kind in (np.number, np.bool_))
    if not numbers or not np.dtype(leaf.dtype).isnative:
        raise TypeError(f"{name!r} has dtype {leaf.dtype}; save numbers in the machine's order")


def _require_same(path: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises InputError where the leaves differ in name, shape or dtype."""

    def text(leaf: dict[str, Any] | None) -> str:
        return "absent" if leaf is None else f"{leaf['dtype']}{leaf['shape']}"

    differences = [
        f"{name} is {text(saved.get(name))} there, {text(wanted.get(name))} here"
        for name in sorted({*saved, *wanted})
        if saved.get(name) != wanted.get(name)
    ]
    if differences:
        more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
        raise InputError(
            f"checkpoint {path} does not fit this run: {'; '.join(differences[:4])}{more}; resume "
            "with the settings that wrote it, or start anew in another directory"
        )


def _place(array: np.ndarray, like: Any) -> Any:
    sharding = getattr(like, "sharding", None)
    return array if sharding is None else jax.device_put(array, sharding)


def _checkpointer() -> Any:
    import orbax.checkpoint  # here: it takes 0.4 s, too long for those who only look at results

    # Zarr 3 without compression, because trained weights hardly compress and zstd makes the save
    # of a large array eight times longer.
    # One process of several that train together writes and reads alone, so Orbax waits for none.
    index = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )
    handler = orbax.checkpoint.PyTreeCheckpointHandler(
        use_zarr3=True, use_compression=False, multiprocessing_options=alone
    )
    return orbax.checkpoint.Checkpointer(handler, multiprocessing_options=alone)


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Drops what Orbax logs meanwhile, and nobody else's; its errors arrive as exceptions."""
    from absl import logging as absl_logging

    def not_orbax(record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname

    logger = absl_logging.get_absl_logger()
    logger.addFilter(not_orbax)
    try:
        yield
    finally:
        logger.removeFilter(not_orbax)
