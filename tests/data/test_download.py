"""Downloads from a server on this machine that misbehaves in every way servers do."""

import contextlib
import fcntl
import functools
import hashlib
import http.server
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.error

import numpy as np
import pytest

from iql_jax import data
from iql_jax.data import d4rl, download
from iql_jax.errors import InputError

CONTENT = np.random.default_rng(0).bytes(700_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; each request takes the next of `faults`, then all are served well."""

    daemon_threads = True

    def __init__(self, content=CONTENT):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.validators = {"ETag": '"first"'}
        self.faults = []
        self.ranges = []  # the Range header of each request, in order
        self.conditions = []  # its If-Range header
        self.paused = threading.Event()
        self.go_on = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/folder/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # one request per connection

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        content = server.content
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        server.ranges.append(asked)
        server.conditions.append(condition)
        fault = server.faults.pop(0) if server.faults else {}
        if "status" in fault:
            self.send_error(fault["status"])
            return
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked else 0
        current = server.validators.get("ETag") or server.validators.get("Last-Modified")
        matches = condition is None or condition == current or fault.get("ignore_if_range")
        if asked and matches and not fault.get("ignore_range"):
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            body = content[start:]
            self.send_response(206)
            sent_start = fault.get("wrong_start", start)
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {sent_start}-{last}/{len(content)}")
        else:
            body = content
            self.send_response(200)
        if not fault.get("no_length"):
            self.send_header("Content-Length", str(len(body)))
        for key, value in server.validators.items():
            self.send_header(key, value)
        self.end_headers()
        stop = fault.get("stop_after", len(body))
        self.wfile.write(body[:stop])
        if fault.get("pause"):
            self.wfile.flush()
            server.paused.set()
            server.go_on.wait(30)
        if fault.get("reset"):
            # Closing with unsent data discarded makes the client see a reset, not an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file.bin"


@pytest.fixture
def get(server, path):
    """Return a function that downloads and returns the waits it would have made."""

    def get(**options):
        waits = []
        defaults = {"sleep": waits.append, "progress": False, "timeout_seconds": 10}
        download.download(server.url, path, **{**defaults, **options})
        return waits

    return get


def left(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_whole_file_arrives_and_nothing_else_is_left(server, path, get):
    assert get() == []
    assert path.read_bytes() == CONTENT
    assert left(path) == ["file.bin"]
    assert server.ranges == [None]


def test_a_file_that_is_there_is_not_asked_for(server, path, get):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    get()
    assert path.read_bytes() == b"mine"
    assert left(path) == ["file.bin"]
    assert server.ranges == []


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("no_length", [False, True])
def test_dropped_connections_are_resumed(server, path, get, reset, no_length):
    server.faults = [
        {"stop_after": 300_000, "reset": reset},
        {"stop_after": 100_000, "reset": reset},
        {"stop_after": 0, "reset": reset},
        {"no_length": no_length},
    ]
    assert get() == [1.0, 1.0, 1.0]
    assert path.read_bytes() == CONTENT
    assert left(path) == ["file.bin"]
    starts = [int(asked[6:-1]) for asked in server.ranges[1:]]
    if not reset:  # a reset may discard bytes on the way
        assert starts == [300_000, 400_000, 400_000]
    assert starts == sorted(starts)
    assert server.conditions == [None] + ['"first"'] * len(starts)


def test_a_server_that_ignores_ranges_is_asked_for_it_all(server, path, get):
    server.faults = [{"stop_after": 300_000}, {"ignore_range": True}]
    get()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


@pytest.mark.parametrize("fault", [{}, {"ignore_if_range": True}])
def test_a_file_that_changed_meanwhile_is_not_glued(server, path, get, fault):
    server.faults = [{"stop_after": 300_000}]
    with pytest.raises(download.DownloadError):
        get(attempts=0)
    assert left(path) == ["file.bin.part", "file.bin.part.json"]
    server.content = np.random.default_rng(1).bytes(len(CONTENT))
    server.validators = {"ETag": '"second"'}
    server.faults = [fault]
    get()
    assert path.read_bytes() == server.content
    assert left(path) == ["file.bin"]


@pytest.mark.parametrize(
    "validators",
    [{}, {"Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT"}, {"ETag": 'W/"weak"'}],
)
def test_resuming_needs_what_the_server_offers(server, path, get, validators):
    server.validators = validators
    server.faults = [{"stop_after": 300_000}]
    get()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]
    assert server.conditions[1] == validators.get("Last-Modified")


def test_another_size_is_not_glued_even_without_validators(server, path, get):
    server.validators = {}
    server.faults = [{"stop_after": 300_000}]
    with pytest.raises(download.DownloadError):
        get(attempts=0)
    server.content = np.random.default_rng(1).bytes(len(CONTENT) + 1)
    get()
    assert path.read_bytes() == server.content
    assert server.ranges == [None, "bytes=300000-", None]


def test_a_range_that_was_not_asked_for_is_not_glued(server, path, get):
    server.faults = [{"stop_after": 300_000}, {"wrong_start": 250_000}]
    get()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", None]


def test_a_shorter_file_than_the_part_starts_over(server, path, get):
    server.validators = {}
    server.faults = [{"stop_after": 300_000}]
    with pytest.raises(download.DownloadError):
        get(attempts=0)
    server.content = CONTENT[:200_000]
    get()
    assert path.read_bytes() == server.content
    assert server.ranges == [None, "bytes=300000-", None]


def test_a_part_of_unknown_origin_starts_over(server, path, get):
    path.parent.mkdir()
    part = path.with_name("file.bin.part")
    part.write_bytes(b"something else")
    get()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]


@pytest.mark.parametrize("record", ["", "[]", '{"url": 3}', '{"url": "http://elsewhere/file.bin"}'])
def test_a_part_with_another_record_starts_over(server, path, get, record):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(b"something else")
    path.with_name("file.bin.part.json").write_text(record)
    get()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]


def test_a_download_killed_before_the_rename_is_not_repeated(server, path, get):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(CONTENT)
    record = {"url": server.url, "etag": '"first"', "last_modified": None, "size": len(CONTENT)}
    path.with_name("file.bin.part.json").write_text(json.dumps(record))
    get()
    assert path.read_bytes() == CONTENT
    assert left(path) == ["file.bin"]
    assert server.ranges == []


def test_a_body_that_stays_short_is_given_up_after_some_attempts(server, path, get):
    server.faults = [{"stop_after": 300_000, "ignore_range": True}] * 10
    waits = []
    with pytest.raises(
        download.DownloadError,
        match=r"the connection ended after 300000 of 700000 bytes \(3 attempts brought nothing\)",
    ):
        get(attempts=3, backoff_seconds=0.5, sleep=waits.append)
    # The first attempt brought new bytes; the three after it brought none.
    assert waits == [0.5, 0.5, 1.0]
    assert not path.exists()
    assert left(path) == ["file.bin.part", "file.bin.part.json"]


def test_a_file_that_is_not_there_is_not_asked_for_again(server, path, get):
    server.faults = [{"status": 404}]
    with pytest.raises(download.DownloadError, match="the server answered 404 Not Found"):
        get()
    assert server.ranges == [None]
    assert left(path) == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(server, path, get, status):
    server.faults = [{"status": status}] * 2
    assert get() == [1.0, 2.0]
    assert path.read_bytes() == CONTENT


def test_a_silent_server_is_given_up(server, path, get):
    server.faults = [{"stop_after": 300_000, "pause": True}, {"stop_after": 0, "pause": True}]
    with pytest.raises(download.DownloadError, match=r"timed out \(1 attempts brought nothing\)"):
        get(attempts=1, timeout_seconds=0.1)
    assert server.ranges == [None, "bytes=300000-"]


def test_a_refused_connection_is_tried_again(path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file.bin"
        waits = []
        with pytest.raises(download.DownloadError, match=r"refused \(4 attempts brought nothing\)"):
            download.download(url, path, attempts=4, sleep=waits.append, progress=False)
    assert waits == [1.0, 2.0, 4.0]


def test_without_a_network_there_is_no_waiting(monkeypatch, path):
    def no_name(*_, **__):
        raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(download.urllib.request, "urlopen", no_name)
    waits = []
    with pytest.raises(download.DownloadError, match="no connection to the server"):
        download.download("http://nowhere.invalid/x", path, sleep=waits.append)
    assert waits == []


def test_a_file_of_unknown_length_arrives(server, path, get):
    server.faults = [{"no_length": True}]
    get()
    assert path.read_bytes() == CONTENT


def test_a_login_page_is_not_kept(server, path, get):
    server.content = b"<html>please log in</html>"
    with pytest.raises(
        download.DownloadError,
        match=r"what the server sent is wrong: it is no HDF5 file \(begins with b'<html>please log",
    ):
        get(check=download.check_hdf5)
    assert left(path) == []


def test_a_full_disk_is_not_a_network_error(monkeypatch, server, path, get):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        get()
    assert len(server.ranges) == 1


def test_progress_is_shown_when_asked(server, get, capfd):
    get(progress=True)
    assert "file.bin: 100%" in capfd.readouterr().err


def test_a_second_download_waits_for_the_first(monkeypatch, server, path, get, capfd):
    server.faults = [{"stop_after": 300_000, "pause": True}]
    waiting = threading.Event()
    flock = fcntl.flock

    def announced(file, operation):
        if operation == fcntl.LOCK_EX:
            waiting.set()
        flock(file, operation)

    monkeypatch.setattr(download.fcntl, "flock", announced)
    first = threading.Thread(target=get)
    second = threading.Thread(target=get)
    first.start()
    assert server.paused.wait(20)
    second.start()
    assert waiting.wait(20)
    server.go_on.set()
    first.join()
    second.join()
    assert path.read_bytes() == CONTENT
    assert left(path) == ["file.bin"]
    # The first was cut off and came back for the rest; the second asked for nothing.
    assert server.ranges == [None, "bytes=300000-"]
    assert "another process is downloading file.bin; waiting" in capfd.readouterr().err


PROGRAM = """
import pathlib, sys
from iql_jax.data.download import download
download(sys.argv[1], pathlib.Path(sys.argv[2]), sleep=lambda _: None, progress=False)
"""


@contextlib.contextmanager
def process(server, path, repository):
    command = [sys.executable, "-c", PROGRAM, server.url, str(path)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=repository)
    try:
        with running:
            yield running
    finally:
        running.kill()


def test_two_processes_at_once_do_not_mix(server, path, repository):
    with process(server, path, repository) as a, process(server, path, repository) as b:
        _, errors_a = a.communicate(timeout=60)
        _, errors_b = b.communicate(timeout=60)
    assert (a.returncode, b.returncode) == (0, 0), errors_a + errors_b
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    assert left(path) == ["file.bin"]
    assert server.ranges == [None]


def test_a_killed_process_is_continued(server, path, get, repository):
    server.faults = [{"stop_after": 300_000, "pause": True}]
    with process(server, path, repository) as running:
        assert server.paused.wait(60)
        part = path.with_name("file.bin.part")
        while not part.exists() or part.stat().st_size < 300_000:
            assert running.poll() is None
        running.send_signal(signal.SIGKILL)
        running.wait(60)
    server.go_on.set()
    get()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


def test_a_d4rl_name_is_downloaded_once(
    monkeypatch, tmp_path, server, make_arrays, write_file, capfd
):
    arrays = make_arrays()
    server.content = write_file(tmp_path / "file.hdf5", arrays).read_bytes()
    server.faults = [{"stop_after": 1000}, {}, {"status": 404}]
    url = server.url.replace("file.bin", "pen.hdf5")
    monkeypatch.setattr(d4rl, "datasets", lambda: {"pen-human-v1": {"url": url}})
    patient = functools.partial(download.download, sleep=lambda _: None)
    monkeypatch.setattr(download, "download", patient)
    first = data.load("pen-human-v1", data_dir=tmp_path / "datasets")
    second = data.load("pen-human-v1", data_dir=tmp_path / "datasets")
    np.testing.assert_array_equal(first.observations, arrays["observations"][:-1])
    assert data.raw.fingerprint(first) == data.raw.fingerprint(second)
    assert server.ranges == [None, "bytes=1000-"]
    assert "pen.hdf5" in capfd.readouterr().err


def test_a_d4rl_file_that_is_gone_is_named(monkeypatch, tmp_path, server):
    server.faults = [{"status": 404}]
    monkeypatch.setattr(d4rl, "datasets", lambda: {"pen-human-v1": {"url": server.url}})
    with pytest.raises(InputError, match=r"downloading http.*file.bin failed: .* 404 Not Found\. "):
        data.load("pen-human-v1", data_dir=tmp_path)
