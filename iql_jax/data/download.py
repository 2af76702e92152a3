"""Downloads of large files that survive dropped connections, kills and a second process.

The body goes to `<name>.part`, beside it `<name>.part.json` says which version of the remote file
that is. A later attempt or a later run asks for the missing bytes of that version; if the remote
file has changed, or the server does not send ranges, it starts over. Only a complete file of the
right size gets the final name, by an atomic rename.
"""

import contextlib
import dataclasses
import errno
import fcntl
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import tqdm

_BLOCK_BYTES = 1 << 18
_RETRY_STATUS = (408, 416, 425, 429)  # besides 5xx, what another request may cure
# What a lost connection raises; other OSErrors (a full disk) are not cured by trying again.
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)
_OFFLINE_ERRNOS = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)


class DownloadError(Exception):
    """A download that failed for good, with the reason on one line."""


class _LostError(Exception):
    """An attempt that failed in a way that another attempt may cure."""


@dataclasses.dataclass(frozen=True)
class _Version:
    """Which remote bytes a part file holds."""

    url: str
    etag: str | None
    last_modified: str | None
    size: int | None

    def validator(self) -> str | None:
        """Return what `If-Range` may carry: a strong entity tag, else the date."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


def download(
    url: str,
    path: pathlib.Path,
    *,
    check: Callable[[pathlib.Path], None] | None = None,
    attempts: int = 5,
    backoff_seconds: float = 1.0,
    timeout_seconds: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
    progress: bool = True,
) -> None:
    """Return when `path` holds the whole file of `url`, downloaded unless it is there already.

    Args:
      url: an http or https address.
      path: where the file goes; its folder is made if need be.
      check: raises ValueError if a complete download is not what was wanted, e.g. a login page.
      attempts: how many attempts in a row may fail without a new byte before giving up.
      backoff_seconds: the first wait between attempts; it doubles with each failure in a row.
      timeout_seconds: how long the server may be silent.
      sleep: waits for a number of seconds.
      progress: show a progress bar on the terminal.

    Raises:
      DownloadError: with the reason, on one line.
      OSError: if the folder or file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with _locked(part, path) as file:
        if file is None:
            return
        failures, furthest = 0, _size(file)
        while True:
            try:
                _attempt(url, file, part, timeout_seconds, progress)
                break
            except _LostError as error:
                failures = 0 if _size(file) > furthest else failures + 1
                furthest = max(furthest, _size(file))
                if failures >= attempts:
                    raise DownloadError(f"{error} ({failures} attempts brought nothing)") from error
                sleep(backoff_seconds * 2 ** max(0, failures - 1))
        os.fsync(file.fileno())
        if check:
            try:
                check(part)
            except ValueError as error:
                file.truncate(0)
                raise DownloadError(f"what the server sent is wrong: {error}") from error
        part.rename(path)
        _record_path(part).unlink(missing_ok=True)


def check_hdf5(path: pathlib.Path) -> None:
    """Return None if `path` opens as HDF5.

    Raises:
      ValueError: with what the file begins with, if it does not.
    """
    import h5py

    try:
        # HDF5's own lock would meet ours on the part file.
        with h5py.File(path, "r", locking=False):
            pass
    except OSError as error:
        with path.open("rb") as file:
            start = file.read(24)
        raise ValueError(f"it is no HDF5 file (begins with {start!r}): {error}") from error


@contextlib.contextmanager
def _locked(part: pathlib.Path, path: pathlib.Path) -> Iterator[BinaryIO | None]:
    """Return the part file, locked against other processes, or None once `path` exists.

    The lock is the operating system's on the open file: a killed process leaves none behind.
    """
    while True:
        if path.is_file():
            yield None
            return
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"another process is downloading {path.name}; waiting", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_same_file(file, part):
                continue  # renamed or removed by the process that held the lock
            if path.is_file():
                part.unlink()
                continue
            try:
                yield file
            finally:
                if not _size(file):
                    part.unlink(missing_ok=True)
                    _record_path(part).unlink(missing_ok=True)
            return


