"""Sealed directories: what was written into them can be told from what has happened to them since.

A seal is a file `manifest.json` with the size and sha256 of every other file, facts about the
content, and a digest of itself.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FORMAT = 1
_MANIFEST = "manifest.json"


class DamageError(Exception):
    """A directory is not what was sealed; the message names the file and what is wrong."""


def seal(path: Path, facts: Mapping[str, Any]) -> None:
    """Writes the manifest of a finished directory, and returns when all of it is safe on disk.

    Args:
      path: the directory.
      facts: what `json` can write, for the manifest.
    """
    files = {}
    for found in sorted(path.rglob("*")):
        sync(found)
        if found.is_file():
            files[found.relative_to(path).as_posix()] = _fingerprint(found)
    manifest = {**facts, "format": _FORMAT, "files": files}
    text = json.dumps(manifest | {"sha256": _digest(manifest)}, indent=1)
    (path / _MANIFEST).write_text(text)
    sync(path / _MANIFEST)
    sync(path)


def open_manifest(path: Path) -> dict[str, Any]:
    """Returns the facts, `format` and `files` of a sealed directory.

    Raises:
      DamageError: the manifest is missing, or not the one that was written.
    """
    file = path / _MANIFEST
    try:
        manifest = json.loads(file.read_text())
        intact = manifest.pop("sha256") == _digest(manifest)
    except OSError as error:
        raise _unreadable(file, error) from error
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DamageError(f"{file} is not the whole manifest that was written") from None
    if not intact:
        raise DamageError(f"{file} was changed after it was written: its sha256 differs")
    if manifest["format"] != _FORMAT:
        raise DamageError(f"{file} has format {manifest['format']}, {_FORMAT} is read here")
    return manifest


def verify(path: Path, manifest: Mapping[str, Any]) -> None:
    """Compares every file of a sealed directory with its manifest.

    Raises:
      DamageError: a file is missing, truncated or changed.
    """
    for name, expected in manifest["files"].items():
        file = path / name
        try:
            found = _fingerprint(file)
        except OSError as error:
            raise _unreadable(file, error) from error
        if found["bytes"] != expected["bytes"]:
            raise DamageError(
                f"{file} has {found['bytes']} bytes, {expected['bytes']} were written"
            )
        if found["sha256"] != expected["sha256"]:
            raise DamageError(f"{file} was changed after it was written: its sha256 differs")


def sync(path: Path) -> None:
    """Returns when a file or directory is on the disk itself, safe from a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _unreadable(file: Path, error: OSError) -> DamageError:
    if isinstance(error, FileNotFoundError):
        return DamageError(f"{file} is missing")
    return DamageError(f"{file} cannot be read: {error.strerror}")
