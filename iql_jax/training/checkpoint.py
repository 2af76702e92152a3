"""Checkpoints: whole or absent, verified before use, written while training goes on.

On disk, a directory holds

    update_1000/            one checkpoint; the name appears when everything in it is safe on disk
      arrays/               the arrays, one per leaf, in Orbax's format
      host.json             what is not an array
      manifest.json         the score, every leaf's shape and dtype, every file's size and sha256
    update_1000.1/          the same update saved again: the first stays until this one is safe
    .saving_*, .removed_*   left where a process was killed; never read, removed by the next save

Orbax stores the arrays, called in a thread of ours. Its `CheckpointManager` is not used: it
commits a checkpoint before a manifest could join it, passes over updates at or below its latest,
which a run that went back to an earlier one must save, and does not go back when one is damaged.
"""

import contextlib
import dataclasses
import errno
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from iql_jax.errors import InputError
from iql_jax.training import sealed, stored_arrays

PyTree = Any

_ARRAYS, _HOST = "arrays", "host.json"
_NAME = re.compile(r"update_(\d+)(?:\.(\d+))?")
_SAVING, _REMOVED = ".saving_", ".removed_"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint read back.

    Attributes:
      update: updates done when it was saved.
      arrays: the template's structure; bit for bit what was saved.
      host: what `json` makes of the saved mapping: tuples are lists, keys are strings.
    """

    update: int
    arrays: PyTree
    host: dict[str, Any]


@dataclasses.dataclass(frozen=True, order=True)
class _Entry:
    """A committed checkpoint's name: its update, and how often that was saved before."""

    update: int
    repeat: int

    def __str__(self) -> str:
        return f"update_{self.update}" + (f".{self.repeat}" if self.repeat else "")


