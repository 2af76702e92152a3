"""An entry point that takes no time: what it does is decided by the name of its config.

`quick` finishes at once. `slow` hangs the first time, until it is told to save, and then finishes.
`bad` fails. To finish is to leave the files of the run named by --finished_run.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])
    if "only_check_args" in flags:
        return 0
    what, save_dir = Path(flags["config"]).stem, Path(flags["save_dir"])
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    print(f"{what} on cores {cores}", flush=True)
    if what == "bad":
        print("error: no such data", "and then a notice", sep="\n", flush=True)
        return 2
    begun = save_dir / "begun"
    if what == "slow" and not begun.exists():
        signal.signal(signal.SIGTERM, lambda *_: save(begun))
        save_dir.mkdir(parents=True)
        (save_dir / "pid.partial").write_text(str(os.getpid()))
        (save_dir / "pid.partial").rename(save_dir / "pid")
        time.sleep(300)
    shutil.copytree(flags["finished_run"], save_dir, dirs_exist_ok=True)
    return 0


def save(begun: Path) -> None:
    begun.touch()
    print("stopped by SIGTERM", flush=True)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
