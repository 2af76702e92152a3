"""What a sweep consists of: its runs, their commands, and which of them are finished."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import iql_jax
from iql_jax.config import RunConfig, from_config_dict
from iql_jax.errors import InputError

REPOSITORY = Path(iql_jax.__file__).resolve().parent.parent
_RECORD = "sweep.json"

# Flags that tell the runs of a grid apart, by what the sweep calls them.
_OWN_FLAGS = {
    "config": "--configs",
    "env_name": "--envs",
    "save_dir": "--root",
    "resume": "nothing: every run is resumed",
    "noresume": "nothing: every run is resumed",
    "seed": "--seed before the --",
    "num_seeds": "--num_seeds before the --",
}
# Sources whose names depend on files or servers that only the run can look for.
_OPEN_SOURCES = ("auctionnet", "file", "minari")


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a grid: a config in an environment, its seeds trained together.

    Attributes:
      name: of its directory below the sweep's root.
      root: of the sweep.
      script: the entry point.
      flags: what it computes; where and whether to resume comes on top.
    """

    name: str
    root: Path
    script: Path
    flags: tuple[str, ...]

    @property
    def run_dir(self) -> Path:
        """The directory of the run."""
        return self.root / self.name

    @property
    def log(self) -> Path:
        """The file that has what the run printed."""
        return self.root / f"{self.name}.log"

    @property
    def arguments(self) -> list[str]:
        """The command, less the interpreter."""
        return [str(self.script), *self.flags, f"--save_dir={self.run_dir}", "--resume=auto"]