class Checkpoints:
    """The checkpoints of one run in one directory; one process writes, any number read.

    Making one touches nothing on disk, so a run in progress can be read from elsewhere. As a
    context manager it waits for the last save on the way out.

    Args:
      directory: where checkpoints are; made by the first save.
      keep_last: how many of the newest to keep, at least 1.
      keep_best: how many of the best by score to keep besides.
      say: told, in one line each, about damage found and what is used instead.
    """

    def __init__(
        self,
        directory: Path,
        keep_last: int = 2,
        keep_best: int = 1,
        *,
        say: Callable[[str], None],
    ) -> None:
        if keep_last < 1 or keep_best < 0:
            raise InputError(
                f"checkpoints to keep: the last {keep_last} and the best {keep_best}; keep at "
                "least the last 1 and the best 0"
            )
        self._directory = Path(directory).absolute()
        self._keep_last = keep_last
        self._keep_best = keep_best
        self._say = say
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._saving: tuple[int, Future[None]] | None = None
        self._damaged: dict[_Entry, str] = {}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except InputError as failure:
            if error is None:
                raise
            self._say(str(failure))  # what is already on its way out matters more

    def save(
        self,
        update: int,
        arrays: PyTree,
        host: Mapping[str, Any],
        score: float | None = None,
        wait: bool = False,
    ) -> None:
        """Copies the arrays to the host, then writes them in the background.

        The arrays may be donated or overwritten as soon as this returns. A save still under way
        is waited for first. Afterwards checkpoints beyond those to keep are removed, and those of
        later updates too: a run that went back to an earlier one has left that future.

        Args:
          update: updates done.
          arrays: a pytree of jax and NumPy arrays of numbers.
          host: what `json` can write.
          score: higher is better; None or NaN is never the best.
          wait: return only when it is safe on disk.

        Raises:
          InputError: the directory cannot be written, now or in the save before.
          TypeError: a leaf is no array of numbers, or `host` is not for JSON.
        """
        self.wait()
        text = json.dumps(host)
        copies = stored_arrays.copy_to_host(arrays)
        score = None if score is None or math.isnan(score) else float(score)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_save(update, _disk_trouble(error) or str(error)) from error
        self._saving = (update, self._worker.submit(self._write, update, copies, text, score))
        if wait:
            self.wait()

    def wait(self) -> None:
        """Returns when nothing is being saved.

        Raises:
          InputError: the disk refused the save; checkpoints made before are as they were.
        """
        if self._saving is None:
            return
        update, write = self._saving
        try:
            write.result()
        except Exception as error:
            self._saving = None
            reason = _disk_trouble(error)
            if reason is None:
                raise
            raise self._cannot_save(update, reason) from error
        self._saving = None

    def close(self) -> None:
        """Waits for a save under way and ends the background thread.

        Raises:
          InputError: as `wait`.
        """
        try:
            self.wait()
        finally:
            self._worker.shutdown()

    def all(self) -> list[int]:
        """Returns the updates of the checkpoints on disk, oldest first, not known as damaged."""
        return sorted({entry.update for entry in self._entries()})

    def latest(self) -> int | None:
        """Returns the newest checkpoint's update, or None."""
        return max(self.all(), default=None)

    def best(self) -> int | None:
        """Returns the update of the checkpoint with the highest score, or None without scores."""
        ranked = self._by_score(self._entries())
        return ranked[0].update if ranked else None

    def restore(self, template: PyTree, update: int | None = None) -> Restored:
        """Returns the newest checkpoint that is undamaged, or that of one update.

        Every file is compared with the manifest before anything is used. A damaged checkpoint is
        said, and the one before is taken.

        Args:
          template: a pytree as was saved. Where it has a jax array (or a `ShapeDtypeStruct` with
            a sharding), the result has one of its sharding; elsewhere a NumPy array.
          update: the checkpoint of this update and no other.

        Raises:
          InputError: there is none, none is undamaged, or the template differs from it.
        """
        self.wait()
        went_back = False
        while True:  # listed each time: a running trainer adds some and removes others
            entries = [
                entry for entry in self._entries() if update is None or entry.update == update
            ]
            if not entries:
                raise self._nothing_to_restore(update)
            entry = entries[-1]
            try:
                restored = self._read(entry, template)
            except Exception as error:
                gone = not (self._directory / str(entry)).exists()  # a running trainer removes
                if not gone and not isinstance(error, sealed.DamageError):
                    raise
                self._damaged[entry] = str(error)
                if not gone:
                    went_back = True
                    self._say(f"WARNING: damaged checkpoint, not used: {error}")
                continue
            if went_back:
                self._say(f"WARNING: using the checkpoint of update {restored.update} instead")
            return restored

    # Reading.

    def _entries(self) -> list[_Entry]:
        """Returns what is committed and not known as damaged, oldest first."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(
                f"checkpoints in {self._directory} cannot be listed: {error.strerror}"
            ) from error
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        entries = {_Entry(int(match[1]), int(match[2] or 0)) for match in matches}
        return sorted(entries - self._damaged.keys())

    def _by_score(self, entries: list[_Entry]) -> list[_Entry]:
        """Returns the entries that have a score, best first, the newer first among equals."""
        scores = {}
        for entry in entries:
            with contextlib.suppress(sealed.DamageError):  # said when it is restored
                scores[entry] = sealed.open_manifest(self._directory / str(entry))["score"]
        scored = [entry for entry in scores if scores[entry] is not None]
        return sorted(scored, key=lambda entry: (scores[entry], entry), reverse=True)

    def _read(self, entry: _Entry, template: PyTree) -> Restored:
        path = self._directory / str(entry)
        manifest = sealed.open_manifest(path)
        if manifest["update"] != entry.update:
            raise sealed.DamageError(f"{path} holds update {manifest['update']}, not its name's")
        sealed.verify(path, manifest)
        arrays = stored_arrays.read(path / _ARRAYS, manifest["leaves"], template)
        host = json.loads((path / _HOST).read_text())
        return Restored(entry.update, arrays, host)

    # Writing, in the background thread.

    def _write(
        self, update: int, arrays: dict[str, np.ndarray], host: str, score: float | None
    ) -> None:
        self._remove_leftovers()
        same = [entry.repeat for entry in self._committed() if entry.update == update]
        entry = _Entry(update, max(same, default=-1) + 1)
        saving = self._directory / f"{_SAVING}{entry}"
        try:
            saving.mkdir()
            _require_room(saving, arrays)
            stored_arrays.write(saving / _ARRAYS, arrays)
            (saving / _HOST).write_text(host)
            leaves = stored_arrays.describe(arrays)
            sealed.seal(saving, {"update": update, "score": score, "leaves": leaves})
            os.rename(saving, self._directory / str(entry))
            sealed.sync(self._directory)
        except BaseException:
            shutil.rmtree(saving, ignore_errors=True)  # the disk may be full: leave it as it was
            raise
        self._prune(entry)

    def _committed(self) -> list[_Entry]:
        """Returns everything committed, damaged or not, oldest first."""
        return sorted({*self._entries(), *self._damaged})

    def _remove_leftovers(self) -> None:
        for name in os.listdir(self._directory):
            if name.startswith((_SAVING, _REMOVED)):
                shutil.rmtree(self._directory / name)

    def _prune(self, newest: _Entry) -> None:
        """Removes all but the last K and the best, now that the newest is safe."""
        current = [
            entry
            for entry in self._entries()
            if entry == newest or entry.update < newest.update  # not its repeats, nor the future
        ]
        keep = {*current[-self._keep_last :], *self._by_score(current)[: self._keep_best]}
        for entry in self._committed():
            if entry in keep:
                continue
            removed = self._directory / f"{_REMOVED}{entry}"
            with contextlib.suppress(FileNotFoundError):  # a damaged one can be gone
                os.rename(self._directory / str(entry), removed)
                shutil.rmtree(removed)
        self._damaged.clear()

    # Errors.

    def _cannot_save(self, update: int, reason: str) -> InputError:
        latest = self.latest() if self._directory.is_dir() else None
        good = "there is none before it" if latest is None else f"update {latest} is the last good"
        return InputError(
            f"cannot save the checkpoint of update {update} in {self._directory}: {reason}; "
            f"{good}; make room there or make it writable, then resume"
        )

    def _nothing_to_restore(self, update: int | None) -> InputError:
        damage = [text for entry, text in self._damaged.items() if update in (None, entry.update)]
        if damage:
            return InputError(
                f"every checkpoint asked for in {self._directory} is damaged: "
                f"{'; '.join(damage)}; restore it from a copy, or start anew in another directory"
            )
        if update is None:
            return InputError(
                f"no checkpoint in {self._directory}; give a directory where a run has saved one"
            )
        there = ", ".join(map(str, self.all())) or "none"
        return InputError(
            f"no checkpoint of update {update} in {self._directory}; choose one of those there: "
            f"{there}"
        )


def _require_room(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Checks that the disk has room, before Orbax's threads each complain in a way of their own.

    Raises:
      OSError: it has not.
    """
    if shutil.disk_usage(folder).free < sum(array.nbytes for array in arrays.values()):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _disk_trouble(error: Exception) -> str | None:
    """Returns what the disk refused, or None for an error of another kind.

    Orbax reports the operating system's errors from its storage library as `ValueError`, with
    the number in the text.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else None
