"""Who is in a population: seeds, and the grid of hyper-parameters they are crossed with."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from iql_jax import data
from iql_jax.agents import Hyperparameters
from iql_jax.config import RunConfig, validate
from iql_jax.errors import InputError, did_you_mean

# What members can differ in: numbers that are leaves of the state.
SWEEPABLE = tuple(
    field.name for field in dataclasses.fields(Hyperparameters) if field.name != "actor_decay_steps"
)


@dataclasses.dataclass(frozen=True)
class Member:
    """A seed, and the settings in which this member differs from the configuration.

    Those are hyper-parameters, and where the dataset is that of several tasks `task`, from 1.
    """

    seed: int
    overrides: Mapping[str, float]

    @property
    def task(self) -> int | None:
        """The member's task, counted from 0; None where there is one."""
        return int(self.overrides["task"]) - 1 if "task" in self.overrides else None


def plan_members(
    config: RunConfig, seed: int, num_seeds: int, sweep: str | None = None
) -> list[Member]:
    """Returns the members of a run: every task, point of the grid and seed, seeds fastest.

    Args:
      config: the settings that all members share.
      seed: the first seed; the others follow it.
      num_seeds: seeds per point of the grid.
      sweep: a grid such as `expectile=0.7,0.9; temperature=1,3,10`; None for none.

    Raises:
      InputError: counts below 1, or a sweep over what is no hyper-parameter.
    """
    if num_seeds < 1:
        raise InputError(f"num_seeds is {num_seeds}, but must be a count of at least 1")
    if not 0 <= seed <= 2**32 - num_seeds:
        raise InputError(f"seed is {seed}, but must be in [0, 2**32 - num_seeds]")
    grid = parse_sweep(sweep) if sweep else {}
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for point in points:
        validate(dataclasses.replace(config, **point))  # type: ignore[arg-type]
    num_tasks = len(data.tasks(config.dataset_name))
    if num_tasks:
        points = [{"task": k + 1} | point for k in range(num_tasks) for point in points]
    return [Member(seed + i, point) for point in points for i in range(num_seeds)]


def parse_sweep(sweep: str) -> dict[str, Sequence[float]]:
    """Returns the values of each hyper-parameter of a grid `name=v,v,...; name=v,...`.

    Raises:
      InputError: not of that form, or an unknown name.
    """
    grid: dict[str, Sequence[float]] = {}
    for part in filter(None, (part.strip() for part in sweep.split(";"))):
        name, equals, values = (text.strip() for text in part.partition("="))
        if name not in SWEEPABLE:
            raise InputError(
                f"sweep over {name!r} is not possible{did_you_mean(name, SWEEPABLE)}; "
                f"one program can differ in {', '.join(SWEEPABLE)}"
            )
        try:
            grid[name] = [float(value) for value in values.split(",")]
        except ValueError:
            raise InputError(f"sweep {part!r} is not of the form name=number,number,...") from None
        if not equals or (name in grid and len(set(grid[name])) < len(grid[name])):
            raise InputError(f"sweep {part!r} names a value twice")
    return grid


def settings_of(config: RunConfig, member: Member) -> dict[str, Any]:
    """Returns every setting of a member by name."""
    return config.settings() | dict(member.overrides)
