"""Any Minari dataset, as `minari/D4RL/pen/human-v2`: on this machine, or downloaded by Minari.

Minari's own rules: an episode has one observation more than actions, so every step is a transition;
`terminations` stop bootstrapping, `truncations` do not. Observations in dictionaries (goal
environments) are flattened as `envs.flatten` says, in the environment alike. Minari's "D4RL/..."
sets are not D4RL's data: they were collected or replayed anew, and are never compared with scores
published on D4RL.
"""

import contextlib
import io
import os
import pathlib
from typing import Any

import numpy as np

from iql_jax.data.raw import RawDataset
from iql_jax.envs import minari_env
from iql_jax.errors import InputError


def load_minari(name: str, data_dir: str | os.PathLike[str] | None = None) -> RawDataset:
    """Return the transitions of the dataset `minari/ID`.

    Args:
      name: e.g. `minari/D4RL/pen/human-v2`.
      data_dir: the folder of all Minari datasets; None: Minari's own.

    Raises:
      InputError: Minari is not installed, or the dataset cannot be had, read or flattened.
    """
    from iql_jax.envs.flatten import flatten_rows, num_numbers

    root = None if data_dir is None else pathlib.Path(data_dir)
    if not (minari_env.dataset_folder(name, root) / "data").is_dir():
        _download(name, root)
    dataset = minari_env.open_dataset(name, root)
    try:
        widths = num_numbers(dataset.observation_space), num_numbers(dataset.action_space)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    total = int(dataset.total_steps)
    if total == 0:
        raise InputError(f"{name}: has no steps; nothing can be learned from it")
    observations = np.empty((total, widths[0]), np.float32)
    following = np.empty_like(observations)
    actions = np.empty((total, widths[1]), np.float32)
    rewards, masks = np.empty(total, np.float32), np.empty(total, np.float32)
    ends = np.zeros(total, np.bool_)
    start = 0
    for episode in dataset.iterate_episodes():
        rows = slice(start, start + len(episode.rewards))
        seen = flatten_rows(dataset.observation_space, episode.observations)
        if len(seen) != rows.stop - rows.start + 1:
            raise InputError(
                f"{name}: episode {episode.id} has {len(seen)} observations and "
                f"{len(episode.rewards)} rewards; there must be one observation more"
            )
        observations[rows], following[rows] = seen[:-1], seen[1:]
        actions[rows] = flatten_rows(dataset.action_space, episode.actions)
        rewards[rows] = episode.rewards
        masks[rows] = 1.0 - np.asarray(episode.terminations, np.float32)
        start = rows.stop
        if start:
            ends[start - 1] = True
    return RawDataset(
        name=name,
        source=_source(dataset),
        observations=observations,
        actions=actions,
        rewards=rewards,
        masks=masks,
        next_observations=following,
        ends=ends,
        env_name=name if minari_env.has_environment(dataset) else None,
        extras={"metadata": _plain(dataset.storage.metadata)},
    )


def _download(name: str, root: pathlib.Path | None) -> None:
    """Have Minari download the dataset into its own folder.

    Raises:
      InputError: it cannot.
    """
    minari = minari_env.minari_package()
    bare = name.removeprefix(minari_env.PREFIX)
    where = minari_env.dataset_folder(name, root)
    if root is not None:
        raise InputError(f"'{name}' is not on this machine (looked for in {where})")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            minari.download_dataset(bare)
    except Exception as error:  # of the network, the remote storage, or a name that is not there
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"'{name}' is not on this machine (looked for in {where}), and Minari cannot download "
            f"it: {reason}; `minari list remote` shows the names there are"
        ) from error


def _source(dataset: Any) -> str:
    metadata = dataset.storage.metadata
    parts = [f"Minari {dataset.id}"]
    if dataset.env_spec is not None:
        parts.append(f"collected in {dataset.env_spec.id}")
    authors = metadata.get("author")
    if authors:
        parts.append("by " + ", ".join([authors] if isinstance(authors, str) else authors))
    return ", ".join(parts)


def _plain(metadata: Any) -> dict[str, Any]:
    return {
        key: value
        for key, value in dict(metadata).items()
        if isinstance(value, str | int | float | bool)
    }
