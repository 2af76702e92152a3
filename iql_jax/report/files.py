"""Files that survive a kill: whole-line appends forced to the disk, and atomic replacement."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from iql_jax.errors import InputError


def write_failure(path: Path, error: OSError) -> InputError:
    """Return the error that tells the user which file could not be written and what to do."""
    reason = error.strerror or str(error)
    fix = {
        errno.ENOSPC: "free some space on that disk",
        errno.EDQUOT: "free some of your quota on that disk",
        errno.EACCES: "make the directory writable",
        errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
        errno.EROFS: "choose a directory on a writable disk",
    }.get(error.errno or 0, "repair that path")
    return InputError(
        f"cannot write '{path}': {reason}; {fix} and continue with --resume: what was saved "
        "before is kept"
    )


def sync_directory(path: Path) -> None:
    """Force the entries of directory `path` to the disk, so that a new or renamed file lasts."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a directory; they order renames themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace the file `path` by `data` in one step: a kill leaves the old or the new content.

    Raises:
      InputError: if it cannot be written; the old file is untouched.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_directory(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise write_failure(path, error) from error


class AppendFile:
    """A text file that only grows, by whole lines, each append on the disk when it returns."""

    def __init__(self, path: Path, header: str = "") -> None:
        """Open `path` to append; `header` is written where the file is new or empty.

        Raises:
          InputError: if it cannot be opened or written.
        """
        self.path = path
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            sync_directory(path.parent)
        except OSError as error:
            raise write_failure(path, error) from error
        if header and os.fstat(self._handle).st_size == 0:
            self.append(header)

    def append(self, text: str) -> None:
        """Add `text`, whole lines, and return once it is on the disk.

        Raises:
          InputError: if it cannot be written in full; nothing of it is left in the file.
        """
        size = os.fstat(self._handle).st_size
        data = memoryview(text.encode())
        try:
            while data:
                data = data[os.write(self._handle, data) :]
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, size)  # a half-written line would read as damage
            raise write_failure(self.path, error) from error

    def close(self) -> None:
        """Close the file; everything appended is on the disk already."""
        os.close(self._handle)


def whole_lines(path: Path) -> list[str]:
    """Return the lines of `path` that were written to their end.

    What follows the last newline is a line torn by a kill, or one being written now.
    """
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1].decode(errors="replace").splitlines()


def keep_lines(path: Path, keep: Callable[[str], bool]) -> int:
    """Drop from `path`, atomically, a torn last line and every line that `keep` refuses.

    Returns the number of lines dropped. A file that needs no change is not touched.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and keep(line.decode(errors="replace"))]
    if len(kept) < len(lines):
        write_atomic(path, b"".join(kept))
    return len(lines) - len(kept)
