"""Becomes a training run that is told to save and end when the process that started it is gone.

    python tether.py PARENT_PID CORES ARGUMENT...

`ARGUMENT...` is what Python gets to run. CORES are numbers separated by commas, `-` for all. Where
the kernel cannot tell a process of its parent's death (it can on Linux), the run goes on alone.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: str, cores: str, *arguments: str) -> None:
    """Becomes `python ARGUMENT...`; does not return."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it died before it could be watched
            sys.exit(128 + signal.SIGTERM)
        if cores != "-":
            os.sched_setaffinity(0, map(int, cores.split(",")))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # Ray's workers block SIGINT
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
