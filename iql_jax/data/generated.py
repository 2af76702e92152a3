"""Datasets made on this machine by walking controllers, as `generated/antmaze-umaze-v0` and so on.

They need no download and are real physics, in D4RL's file layout. They are made once, on all
cores, and cached; the same seed gives the same rows whatever the number of cores.
"""

import argparse
import contextlib
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from iql_jax.data import d4rl, reader
from iql_jax.data.raw import RawDataset
from iql_jax.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import h5py

    from iql_jax.envs import collecting

# Raised whenever the rows of a seed change, so that no file of older rows is taken for new ones.
VERSION = 2

_NUM_TRANSITIONS = {
    "generated/pointmaze-umaze-v0": 200_000,
    "generated/pointmaze-medium-v0": 200_000,
    "generated/pointmaze-large-v0": 200_000,
    "generated/antmaze-umaze-v0": 300_000,
    "generated/antmaze-umaze-diverse-v0": 300_000,
    "generated/antmaze-medium-play-v0": 500_000,
    "generated/antmaze-medium-diverse-v0": 500_000,
    "generated/antmaze-large-play-v0": 500_000,
    "generated/antmaze-large-diverse-v0": 500_000,
}
NAMES = tuple(_NUM_TRANSITIONS)


def load_generated(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    num_transitions: int | None = None,
    seed: int = 0,
    num_workers: int | None = None,
) -> RawDataset:
    """Return the generated dataset `name`, made first if it is not in the cache.

    Args:
      name: one of `NAMES`.
      data_dir: the cache; None: `$IQL_JAX_DATA_DIR` or `~/.cache/iql_jax/generated`.
      num_transitions: at least so many transitions, in whole trajectories; None: the dataset's own
        number.
      seed: of everything random in it.
      num_workers: threads that make trajectories; None: one per core. Changes no number.

    Raises:
      InputError: if the name is unknown, a number is out of range, or the cache cannot be written
        or read.
    """
    _check(name, num_transitions, seed, num_workers)
    if num_transitions is None:
        num_transitions = _NUM_TRANSITIONS[name]
    path = data_folder(data_dir) / file_name(name, num_transitions, seed)
    if not path.is_file():
        with _exclusive(path):
            if not path.is_file():  # another process may have made it meanwhile
                _make(path, name, num_transitions, seed, num_workers)
                print(describe(read_metadata(path)), flush=True)
    metadata = read_metadata(path)
    return d4rl.read_dataset(
        path,
        name=name,
        source=str(metadata.get("note", "generated")),
        env_name=name,
        max_episode_steps=None,
        extras={"path": str(path.absolute()), "metadata": metadata},
    )


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Return the cache: `data_dir`, `$IQL_JAX_DATA_DIR` or one in the user's home."""
    chosen = data_dir or os.environ.get("IQL_JAX_DATA_DIR") or "~/.cache/iql_jax/generated"
    return pathlib.Path(chosen).expanduser()


def file_name(name: str, num_transitions: int, seed: int) -> str:
    """Return the name of the cached file, in which all that decides its rows is named."""
    stem = name.removeprefix("generated/")
    return f"{stem}-{num_transitions}-seed{seed}-generator{VERSION}.hdf5"


def default_path(name: str) -> pathlib.Path:
    """Return where the dataset `name` is kept when it is loaded by name alone."""
    return data_folder() / file_name(name, _NUM_TRANSITIONS[name], 0)


def read_metadata(path: pathlib.Path) -> dict[str, Any]:
    """Return what a generated file says of itself: how it was made, and its statistics.

    Raises:
      InputError: if the file cannot be read.
    """
    with reader.open_file(path) as file:
        attributes = file["metadata"].attrs if "metadata" in file else {}
        return {
            key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value
            for key, value in attributes.items()
        }


def describe(metadata: Mapping[str, Any]) -> str:
    """Return one line of a generated file's statistics."""
    fell = f", fell in {metadata['fell_share']:.1%}" if "antmaze" in metadata["name"] else ""
    return (
        f"{metadata['name']}: {metadata['num_rows']:,} rows in {metadata['num_trajectories']:,} "
        f"trajectories, {metadata['rewarded_share']:.2%} of the rows rewarded; the controller "
        f"reached its goal in {metadata['reached_share']:.1%} of the trajectories{fell}; made in "
        f"{metadata['seconds']:.1f} s by {metadata['num_workers']} threads, "
        f"seed {metadata['seed']}"
    )


def _check(name: str, num_transitions: int | None, seed: int, num_workers: int | None) -> None:
    if name not in _NUM_TRANSITIONS:
        raise InputError(
            f"unknown generated dataset '{name}'{did_you_mean(name, NAMES)} "
            f"(known: {', '.join(NAMES)})"
        )
    for label, number, least in (
        ("num_transitions", num_transitions, 1),
        ("seed", seed, 0),
        ("num_workers", num_workers, 1),
    ):
        if number is not None and number < least:
            raise InputError(f"{label} is {number}; it must be {least} or more")