def make_jobs(
    root: Path,
    configs: Sequence[str],
    env_names: Sequence[str],
    seed: int,
    num_seeds: int,
    seeds_per_run: int | None = None,
    flags: Sequence[str] = (),
) -> list[Job]:
    """Returns the runs of a grid: each config in each environment.

    Args:
      root: the directory of the sweep.
      configs: paths of config files.
      env_names: environments; none for each config's own.
      seed: the first seed.
      num_seeds: how many, from there on.
      seeds_per_run: how many of them one run trains together; None for all.
      flags: for every run.

    Raises:
      InputError: a config cannot be used, an environment or its data does not exist, a flag is
        not for single runs, or two runs would share a directory.
    """
    for name, value in (("num_seeds", num_seeds), ("seeds_per_run", seeds_per_run)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, but must be a count of at least 1")
    if seed < 0:
        raise InputError(f"seed is {seed}, but must be at least 0")
    _check_flags(flags)
    per_run = seeds_per_run or num_seeds
    jobs: dict[str, Job] = {}
    for path in configs:
        config = read_config(path)
        own_data = config.dataset is not None or _has_flag(flags, "dataset")
        for env_name in env_names or [config.env_name]:
            check_env(env_name, own_data, evaluated="--noevaluate" not in flags)
            for first in range(seed, seed + num_seeds, per_run):
                count = min(per_run, seed + num_seeds - first)
                name = f"{_folder(env_name)}/{_config_name(path)}"
                if count < num_seeds:
                    name += f".seeds_{first}-{first + count - 1}"
                if name in jobs:
                    raise InputError(
                        f"two runs of the grid would be '{root / name}'; name each config and "
                        "environment once, and give config files different names"
                    )
                jobs[name] = Job(
                    name=name,
                    root=root,
                    script=_script(config),
                    flags=(
                        f"--config={path}",
                        f"--env_name={env_name}",
                        f"--seed={first}",
                        f"--num_seeds={count}",
                        *flags,
                    ),
                )
    return list(jobs.values())


def _check_flags(flags: Sequence[str]) -> None:
    for flag in flags:
        name = flag.lstrip("-").partition("=")[0]
        if flag.startswith("-") and name in _OWN_FLAGS:
            raise InputError(
                f"{flag!r} after -- would be the same for every run of the sweep; use "
                f"{_OWN_FLAGS[name]}"
            )


def _has_flag(flags: Sequence[str], name: str) -> bool:
    return any(flag == f"--{name}" or flag.startswith(f"--{name}=") for flag in flags)


def read_config(path: str) -> RunConfig:
    """Returns the settings of a config file; `PATH:ARGUMENT` hands it an argument.

    Raises:
      InputError: there is no such file, or it does not hold a config.
    """
    file, colon, argument = path.partition(":")
    if not Path(file).is_file():
        known = sorted(config.name for config in (REPOSITORY / "configs").glob("*.py"))
        raise InputError(
            f"there is no config file {file!r}; this project has "
            + ", ".join(f"configs/{name}" for name in known)
        )
    spec = importlib.util.spec_from_file_location("iql_jax_sweep_config", file)
    if spec is None or spec.loader is None:
        raise InputError(f"config file {file!r} is no Python file; its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return from_config_dict(module.get_config(*[argument] * bool(colon)))
    except Exception as error:  # the file is the user's, and may fail in any way
        raise InputError(
            f"config file {file!r} cannot be used: {type(error).__name__}: {error}"
        ) from error


def check_env(env_name: str, own_data: bool, evaluated: bool) -> None:
    """Checks that a run can be asked for in this environment, without loading anything.

    Args:
      env_name: the environment, and the dataset unless the run has its own.
      own_data: whether it has.
      evaluated: whether runs act in the environment.

    Raises:
      InputError: there is no such environment or dataset.
    """
    from iql_jax import data, envs

    if own_data:
        if evaluated and not envs.exists(env_name):
            envs.make(env_name).close()  # says what is wrong with the name
        return
    source, slash, _ = env_name.partition("/")
    known = data.known_names()
    if env_name in known or f"d4rl/{env_name}" in known or (slash and source in _OPEN_SOURCES):
        return
    if not slash or not envs.exists(env_name):
        data.load(env_name)  # says what is wrong with the name


def _script(config: RunConfig) -> Path:
    """Returns the entry point that a config is for.

    Raises:
      InputError: the package is installed without it.
    """
    name = "train_offline.py" if config.online is None else "train_finetune.py"
    if not (REPOSITORY / name).is_file():
        raise InputError(
            f"'{REPOSITORY}' has no {name}: a sweep runs from a checkout of the project, not from "
            "an installed package"
        )
    return REPOSITORY / name


def _folder(env_name: str) -> str:
    return env_name.strip("/").replace("/", "-")


def _config_name(path: str) -> str:
    file, colon, argument = path.partition(":")
    return Path(file).stem + colon.replace(":", "-") + argument.replace("/", "-")


def check_arguments(jobs: Sequence[Job]) -> None:
    """Checks the spelling of the flags by asking each config's entry point.

    Raises:
      InputError: what the entry point said.
    """
    by_config = {job.flags[0]: job for job in jobs}
    for job in by_config.values():
        asked = subprocess.run(
            [sys.executable, *job.arguments, "--only_check_args"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if asked.returncode:
            said = asked.stderr.strip().splitlines() or [f"{job.script.name} refuses the flags"]
            raise InputError(said[-1].removeprefix("error: "))


def is_finished(run_dir: Path) -> bool:
    """Returns whether a run reached its last update, as its `results.json` says."""
    try:
        return json.loads((run_dir / "results.json").read_text())["finished"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Record:
    """Which runs a sweep saw finish with which flags, kept in its root.

    A run whose flags have changed since is not taken for finished: it is up to its entry point
    whether it goes on from there (more updates), or refuses (other seeds).
    """

    def __init__(self, root: Path):
        self._path = root / _RECORD
        self._flags: dict[str, list[str]] = {}
        try:
            stored: Mapping[str, Any] = json.loads(self._path.read_text())
            self._flags = dict(stored["finished"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a run asked for again only finds that nothing is left to do

    def has(self, job: Job) -> bool:
        """Returns whether a run finished, and with these flags."""
        return self._flags.get(job.name) == list(job.flags) and is_finished(job.run_dir)

    def add(self, job: Job) -> None:
        """Notes that a run finished.

        Raises:
          InputError: the record cannot be written.
        """
        from iql_jax.report.files import write_atomic

        self._flags[job.name] = list(job.flags)
        write_atomic(self._path, json.dumps({"finished": self._flags}, indent=1) + "\n")
