"""A run read back from its directory: what it was, and its members' states."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from iql_jax import agents
from iql_jax.config import RunConfig, from_fields
from iql_jax.errors import InputError
from iql_jax.training import population
from iql_jax.training.checkpoint import Checkpoints
from iql_jax.training.members import Member, settings_of
from iql_jax.training.problem import Transforms


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """What a run directory says of a run, finished or not.

    Attributes:
      path: the directory.
      config: what it computes.
      members: seeds, and hyper-parameters in which they differ from the configuration.
      transforms: as fitted on its data.
      env_name: the environment it is evaluated in; None if it trains without.
      observation_dim, action_dim: O and A.
    """

    path: Path
    config: RunConfig
    members: list[Member]
    transforms: Transforms
    env_name: str | None
    observation_dim: int
    action_dim: int

    @property
    def agent(self) -> agents.Agent:
        """The agent's module."""
        return agents.get(self.config.agent)

    @property
    def agent_config(self) -> Any:
        """The agent's static configuration."""
        return self.agent.make_config(self.config.settings(), self.observation_dim, self.action_dim)


@dataclasses.dataclass(frozen=True)
class SavedStates:
    """A checkpoint of a run.

    Attributes:
      update: updates done when it was made.
      states: states of P members, NumPy leaves.
      dropped: members whose training was no longer finite.
    """

    update: int
    states: Any
    dropped: list[int]


def open_run(run_dir: str | Path) -> SavedRun:
    """Returns the run in a directory.

    Raises:
      InputError: it holds none, or its records are damaged or of a newer version.
    """
    path = Path(run_dir).expanduser()
    if not (path / "config.json").is_file():
        raise InputError(f"'{path}' is no run directory: it has no config.json")
    saved, record = _read(path / "config.json"), _read(path / "record.json")
    try:
        fitted = Transforms.from_dict(record["transforms"])
        return SavedRun(
            path=path,
            config=_config(path, saved["config"]),
            members=[Member(**member) for member in saved["flags"]["members"]],
            transforms=fitted,
            env_name=record["env_name"],
            observation_dim=len(fitted.observation.mean),
            action_dim=len(fitted.action.low),
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the records of '{path}' are not what this version writes ({error!r}); restore them, "
            "or use the version that wrote them"
        ) from error


def restore(run: SavedRun, update: int | str | None = None) -> SavedStates:
    """Returns a checkpoint of a run, verified.

    Args:
      run: the run.
      update: the update of the checkpoint; `last` (and None) or `best`, by score.

    Raises:
      InputError: there is no such checkpoint, or it is damaged.
    """
    with Checkpoints(run.path / "checkpoints", say=_say) as checkpoints:
        wanted = _choose(run, checkpoints, update)
        restored = checkpoints.restore(_template(run), wanted)
    return SavedStates(restored.update, restored.arrays, restored.host["dropped"])


def check_member(run: SavedRun, saved: SavedStates, member: int) -> None:
    """Returns if a member exists and can act.

    Raises:
      InputError: it does not, or its training was no longer finite.
    """
    if not 0 <= member < len(run.members):
        raise InputError(
            f"member {member} does not exist: '{run.path}' has {len(run.members)}, counted from 0"
        )
    if member in saved.dropped:
        raise InputError(
            f"member {member} of '{run.path}' was dropped before update {saved.update:,}: its "
            "training was no longer finite; choose another"
        )


def _choose(run: SavedRun, checkpoints: Checkpoints, update: int | str | None) -> int | None:
    """Returns the update of the checkpoint, None for the newest undamaged one."""
    if update is None or update == "last":
        return None
    if update == "best":
        best = checkpoints.best()
        if best is None:
            raise InputError(
                f"no checkpoint of '{run.path}' has a score, so none is the best; use the last"
            )
        return best
    if isinstance(update, int):
        return update
    raise InputError(f"checkpoint {update!r} is none of best, last or the number of an update")


def _template(run: SavedRun) -> Any:
    """Returns shapes and dtypes of the states of all members; nothing is computed."""

    def init() -> Any:
        made = [
            run.agent.make_hyperparameters(settings_of(run.config, member))
            for member in run.members
        ]
        hyper = population.stack_hyperparameters(made)
        keys = jax.vmap(jax.random.key)(jnp.zeros(len(made), jnp.uint32))
        return jax.vmap(lambda *member: run.agent.init(run.agent_config, *member))(hyper, keys)

    return jax.eval_shape(init)


def _config(path: Path, fields: dict[str, Any]) -> RunConfig:
    known = {field.name for field in dataclasses.fields(RunConfig)}
    unknown = sorted(fields.keys() - known)
    if unknown:
        raise InputError(
            f"'{path}/config.json' has the setting {unknown[0]!r}, which this version does not "
            "know; use the version that wrote it"
        )
    return from_fields(fields)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read: {error}; restore it from a copy") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