def _is_same_file(file: BinaryIO, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _attempt(
    url: str, file: BinaryIO, part: pathlib.Path, timeout_seconds: float, progress: bool
) -> None:
    """Append to `file` what is missing of `url`.

    Raises:
      _LostError: if another attempt may do better.
      DownloadError: if not.
    """
    version = _read_record(part, url)
    if version is None:
        file.truncate(0)
    have = _size(file)
    if version is not None and have and have == version.size:
        return  # killed between the last byte and the rename
    try:
        with _open(url, have, version, timeout_seconds) as response:
            found = _version_of(url, response)
            if response.status == 200:  # all of it, perhaps of another version
                file.truncate(0)
                _write_record(part, found)
            elif not _continues(response, have, version, found):
                file.truncate(0)
                raise _LostError("the server sent another range than it was asked for")
            _copy(response, file, found, part.name.removesuffix(".part"), progress)
    except _NETWORK_ERRORS as error:
        if getattr(error, "code", None) == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            file.truncate(0)  # there is no rest of it: the remote file has changed
        raise _classified(error) from error
    size = _size(file)
    if found.size is not None and size != found.size:
        if size > found.size:
            file.truncate(0)
        raise _LostError(f"the connection ended after {size} of {found.size} bytes")


def _open(url: str, have: int, version: _Version | None, timeout_seconds: float) -> Any:
    """Return the response to a request for the bytes of `url` from `have` on."""
    headers = {"User-Agent": "iql_jax", "Accept-Encoding": "identity"}
    if have and version is not None:
        headers["Range"] = f"bytes={have}-"
        validator = version.validator()
        if validator:
            headers["If-Range"] = validator  # "the rest of this version, else all of the new one"
    return urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=timeout_seconds
    )


def _continues(response: Any, have: int, version: _Version | None, found: _Version) -> bool:
    """Return whether a partial response holds exactly the bytes that come after those here."""
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if version is None or start is None or int(start[1]) != have:
        return False
    # Not every server obeys If-Range, so what it says about its file must agree too.
    return all(
        before is None or after is None or before == after
        for before, after in (
            (version.etag, found.etag),
            (version.last_modified, found.last_modified),
            (version.size, found.size),
        )
    )


def _version_of(url: str, response: Any) -> _Version:
    headers = response.headers
    size: int | None = None
    if response.status == 206:
        total = re.match(r"bytes \d+-\d+/(\d+)$", headers.get("Content-Range", ""))
        size = int(total[1]) if total else None
    elif headers.get("Content-Length", "").isdigit():
        size = int(headers["Content-Length"])
    return _Version(url, headers.get("ETag"), headers.get("Last-Modified"), size)


def _copy(response: Any, file: BinaryIO, version: _Version, name: str, progress: bool) -> None:
    with tqdm.tqdm(
        desc=name,
        total=version.size,
        initial=_size(file),
        unit="B",
        unit_scale=True,
        disable=not progress,
    ) as bar:
        while block := response.read1(_BLOCK_BYTES):
            file.write(block)
            bar.update(len(block))
        file.flush()


def _classified(error: Exception) -> Exception:
    """Return the error to raise for a network error: worth another attempt or final."""
    if isinstance(error, urllib.error.HTTPError):
        text = f"the server answered {error.code} {error.reason}"
        again = error.code >= 500 or error.code in _RETRY_STATUS
        error.close()
        return _LostError(text) if again else DownloadError(text)
    cause = getattr(error, "reason", error)
    text = " ".join(str(cause).split()) or type(cause).__name__
    offline = isinstance(cause, socket.gaierror) or (
        isinstance(cause, OSError) and cause.errno in _OFFLINE_ERRNOS
    )
    if offline:
        return DownloadError(f"no connection to the server ({text})")
    return _LostError(text)


def _record_path(part: pathlib.Path) -> pathlib.Path:
    return part.with_name(part.name + ".json")


def _read_record(part: pathlib.Path, url: str) -> _Version | None:
    """Return which version the part file holds, or None if that is not known for sure."""
    try:
        version = _Version(**json.loads(_record_path(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    if version.url != url or (version.validator() is None and version.size is None):
        return None
    return version


def _write_record(part: pathlib.Path, version: _Version) -> None:
    temporary = _record_path(part).with_suffix(".tmp")
    temporary.write_text(json.dumps(dataclasses.asdict(version)))
    temporary.replace(_record_path(part))


def _size(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size
