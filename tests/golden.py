"""Golden files of the authors' code: their parameters as ours, and their batches."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.types import Batch

_LAYERS = {"MLP_0/Dense_0": ("MLP_0", "Dense_0"), "MLP_0/Dense_1": ("MLP_0", "Dense_1")}
ACTOR = _LAYERS | {"Dense_0": ("mean",)}
VALUE = _LAYERS | {"MLP_0/Dense_2": ("head",)}
IDQL_Q = _LAYERS | {"Dense_0": ("head",)}
IDQL_VALUE = _LAYERS | {"OutputVDense": ("head",)}


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


def idql_params(arrays: dict[str, np.ndarray], snapshot: str) -> dict[str, dict]:
    """Returns value, q and target_q at a snapshot of IDQL's golden files, in our layout."""

    def ensemble(name: str) -> dict:
        stacked = _network(arrays, f"{snapshot}/{name}/VmapStateActionValue_0", IDQL_Q)
        return {"params": {f"q{i}": jax.tree.map(lambda x, i=i: x[i], stacked) for i in (0, 1)}}

    return {
        "value": {"params": _network(arrays, f"{snapshot}/value", IDQL_VALUE)},
        "q": ensemble("critic"),
        "target_q": ensemble("target_critic"),
    }


def idql_policy(arrays: dict[str, np.ndarray], network: str, num_blocks: int) -> dict:
    """Returns the initial noise predictor of IDQL's golden files, in our layout."""
    resnet = "MLPResNet_0"
    layers = {"MLP_0/Dense_0": ("time_layers_0",), "MLP_0/Dense_1": ("time_layers_1",)}
    layers |= {f"{resnet}/Dense_0": (), f"{resnet}/Dense_1": ("head",)}
    norms = {}
    for i in range(num_blocks):
        for j in (0, 1):
            layers[f"{resnet}/MLPResNetBlock_{i}/Dense_{j}"] = (f"blocks_{i}", f"Dense_{j}")
        norm = f"init/{network}/{resnet}/MLPResNetBlock_{i}/LayerNorm_0"
        norms[i] = {leaf: jnp.asarray(arrays[f"{norm}/{leaf}"]) for leaf in ("scale", "bias")}
    params = _network(arrays, f"init/{network}", layers)
    for i, norm in norms.items():
        params[f"blocks_{i}"]["LayerNorm_0"] = norm
    params["frequencies"] = jnp.asarray(arrays[f"init/{network}/FourierFeatures_0/kernel"][:, 0])
    return {"params": params}
