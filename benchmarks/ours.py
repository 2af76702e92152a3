"""This project's update, and what it is measured against, as work for a process of its own.

`build` makes one of these programs, chosen by `spec["program"]`:

- `population`: `update_many`, the program that trains, for `members` over `devices`.
- `no_member_axis`: the same updates in a plain scan: what one member should cost.
- `products`: nothing but the matrix products of those updates: the floor.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks import hlo, synthetic
from benchmarks.protocol import Work
from iql_jax import agents
from iql_jax.config import PRECISIONS, RunConfig
from iql_jax.data import replay
from iql_jax.data.raw import RawDataset
from iql_jax.training import population
from iql_jax.training.compiling import compiler_options


@dataclasses.dataclass(frozen=True)
class Program:
    """What `update_many` is called with.

    Attributes:
      static: agent, its configuration and the layout.
      arrays: states, keys, rows and the number of rows.
      options: batch size, number of updates and precision.
    """

    static: tuple[Any, Any, population.Layout]
    arrays: tuple[Any, jax.Array, jax.Array, jax.Array]
    options: dict[str, Any]


def build(spec: dict[str, Any]) -> Work:
    """Returns the work of a spec.

    Args:
      spec: `program`, `observation_dim`, `action_dim`, `rows`, `batch_size`, and `updates` per turn
        and member; `members`, `devices`, `hidden_dims`, `agent`, `precision` and `vectorized`
        where they are not the default.
    """
    jax.config.update("jax_num_cpu_devices", spec.get("devices", 1))
    program = make_program(spec)
    start = time.perf_counter()
    run, memory = PROGRAMS[spec["program"]](program)
    seconds = time.perf_counter() - start
    counted = update_products(program)
    device = jax.devices()[0]
    return Work(
        run=run,
        updates=spec.get("members", 1) * spec["updates"],
        facts={
            "compile_seconds": seconds,
            "program_bytes": memory,
            "flops_per_update": hlo.flops(counted),
            "products_per_update": len(counted),
            "device_kind": device.device_kind,
        },
    )


def make_program(spec: dict[str, Any]) -> Program:
    """Returns the arguments of `update_many` for a spec, on the devices."""
    config = dataclasses.replace(
        RunConfig(),
        agent=spec.get("agent", "iql"),
        hidden_dims=tuple(spec.get("hidden_dims", (256, 256))),
    )
    agent = agents.get(config.agent)
    observation_dim, action_dim = spec["observation_dim"], spec["action_dim"]
    agent_config = agent.make_config(config.settings(), observation_dim, action_dim)
    members = spec.get("members", 1)
    layout = _layout(spec, members)
    hyper = population.stack_hyperparameters(
        members * [agent.make_hyperparameters(config.settings())]
    )
    init_keys, keys = population.member_keys(range(members))
    rows = make_rows(spec["rows"], observation_dim, action_dim)
    return Program(
        static=(agent, agent_config, layout),
        arrays=(
            population.init_many(agent, agent_config, layout, hyper, init_keys),
            jax.device_put(keys, layout.members(members)),
            jax.device_put(rows, layout.replicated),
            jax.device_put(jnp.int32(len(rows)), layout.replicated),
        ),
        options={
            "batch_size": spec["batch_size"],
            "num_updates": spec["updates"],
            "precision": PRECISIONS[spec.get("precision", "float32")],
        },
    )


def make_rows(num_rows: int, observation_dim: int, action_dim: int) -> np.ndarray:
    """Returns made-up transitions f32[N, W] as `replay.pack` lays them out."""
    fields = synthetic.transitions(num_rows, observation_dim, action_dim)
    ends = np.zeros(num_rows, bool)
    return replay.pack(RawDataset(name="synthetic", source="synthetic", ends=ends, **fields))


def _layout(spec: dict[str, Any], members: int) -> population.Layout:
    layout = population.choose_layout(members)
    if "devices" in spec:
        devices = np.array(jax.devices()[: spec["devices"]])
        layout = dataclasses.replace(layout, mesh=Mesh(devices, ("members",)))
    if "vectorized" in spec:
        layout = dataclasses.replace(layout, vectorized=spec["vectorized"])
    return layout


def update_products(program: Program) -> list[hlo.Product]:
    """Returns the matrix products of one update of one member."""
    agent, config, _ = program.static
    states, keys, rows, _ = program.arrays
    state, key = jax.tree.map(lambda x: x[0], (states, keys))
    row = jax.ShapeDtypeStruct((program.options["batch_size"], rows.shape[1]), rows.dtype)

    def update(state: Any, row: jax.Array, key: jax.Array) -> Any:
        batch = replay.unpack(row, config.observation_dim, config.action_dim)
        return agent.update(config, state, batch, key)

    return hlo.traced_products(jax.make_jaxpr(update)(state, row, key).jaxpr)


Runner = tuple[Callable[[], None], int]  # what runs once, and the bytes of its temporaries


def _compile(lowered: Any, states: Any, arguments: tuple[Any, ...]) -> Runner:
    """Returns the program that carries `states`, its first argument and result, between calls."""
    compiled = lowered.compile()
    carried = [states]

    def run() -> None:
        result = compiled(carried[0], *arguments)
        carried[0] = result[0]
        jax.block_until_ready(result)

    analysis = compiled.memory_analysis()
    return run, getattr(analysis, "temp_size_in_bytes", 0)


def _jit(function: Callable[..., Any], program: Program) -> Any:
    """Returns the function, its first argument donated, compiled with the update's own options."""
    _, config, layout = program.static
    options = dict(compiler_options(layout.platform, config.layer_widths))
    return jax.jit(function, donate_argnums=0, compiler_options=options or None)


