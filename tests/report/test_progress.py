"""Progress lines with rate and time left, and the bar on a terminal."""

import io

import pytest

from iql_jax.report.progress import Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_lines_tell_rate_time_left_and_score(clock):
    stream = io.StringIO()
    with Progress(10_000, stream=stream, clock=clock) as progress:
        clock.now += 8  # the first chunk compiles, which must not spoil the time left
        progress.advance(1000)
        assert stream.getvalue() == ""
        progress.note(score=35.24)
        for _ in range(4):
            clock.now += 2
            progress.advance(1000)
    line = "3,000/10,000 updates (30%), 250.0 updates/s, 0:00:14 left, score 35.2\n"
    assert stream.getvalue() == line.replace("3,000/", "2,000/").replace("30%", "20%").replace(
        "250.0", "200.0"
    ).replace("0:00:14", "0:00:16")


def test_lines_come_less_often_in_long_runs_and_at_the_end(clock):
    stream = io.StringIO()
    progress = Progress(4000, done=400, stream=stream, clock=clock)
    for _ in range(3600):
        clock.now += 1
        progress.advance(1)
    lines = stream.getvalue().splitlines()
    assert 60 < len(lines) < 90
    assert lines[0].startswith("410/4,000 updates (10%), 1.0 updates/s, 0:59:50 left")
    assert lines[-1].startswith("4,000/4,000 updates (100%), 1.0 updates/s, 0:00:00 left")


def test_said_lines_are_their_own(clock):
    stream = io.StringIO()
    Progress(10, stream=stream, clock=clock).say("hello")
    assert stream.getvalue() == "hello\n"


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress(100, done=50, stream=stream) as progress:
        progress.note(score=35.24)
        progress.say("evaluated")
        progress.advance(25)
    text = stream.getvalue()
    assert "75/100" in text
    assert "updates/s" in text
    assert "score=35.2" in text
    assert "\nevaluated\n" in text.replace("\r", "\n")
