"""OGBench's single-task environments, by the names of the datasets they go with."""

import contextlib
import dataclasses
import io
import re
from typing import TYPE_CHECKING, Any

from iql_jax.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import gymnasium

PREFIX = "ogbench/"
GENERATED_PREFIX = "generated/ogbench-"
NUM_TASKS = 5
_INSTALL = 'pip install "ogbench>=1.2,<1.3" "dm-control<1.0.37" "mujoco<3.5"'
_KINDS = {
    "antmaze-medium": ("navigate", "stitch", "explore"),
    "antmaze-large": ("navigate", "stitch", "explore"),
    "antmaze-giant": ("navigate", "stitch"),
    "antmaze-teleport": ("navigate", "stitch", "explore"),
    "humanoidmaze-medium": ("navigate", "stitch"),
    "humanoidmaze-large": ("navigate", "stitch"),
    "humanoidmaze-giant": ("navigate", "stitch"),
    "antsoccer-arena": ("navigate", "stitch"),
    "antsoccer-medium": ("navigate", "stitch"),
    "cube-single": ("play", "noisy"),
    "cube-double": ("play", "noisy"),
    "cube-triple": ("play", "noisy"),
    "cube-quadruple": ("play", "noisy"),
    "scene": ("play", "noisy"),
    "puzzle-3x3": ("play", "noisy"),
    "puzzle-4x4": ("play", "noisy"),
    "puzzle-4x5": ("play", "noisy"),
    "puzzle-4x6": ("play", "noisy"),
}
# OGBench's state-based datasets, as its files are called without the version.
DATASETS = tuple(f"{place}-{kind}" for place, kinds in _KINDS.items() for kind in kinds)
NAMES = tuple(
    f"{PREFIX}{dataset}-singletask-task{task}-v0"
    for dataset in DATASETS
    for task in range(1, NUM_TASKS + 1)
)
ALL_TASKS = tuple(f"{PREFIX}{dataset}-singletask-all-v0" for dataset in DATASETS)
_PATTERN = re.compile(
    r"(?P<dataset>.+)-singletask(-(task(?P<task>[1-5])|(?P<all>all)))?-v(?P<version>\d+)"
)


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a name says.

    Attributes:
      file_stem: of the dataset's files, e.g. `antmaze-large-navigate-v0`.
      env_id: OGBench's environment, e.g. `antmaze-large-singletask-task1-v0`.
      task: 1 to 5; None is the task that OGBench calls the default.
      all_tasks: whether the name is for all five at once; `env_id` is then the first's.
      generated: whether the data is made on this machine.
    """

    file_stem: str
    env_id: str
    task: int | None
    all_tasks: bool
    generated: bool


def is_ogbench(name: str) -> bool:
    """Returns whether `name` is for OGBench's loader and environments."""
    return name.startswith((PREFIX, GENERATED_PREFIX))


def parse_name(name: str) -> Parts:
    """Returns the parts of `ogbench/antmaze-large-navigate-singletask-task1-v0` and the like.

    Raises:
      InputError: it is no single-task name.
    """
    generated = name.startswith(GENERATED_PREFIX)
    bare = name.removeprefix(GENERATED_PREFIX).removeprefix(PREFIX)
    match = _PATTERN.fullmatch(bare)
    if match is None and any(bare.startswith(dataset) for dataset in DATASETS):
        raise InputError(
            f"'{name}' names no task of OGBench's: its goal-conditioned sets have no rewards; "
            f"write e.g. {PREFIX}antmaze-large-navigate-singletask-task1-v0 (tasks 1 to 5)"
        )
    if match is None or match["dataset"] not in DATASETS:
        known = [full.removeprefix(PREFIX) for full in NAMES]
        raise InputError(
            f"unknown OGBench dataset '{bare}'{did_you_mean(bare, known)} (known: "
            f"{', '.join(DATASETS)}, each with -singletask-task1-v0 to -task5-v0, or -all-v0)"
        )
    place = match["dataset"].rsplit("-", 1)[0]
    number = 1 if match["all"] else int(match["task"]) if match["task"] else None
    task = "" if number is None else f"-task{number}"
    return Parts(
        file_stem=f"{match['dataset']}-v{match['version']}",
        env_id=f"{place}-singletask{task}-v{match['version']}",
        task=number,
        all_tasks=match["all"] is not None,
        generated=generated,
    )


def task_names(name: str) -> tuple[str, ...]:
    """Returns the names of the five tasks that a name ending in `-singletask-all-v0` is for.

    () for a name of one task.
    """
    if not parse_name(name).all_tasks:
        return ()
    stem, version = name.rsplit("-all-", 1)
    return tuple(f"{stem}-task{task}-{version}" for task in range(1, NUM_TASKS + 1))


def ogbench_package() -> Any:
    """Returns the package `ogbench`, which registers its environments.

    Raises:
      InputError: it is not installed.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            import ogbench
    except ImportError as error:
        raise InputError(
            f"names that begin with {PREFIX} need the package ogbench: {_INSTALL}"
        ) from error
    return ogbench


def make_ogbench(name: str, render_mode: str | None = None) -> "gymnasium.Env":
    """Returns OGBench's environment of the task in `name`; each step tells `info["success"]`.

    Raises:
      InputError: ogbench is not installed, or has no such environment.
    """
    parts = parse_name(name)
    if parts.all_tasks:
        raise InputError(f"'{name}' is five tasks: an environment is of one, {task_names(name)[0]}")
    ogbench_package()
    import gymnasium

    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    try:
        return gymnasium.make(parts.env_id, disable_env_checker=True, **options)
    except (gymnasium.error.Error, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"environment {name!r} cannot be made: {reason}") from error