@contextlib.contextmanager
def _exclusive(path: pathlib.Path) -> Iterator[None]:
    """Hold off other processes from making the same file, so that the work is done once.

    Raises:
      InputError: if the folder cannot be written.
    """
    import fcntl  # POSIX only, so not on import

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path.with_name(f".{path.name}.lock"), "w")  # noqa: SIM115  closed below
    except OSError as error:
        raise _unwritable(path, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed when the file closes, also by a killed process
        yield


def _unwritable(path: pathlib.Path, error: OSError) -> InputError:
    return InputError(
        f"generated data cannot be written to '{path.parent}': {error}; name another folder with "
        "IQL_JAX_DATA_DIR"
    )


def _make(
    path: pathlib.Path, name: str, num_transitions: int, seed: int, num_workers: int | None
) -> None:
    """Make the file whole or not at all; the caller holds its lock."""
    part = path.with_name(f".{path.name}.part")
    try:
        _write(part, name, num_transitions, seed, num_workers)
        os.replace(part, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _write(
    path: pathlib.Path, name: str, num_transitions: int, seed: int, num_workers: int | None
) -> None:
    """Write the trajectories as they are made, and last the statistics."""
    import h5py
    import mujoco

    from iql_jax.envs import collecting

    rules = collecting.protocol(name)
    num_trajectories = -(-num_transitions // rules.num_steps)
    if num_workers is None:
        # A step of the ball is so short that threads would only wait for the interpreter.
        num_workers = _available_cores() if rules.is_ant else 1
    start = time.perf_counter()
    with h5py.File(path, "w") as file:
        statistics = _collect_into(file, name, rules, num_trajectories, seed, num_workers)
        file.create_group("metadata").attrs.update(
            name=name,
            note=f"generated by iql_jax (generator {VERSION}, seed {seed}): {num_trajectories} "
            "trajectories of a controller that follows shortest-path waypoints, action noise "
            f"{rules.noise}, in {rules.physics}; not D4RL's data",
            generator_version=VERSION,
            seed=seed,
            mujoco_version=mujoco.__version__,
            num_workers=num_workers,
            seconds=time.perf_counter() - start,
            **statistics,
        )


def _collect_into(
    file: "h5py.File",
    name: str,
    rules: "collecting.Protocol",
    num_trajectories: int,
    seed: int,
    num_workers: int,
) -> dict[str, Any]:
    """Fill `file` with trajectories, each from its own seed, and return their statistics."""
    from tqdm import tqdm

    from iql_jax.envs import collecting

    length = rules.num_steps + 1
    num_rows = num_trajectories * length
    columns = _create_columns(file, rules, num_rows)
    columns["timeouts"][length - 1 :: length] = True
    rewarded = reached = fell = 0

    def collect(trajectory_seed: np.random.SeedSequence) -> collecting.Trajectory:
        return collecting.collect(name, np.random.default_rng(trajectory_seed))

    seeds = np.random.SeedSequence(seed).spawn(num_trajectories)
    with (
        ThreadPoolExecutor(num_workers) as pool,
        # Closed first: on an interrupt that drops the trajectories not yet begun.
        contextlib.closing(pool.map(collect, seeds)) as trajectories,  # type: ignore[type-var]
        tqdm(total=num_rows, desc=name, unit=" rows", unit_scale=True, disable=None) as progress,
    ):
        for i, trajectory in enumerate(trajectories):
            rows = slice(i * length, (i + 1) * length)
            columns["observations"][rows] = trajectory.observations
            columns["actions"][rows] = trajectory.actions
            columns["rewards"][rows] = trajectory.rewards
            columns["terminals"][rows] = trajectory.rewards > 0
            columns["infos/goal"][rows] = trajectory.target
            columns["infos/qpos"][rows] = trajectory.observations[:, : rules.num_positions]
            columns["infos/qvel"][rows] = trajectory.observations[:, rules.num_positions :]
            rewarded += int(trajectory.rewards.sum())
            reached += trajectory.reached
            fell += trajectory.fell
            progress.update(length)
    return {
        "num_rows": num_rows,
        "num_trajectories": num_trajectories,
        "rewarded_share": rewarded / num_rows,
        "reached_share": reached / num_trajectories,
        "fell_share": fell / num_trajectories,
        "reward_xy": rules.reward_xy,
    }


def _create_columns(
    file: "h5py.File", rules: "collecting.Protocol", num_rows: int
) -> dict[str, "h5py.Dataset"]:
    """Create D4RL's columns, empty, and return them by key.

    A row's `terminals` follow its reward but cut nothing, as in D4RL's AntMaze; `infos` are those
    of the row's observation.
    """
    widths = {
        "observations": rules.num_positions + rules.num_velocities,
        "actions": rules.num_actions,
        "rewards": 0,
        "terminals": 0,
        "timeouts": 0,
        "infos/goal": 2,
        "infos/qpos": rules.num_positions,
        "infos/qvel": rules.num_velocities,
    }
    return {
        key: file.create_dataset(
            key,
            shape=(num_rows, width) if width else (num_rows,),
            dtype=np.bool_ if key in ("terminals", "timeouts") else np.float32,
        )
        for key, width in widths.items()
    }


def _available_cores() -> int:
    """Return the cores this process may use, where the system tells; else the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main() -> None:
    """Make the datasets named on the command line, or say that they are there."""
    parser = argparse.ArgumentParser(
        description="Make generated datasets.", epilog=", ".join(NAMES)
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="a dataset, listed below")
    parser.add_argument("--data_dir", help="the cache's folder")
    parser.add_argument("--num_transitions", type=int, help="default: the dataset's own number")
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args())
    for name in arguments.pop("names"):
        try:
            raw = load_generated(name, **arguments)
        except InputError as error:
            parser.exit(2, f"{error}\n")
        print(raw.extras["path"])


if __name__ == "__main__":
    main()
