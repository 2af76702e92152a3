"""Writes a member's policy as one file that needs neither this package nor the run.

    python -m iql_jax.export RUN --out=policy.jaxpolicy
    python -m iql_jax.export RUN --out=policy.onnx --format=onnx

Both take observations f32[any number, O] and give actions f32[any number, A], each in the units of
the environment; the transforms of the data are inside.

The first is a `jax.export` artifact for CPU, CUDA and TPU, of any agent. It takes a seed and a
temperature too (0 acts as in evaluation), and runs with jax alone, of this version or one up to
six months newer:

    policy = jax.export.deserialize(bytearray(open("policy.jaxpolicy", "rb").read()))
    actions = policy.call(observations, np.uint32(seed), np.float32(0.0))

The second is for any ONNX runtime, and of Gaussian and categorical policies; it acts as in
evaluation. A choice is a one-hot row in both.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.errors import InputError
from iql_jax.evaluate import checkpoint_argument
from iql_jax.policy import Policy, load_policy
from iql_jax.report.files import write_atomic

FORMATS = ("jax", "onnx")
_PLATFORMS = ("cpu", "cuda", "tpu")
# Widely supported: ONNX 1.12, of 2022.
_OPSET, _IR_VERSION = 17, 8
_INSTALL = 'pip install "onnx>=1.17,<2"'


def export_jax(policy: Policy) -> bytes:
    """Returns the `jax.export` artifact of a policy: (f32[b, O], u32[], f32[]) -> f32[b, A]."""
    from jax import export

    observation, action = policy.transforms.observation, policy.transforms.action

    def act(observations: jax.Array, seed: jax.Array, temperature: jax.Array) -> jax.Array:
        if observation.name != "none":
            observations = (observations - observation.mean[None]) / observation.std[None]
        with jax.default_matmul_precision(policy.precision):
            actions = policy.agent.sample_actions(
                policy.config,
                policy.state,
                observations,
                jax.random.key(seed),
                temperature=temperature,
            )
        if action.name == "none":
            return actions
        weight = (actions + 1.0) * 0.5
        return (1.0 - weight) * action.low[None] + weight * action.high[None]

    (batch,) = export.symbolic_shape("b")
    exported = export.export(jax.jit(act), platforms=_PLATFORMS)(
        jax.ShapeDtypeStruct((batch, policy.observation_dim), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.uint32),
        jax.ShapeDtypeStruct((), jnp.float32),
    )
    return bytes(exported.serialize())


def load(path: str | Path) -> Callable[..., np.ndarray]:
    """Returns `act(observations, seed=0, temperature=0.0)` of an artifact of `export_jax`.

    Raises:
      InputError: the file cannot be read, or is no such artifact.
    """
    from jax import export

    try:
        policy = export.deserialize(bytearray(Path(path).read_bytes()))
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
    except Exception as error:  # the reader fails in its own ways on what it does not know
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"'{path}' is no exported policy: {reason}") from error

    def act(observations: Any, seed: int = 0, temperature: float = 0.0) -> np.ndarray:
        array = np.asarray(observations, np.float32)
        actions = policy.call(np.atleast_2d(array), np.uint32(seed), np.float32(temperature))
        return np.asarray(actions).reshape(*array.shape[:-1], -1)

    return act


def export_onnx(policy: Policy) -> bytes:
    """Returns the ONNX model of a policy: observations f32[b, O] -> actions f32[b, A].

    Raises:
      InputError: the policy is a diffusion one, or the package onnx is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"--format=onnx needs the package onnx: {_INSTALL}") from error
    parameters = _parameters(policy)
    nodes, constants = _graph(policy, parameters)
    number = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "policy",
        [onnx.helper.make_tensor_value_info("observations", number, ["b", policy.observation_dim])],
        [onnx.helper.make_tensor_value_info("actions", number, ["b", policy.action_dim])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(
        graph,
        producer_name="iql_jax",
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _parameters(policy: Policy) -> dict[str, Any]:
    """Returns the parameters of the policy's network, NumPy leaves.

    Raises:
      InputError: it is more than one network.
    """
    parameters = policy.state.policy.params["params"]
    if not ({"MLP_0", "mean"} <= parameters.keys() or {"MLP_0", "logits"} <= parameters.keys()):
        raise InputError(
            "--format=onnx is for Gaussian and categorical policies, and this one is diffusion: "
            "export it with --format=jax"
        )
    return jax.tree.map(np.asarray, parameters)


def _graph(policy: Policy, parameters: dict[str, Any]) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Returns the nodes of the network between its transforms, and constants by name."""
    from onnx import helper

    nodes: list[Any] = []
    constants: dict[str, np.ndarray] = {}

    def add(
        operation: str, name: str, first: str, *others: str | np.ndarray | float, **attributes: Any
    ) -> str:
        """Appends a node of values (by name) and constants; returns its name."""
        inputs = [first]
        for place, value in enumerate(others):
            if not isinstance(value, str):
                dtype = np.int64 if isinstance(value, int) else np.float32
                constants[f"{name}/constant{place}"] = np.asarray(value, dtype)
                value = f"{name}/constant{place}"
            inputs.append(value)
        nodes.append(helper.make_node(operation, inputs, [name], name=name, **attributes))
        return name

    def dense(name: str, inputs: str, layer: dict[str, np.ndarray]) -> str:
        product = add("MatMul", f"{name}/product", inputs, layer["kernel"])
        return add("Add", f"{name}/sum", product, layer["bias"])

    def gelu(name: str, x: str) -> str:  # by tanh, as JAX has it; ONNX has its own since 2023 only
        cube = add("Mul", f"{name}/cube", add("Mul", f"{name}/square", x, x), x)
        inner = add("Add", f"{name}/inner", x, add("Mul", f"{name}/scaled", cube, 0.044715))
        gate = add("Tanh", f"{name}/tanh", add("Mul", f"{name}/arg", inner, np.sqrt(2 / np.pi)))
        half = add("Mul", f"{name}/half", x, 0.5)
        return add("Mul", name, half, add("Add", f"{name}/gate", gate, 1.0))

    observation, action = policy.transforms.observation, policy.transforms.action
    last = "observations"
    if observation.name != "none":
        last = add("Sub", "centred", last, observation.mean)
        last = add("Div", "standardised", last, observation.std)
    for i in range(len(policy.config.hidden_dims)):
        last = dense(f"hidden{i}", last, parameters["MLP_0"][f"Dense_{i}"])
        gelus = policy.config.activation == "gelu"
        last = gelu(f"hidden{i}", last) if gelus else add("Relu", f"hidden{i}", last)
    if "logits" in parameters:
        last = dense("logits", last, parameters["logits"])
        choice = add("ArgMax", "choice", last, axis=-1, keepdims=0)
        add("OneHot", "actions", choice, policy.action_dim, np.array([0.0, 1.0]))
        return nodes, constants
    last = dense("mean", last, parameters["mean"])
    if policy.config.policy_distribution == "gaussian":
        last = add("Tanh", "unit", last)
    else:
        last = add("Clip", "unit", last, -1.0, 1.0)
    if action.name != "none":
        last = add("Mul", "actions/scaled", last, (action.high - action.low) / 2)
        last = add("Add", "actions/shifted", last, (action.high + action.low) / 2)
    add("Identity", "actions", last)
    return nodes, constants


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--format", choices=FORMATS, default="jax")
    parser.add_argument("--member", type=int, default=0, help="counted from 0")
    parser.add_argument(
        "--checkpoint", type=checkpoint_argument, default="last", help="last, best or an update"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of the command line: 0, or 2 for bad input."""
    parsed = _parser().parse_args(arguments)
    try:
        policy = load_policy(parsed.run, parsed.member, parsed.checkpoint)
        data = export_jax(policy) if parsed.format == "jax" else export_onnx(policy)
        write_atomic(parsed.out, data)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{parsed.out}: {len(data) / 1e6:.2f} MB, member {parsed.member} at update "
        f"{policy.update:,}; {policy.observation_dim} numbers in, {policy.action_dim} out"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
