"""Where a run lives: a new directory, or one to continue, never one to overwrite."""

import dataclasses
import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iql_jax.config import RunConfig
from iql_jax.errors import InputError
from iql_jax.report.records import to_json

RESUME_CHOICES = ("never", "auto", "must")

# What a process leaves that was killed before `config.json`, which makes a run of a directory.
_BEGUN = ("run.lock", ".writable", "record.json", "record.json.partial", "config.json.partial")

# What may differ when a run is continued: how far it goes and what it reports on the way.
CHANGEABLE = ("max_steps", "log_interval", "eval_interval")


def prepare(
    save_dir: str | None, resume: str, dataset: str, agent: str, identity: Mapping[str, Any]
) -> Path:
    """Returns the run's directory, made if new; `holds_run` says whether to continue there.

    Args:
      save_dir: the directory; None makes a new one, `runs/<dataset>/<agent>/<time>`.
      resume: `never` refuses a directory that holds a run, `auto` continues it if there is one,
        `must` refuses a directory in which none was ever begun.
      dataset: for the name of a new directory.
      agent: likewise.
      identity: `{"config": {...}, "flags": {...}}` as `config.json` holds it.

    Raises:
      InputError: the directory holds another run or other files, or cannot be written.
    """
    if save_dir is None:
        if resume == "must":
            raise InputError("--resume needs --save_dir=DIR, the directory of the run to continue")
        return _new_directory(Path("runs") / dataset.strip("/").replace("/", "-") / agent)
    path = Path(save_dir).expanduser()
    if holds_run(path):
        if resume == "never":
            raise InputError(
                f"'{path}' already holds a run; continue it with --resume, or choose another "
                "--save_dir"
            )
        _check_identity(path, identity)
        return path
    found = {file.name for file in path.iterdir()} if path.is_dir() else set()
    if resume == "must" and not found.intersection(_BEGUN):
        raise InputError(f"'{path}' holds no run to resume; leave out --resume to start one there")
    if found.difference(_BEGUN):
        raise InputError(f"'{path}' is not empty and holds no run; choose another --save_dir")
    _make(path)
    return path


def holds_run(path: Path) -> bool:
    """Returns whether a run was begun in a directory, so that there is something to continue."""
    return (path / "config.json").is_file()


def _new_directory(parent: Path) -> Path:
    """Returns a new directory named by the time, with a number where that is taken."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ["", *(f"-{i}" for i in range(2, 1000))]:
        path = parent / (now + suffix)
        if not path.exists():
            _make(path)
            return path
    raise InputError(f"'{parent}' holds a thousand runs of this second; name a --save_dir")


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # another process may make a run there just now
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            f"cannot write into save directory '{path}': {reason}; choose another --save_dir"
        ) from error


def _check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Checks that the run in `path` computes what is asked for.

    Raises:
      InputError: shows each setting that differs.
    """
    try:
        saved = json.loads((path / "config.json").read_text())
        # A setting added since then has its default, which is what that run did.
        saved = {**to_json(RunConfig()), **saved["config"], **saved["flags"]}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{path}/config.json' cannot be read: {error}") from error
    asked = to_json({**identity["config"], **identity["flags"]})
    differences = [
        f"{name} was {saved.get(name)!r} and is now {asked.get(name)!r}"
        for name in sorted(saved.keys() | asked.keys())
        if name not in CHANGEABLE and saved.get(name) != asked.get(name)
    ]
    if differences:
        raise InputError(
            f"'{path}' holds a run with other settings: {'; '.join(differences)}; continue it with "
            f"its own settings (only {', '.join(CHANGEABLE)} may change) or choose another "
            "--save_dir"
        )


def check_fingerprint(path: Path, dataset: Mapping[str, Any]) -> None:
    """Checks that the data is still what the run in `path` was started with.

    Raises:
      InputError: shows what was there and what is there now.
    """
    try:
        saved = json.loads((path / "record.json").read_text())["dataset"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{path}/record.json' cannot be read: {error}") from error
    if saved["fingerprint"] != dataset["fingerprint"]:
        raise InputError(
            f"the data of '{path}' has changed: {saved['name']} had {saved['rows']} rows and "
            f"fingerprint {saved['fingerprint']}, {dataset['name']} now has {dataset['rows']} rows "
            f"and fingerprint {dataset['fingerprint']}; restore the data or choose another "
            "--save_dir"
        )


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes what is computed.

    Attributes:
      save_dir: the run's directory; None for a new one under `runs/`.
      resume: one of `RESUME_CHOICES`.
      evaluate: whether to evaluate in an environment.
      checkpoint_seconds: time between checkpoints, which cannot change what is computed; there is
        one at each evaluation and at the end too.
      on_nan: `stop` ends the run when a member's training is no longer finite, `drop` goes on
        with the others.
      wandb: `report.wandb_logger.Settings`, or None.
      tensorboard: whether to write TensorBoard's event files.
      data_location: `device` keeps the dataset on the device; `host` keeps it in a memory-mapped
        file and brings batches to the device as they are needed, for data larger than that.
      eval_candidates: further ways to act that each evaluation scores, of an agent that chooses
        among candidates: `16`, `64:implicit`.
      evaluate_beside: `always` evaluates a copy of the states in a thread while training goes on,
        `never` lets training wait, `auto` is the former where it gains: on accelerators.
      record_video: whether to write a video of an evaluation episode at the end.
    """

    save_dir: str | None = None
    resume: str = "never"
    evaluate: bool = True
    checkpoint_seconds: float = 60.0
    on_nan: str = "stop"
    wandb: Any = None
    tensorboard: bool = False
    data_location: str = "device"
    eval_candidates: tuple[str, ...] = ()
    evaluate_beside: str = "auto"
    record_video: bool = False
