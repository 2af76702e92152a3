"""Runs of tiny networks on a small file, and what such a run left, less what clocks decide."""

import csv
import json
import logging
from pathlib import Path

import numpy as np

from iql_jax.config import RunConfig
from iql_jax.training.members import Member

MEMBERS = [Member(seed, {}) for seed in (3, 8)]


def write_data(
    path: Path,
    seed: int = 0,
    num_rows: int = 300,
    observation_dim: int = 3,
    action_dim: int = 1,
    action_bound: float = 2.0,
) -> str:
    """Writes transitions, of Pendulum's sizes unless told, and returns the dataset's name."""
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        observations=rng.normal(size=(num_rows, observation_dim)).astype(np.float32),
        actions=rng.uniform(-action_bound, action_bound, size=(num_rows, action_dim)).astype(
            np.float32
        ),
        rewards=rng.normal(size=num_rows).astype(np.float32),
        terminals=np.arange(num_rows) % 50 == 49,
        next_observations=rng.normal(size=(num_rows, observation_dim)).astype(np.float32),
    )
    return f"file/{path}"


def small_config(dataset: str, **changes) -> RunConfig:
    """Returns a configuration whose rows, evaluations and end lie at different updates."""
    settings = {
        "dataset": dataset,
        "env_name": "Pendulum-v1",
        "action_transform": "rescale",
        "observation_transform": "standardize",
        "hidden_dims": (8, 8),
        "batch_size": 8,
        "max_steps": 100,
        "log_interval": 20,
        "eval_interval": 30,
        "eval_episodes": 2,
    }
    return RunConfig(**settings | changes)


def metrics(run_dir: Path) -> list[dict]:
    """Returns the rows of metrics, less `timing/`."""
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if not k.startswith("timing/")} for row in rows]


def evaluations(run_dir: Path) -> list[dict]:
    """Returns the rows of evaluations, less `wall_seconds`."""
    with open(run_dir / "evaluations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "wall_seconds"} for row in rows]


def stored_arrays(run_dir: Path, update: int | None = None) -> dict[str, np.ndarray]:
    """Returns every array of a checkpoint, the newest by default, read by Orbax alone."""
    import orbax.checkpoint

    folder = run_dir / "checkpoints"
    found = {path: _number(path) for path in folder.glob("update_*")}
    if update is not None:
        found = {path: number for path, number in found.items() if number[0] == update}
    logging.getLogger("absl").setLevel(logging.ERROR)
    checkpointer = orbax.checkpoint.PyTreeCheckpointer(use_zarr3=True)
    arrays = checkpointer.restore(max(found, key=found.__getitem__) / "arrays")
    checkpointer.close()
    return arrays


def _number(path: Path) -> list[int]:
    return [int(number) for number in path.name.removeprefix("update_").split(".")]


def final_arrays(run_dir: Path) -> dict[str, tuple]:
    """Returns every array of the newest checkpoint, exactly."""
    arrays = stored_arrays(run_dir)
    return {k: (v.dtype.name, v.shape, v.tobytes()) for k, v in arrays.items()}


def best_update(run_dir: Path) -> int | None:
    """Returns the update of the checkpoint with the best score."""
    manifests = (run_dir / "checkpoints").glob("update_*/manifest.json")
    facts = [json.loads(path.read_text()) for path in manifests]
    scored = [(fact["score"], fact["update"]) for fact in facts if fact["score"] is not None]
    return max(scored)[1] if scored else None


def contents(run_dir: Path) -> dict:
    """Returns all that a run computed and wrote, to be compared with `==`."""
    results = json.loads((run_dir / "results.json").read_text())
    lived = run_dir / "transitions.bin"  # of finetuning
    for clocked in ("wall_seconds", "evaluation_seconds"):
        del results[clocked]
    return {
        "arrays": final_arrays(run_dir),
        "metrics": metrics(run_dir),
        "evaluations": evaluations(run_dir),
        "histograms": (run_dir / "histograms.jsonl").read_text(),
        "best": best_update(run_dir),
        "results": results,
        "config": json.loads((run_dir / "config.json").read_text()),
        "transitions": lived.read_bytes() if lived.exists() else b"",
    }


def differing(one: dict, other: dict) -> list[str]:
    """Returns which of the contents of two runs differ: [] if none."""
    return [name for name in one if one[name] != other[name]]
