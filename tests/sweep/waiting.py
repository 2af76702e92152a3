"""Waiting for what other processes do."""

import time
from collections.abc import Callable

_pause = time.sleep  # tests replace the one that others call


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Returns once the condition holds; fails when it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        _pause(0.02)
