"""Appends by whole lines, atomic replacement, and what is said when a disk refuses."""

import errno
import os
import resource

import pytest

from iql_jax.errors import InputError
from iql_jax.report import files


def test_append_adds_whole_lines_after_one_header(tmp_path):
    for text in ("1\n2\n", "3\n"):
        file = files.AppendFile(tmp_path / "rows", header="number\n")
        file.append(text)
        file.close()
    assert (tmp_path / "rows").read_text() == "number\n1\n2\n3\n"


def test_a_full_disk_is_named_and_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "rows"
    file = files.AppendFile(path)
    file.append("first\n")
    real_write = os.write

    def write_some_then_fail(handle, data):
        if len(data) < 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(handle, data[:4])

    monkeypatch.setattr(os, "write", write_some_then_fail)
    with pytest.raises(InputError, match=r"rows': No space left on device; free some space"):
        file.append("second\n")
    monkeypatch.undo()
    assert path.read_text() == "first\n"
    file.append("third\n")
    file.close()
    assert path.read_text() == "first\nthird\n"


def test_a_real_refusal_by_the_system_leaves_no_half_line(tmp_path):
    file = files.AppendFile(tmp_path / "rows")
    file.append("first\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InputError, match="File too large"):
            file.append("x" * 200 + "\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file.close()
    assert (tmp_path / "rows").read_text() == "first\n"


def test_atomic_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    files.write_atomic(path, "old")

    def refuse(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match="No space left"):
        files.write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["results.json"]


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(InputError, match="No such file or directory"):
        files.AppendFile(tmp_path / "nowhere" / "rows")
    with pytest.raises(InputError, match=r"nowhere/rows': No such file"):
        files.write_atomic(tmp_path / "nowhere" / "rows", "text")


def test_whole_lines_leave_out_a_torn_one(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(b"1\n2\n3")
    assert files.whole_lines(path) == ["1", "2"]
    path.write_bytes(b"")
    assert files.whole_lines(path) == []


def test_keep_lines_drops_refused_and_torn_lines_only_where_there_are_any(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(b"1\n2\n3")
    assert files.keep_lines(path, lambda line: line != "1\n") == 2
    assert path.read_bytes() == b"2\n"
    before = path.stat().st_ino
    assert files.keep_lines(path, lambda line: True) == 0
    assert path.stat().st_ino == before