def population_program(program: Program) -> Runner:
    """Returns `update_many` itself."""
    states, *arrays = program.arrays
    lowered = population.update_many.lower(*program.static, states, *arrays, **program.options)
    return _compile(lowered, states, tuple(arrays))


def no_member_axis(program: Program) -> Runner:
    """Returns a scan over the agent's update: no member axis, the metrics summed as well."""
    agent, config, _ = program.static
    states, keys, rows, num_rows = program.arrays
    batch_size, num_updates = program.options["batch_size"], program.options["num_updates"]
    update = functools.partial(agent.update, config)

    def train(state: Any, key: jax.Array, rows: jax.Array, num_rows: jax.Array) -> Any:
        updates = state.step + jnp.arange(num_updates)
        indices = population.draw_indices(key, updates, num_rows, batch_size)

        def step(carry: Any, index: jax.Array) -> tuple[Any, None]:
            state, sums = carry
            batch = replay.unpack(rows[index], config.observation_dim, config.action_dim)
            state, metrics = update(state, batch, jax.random.fold_in(key, state.step))
            return (state, jax.tree.map(jnp.add, sums, metrics)), None

        first = replay.unpack(rows[indices[0]], config.observation_dim, config.action_dim)
        shapes = jax.eval_shape(update, state, first, key)[1]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(step, (state, zeros), indices)[0]

    with jax.default_matmul_precision(program.options["precision"]):
        alone, key = jax.tree.map(lambda x: x[0], (states, keys))
        lowered = _jit(train, program).lower(alone, key, rows, num_rows)
        return _compile(lowered, alone, (key, rows, num_rows))


def products(program: Program) -> Runner:
    """Returns a scan over the products of an IQL update, with the inputs of real batches.

    Every network is its kernels alone: no biases, activations, losses or optimiser. Nothing waits
    but for the products that feed it. Kernels are orthogonal, so numbers stay of ordinary size.
    """
    _, config, _ = program.static
    _, keys, rows, num_rows = program.arrays
    batch_size, num_updates = program.options["batch_size"], program.options["num_updates"]
    kernels = jax.jit(_kernels, static_argnums=0)(config)

    def multiply(grads: Any, kernels: Any, key: jax.Array, rows: jax.Array, num_rows: Any) -> Any:
        indices = population.draw_indices(key, jnp.arange(num_updates), num_rows, batch_size)

        def step(carry: Any, index: jax.Array) -> tuple[Any, None]:
            del carry
            batch = replay.unpack(rows[index], config.observation_dim, config.action_dim)
            return update_of_products(kernels, batch), None

        return (jax.lax.scan(step, grads, indices)[0],)

    with jax.default_matmul_precision(program.options["precision"]):
        row = jnp.zeros((batch_size, rows.shape[1]))
        batch = replay.unpack(row, config.observation_dim, config.action_dim)
        zeros = jax.tree.map(jnp.zeros_like, update_of_products(kernels, batch))
        arguments = (kernels, keys[0], rows, num_rows)
        lowered = _jit(multiply, program).lower(zeros, *arguments)
        return _compile(lowered, zeros, arguments)


def _kernels(config: Any) -> dict[str, list[jax.Array]]:
    """Returns the kernels of every network, V before and after its step."""
    state_action = config.observation_dim + config.action_dim
    widths = {"v": (config.observation_dim, 1), "new_v": (config.observation_dim, 1)}
    for i in range(config.num_critics):
        widths |= {f"q{i}": (state_action, 1), f"target_q{i}": (state_action, 1)}
    widths["policy"] = (config.observation_dim, config.action_dim)
    orthogonal = jax.nn.initializers.orthogonal()
    keys = iter(jax.random.split(jax.random.key(0), len(widths) * (len(config.hidden_dims) + 1)))
    kernels = {}
    for name, (inputs, outputs) in widths.items():
        sizes = (inputs, *config.hidden_dims, outputs)
        kernels[name] = [orthogonal(next(keys), shape) for shape in itertools.pairwise(sizes)]
    return kernels


def update_of_products(kernels: dict[str, list[jax.Array]], batch: Any) -> Any:
    """Returns what the products of one update give: outputs and gradients by network."""
    pairs = jnp.concatenate([batch.observations, batch.actions], axis=-1)
    both = jnp.concatenate([batch.observations, batch.next_observations])
    inputs = {"v": batch.observations, "new_v": both, "policy": batch.observations}
    results = {}
    for name, layers in kernels.items():
        outputs = [inputs.get(name, pairs)]
        for kernel in layers:
            outputs.append(outputs[-1] @ kernel)
        trained = name != "new_v" and not name.startswith("target")
        results[name] = _backward(layers, outputs) if trained else outputs[-1]
    return results


def _backward(layers: list[jax.Array], outputs: list[jax.Array]) -> list[jax.Array]:
    """Returns the gradient of every kernel, with the outputs for the cotangent of the last."""
    cotangent, grads = outputs[-1], []
    for i in reversed(range(len(layers))):
        grads.append(outputs[i].T @ cotangent)
        if i > 0:
            # Behind a single output the cotangent is an outer product, which is no product here.
            single = layers[i].shape[1] == 1
            cotangent = outputs[i] if single else cotangent @ layers[i].T
    return grads


PROGRAMS: dict[str, Callable[[Program], Runner]] = {
    "population": population_program,
    "no_member_axis": no_member_axis,
    "products": products,
}
