"""Golden files of the authors' code: their parameters as ours, and their batches."""

import json
from typing import Any

import jax.numpy as jnp
import numpy as np

from iql_jax.types import Batch

_LAYERS = {"MLP_0/Dense_0": ("MLP_0", "Dense_0"), "MLP_0/Dense_1": ("MLP_0", "Dense_1")}
ACTOR = _LAYERS | {"Dense_0": ("mean",)}
VALUE = _LAYERS | {"MLP_0/Dense_2": ("head",)}


def _network(arrays: dict[str, np.ndarray], prefix: str, layers: dict[str, tuple]) -> dict:
    params: dict[str, Any] = {}
    for theirs, ours in layers.items():
        node = params
        for part in ours:
            node = node.setdefault(part, {})
        for leaf in ("kernel", "bias"):
            node[leaf] = jnp.asarray(arrays[f"{prefix}/{theirs}/{leaf}"])
    return params


def params(arrays: dict[str, np.ndarray], snapshot: str) -> dict[str, dict]:
    """Returns the parameters of policy, value, q and target_q at a snapshot, in our layout."""

    def critic(name: str) -> dict:
        return {
            "params": {
                f"q{i}": _network(arrays, f"{snapshot}/{name}/Critic_{i}", VALUE) for i in (0, 1)
            }
        }

    policy = _network(arrays, f"{snapshot}/actor", ACTOR)
    policy["log_std"] = jnp.asarray(arrays[f"{snapshot}/actor/log_stds"])
    return {
        "policy": {"params": policy},
        "value": {"params": _network(arrays, f"{snapshot}/value", VALUE)},
        "q": critic("critic"),
        "target_q": critic("target_critic"),
    }


def batch(arrays: dict[str, np.ndarray], update: int) -> Batch:
    """Returns the batch of an update, counted from 0."""
    fields = ("observations", "actions", "rewards", "masks", "next_observations")
    return Batch(**{name: jnp.asarray(arrays[name][update]) for name in fields})


def load(path) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the arrays and the meta data of a golden file."""
    with np.load(path) as data:
        arrays = {key: data[key] for key in data.files}
    return arrays, json.loads(str(arrays.pop("meta")))
