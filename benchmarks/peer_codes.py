"""The updates of published codes, as work for a process of its own.

Each runs as its own training loop runs it, its way of drawing batches included, from a checkout
that the user provides; nothing in it is changed. `stand_ins` replaces packages it imports and does
not need here. Evaluation, logging and checkpoints are left out for all. This module needs no more
than the code it runs.
"""

import dataclasses
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import hlo, stand_ins, synthetic
from benchmarks.protocol import Work


@dataclasses.dataclass(frozen=True)
class Peer:
    """A published code.

    Attributes:
      folders: names of its checkout.
      build: makes its work from a spec and a checkout.
      differs: how its update is not the paper's with the authors' settings, or is run otherwise.
    """

    folders: tuple[str, ...]
    build: Callable[[dict[str, Any], Path], Work]
    differs: str


def build(spec: dict[str, Any]) -> Work:
    """Returns the work of a spec.

    Args:
      spec: `peer`, the `checkout`, `observation_dim`, `action_dim`, `rows`, `batch_size`, `updates`
        per turn, and for torch `threads`.
    """
    return PEERS[spec["peer"]].build(spec, Path(spec["checkout"]))


def _import_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    argv, sys.argv = sys.argv, [str(path)]  # some read the command line when imported
    spec.loader.exec_module(module)
    sys.argv = argv
    return module


def _data(spec: dict[str, Any]) -> dict[str, np.ndarray]:
    return synthetic.transitions(spec["rows"], spec["observation_dim"], spec["action_dim"])


def _counted(lowered: Any, updates: int) -> dict[str, Any]:
    """Returns the products in a jitted function that makes so many updates, from its HLO."""
    program = hlo.parse(lowered.compile().as_text())
    loops = hlo.training_loops(program)
    found = hlo.products(program, loops or None)
    count = 1 if loops else updates
    return {
        "flops_per_update": hlo.flops(found) / count,
        "products_per_update": len(found) / count,
    }


def _timed(first: Callable[[], None]) -> float:
    start = time.perf_counter()
    first()
    return time.perf_counter() - start


def _authors(spec: dict[str, Any], checkout: Path) -> Work:
    """implicit_q_learning: one jitted call per update, batches drawn by NumPy."""
    import jax

    stand_ins.install(["d4rl", "gym", "tensorflow_probability", "distrax"])
    stand_ins.install_jax_of_2022()
    stand_ins.install_gaussians()
    sys.path.insert(0, str(checkout))
    learner = importlib.import_module("learner")
    dataset_utils = importlib.import_module("dataset_utils")
    fields = _data(spec)
    dataset = dataset_utils.Dataset(**fields, dones_float=1.0 - fields["masks"], size=spec["rows"])
    agent = learner.Learner(
        0,
        fields["observations"][:1],
        fields["actions"][:1],
        expectile=0.7,
        temperature=3.0,
        max_steps=1_000_000,
    )

    def run() -> None:
        for _ in range(spec["updates"]):
            info = agent.update(dataset.sample(spec["batch_size"]))
        jax.block_until_ready((info, agent.actor.params, agent.target_critic.params))

    batch = dataset.sample(spec["batch_size"])
    arguments = (agent.rng, agent.actor, agent.critic, agent.value, agent.target_critic, batch)
    numbers = (agent.discount, agent.tau, agent.expectile, agent.temperature)
    facts = _counted(learner._update_jit.lower(*arguments, *numbers), 1)
    facts["compile_seconds"] = _timed(lambda: jax.block_until_ready(agent.update(batch)))
    return Work(run, spec["updates"], facts)


def _jax_corl(spec: dict[str, Any], checkout: Path) -> Work:
    """JAX-CORL: eight unrolled updates per jitted call, batches drawn on the device."""
    import jax
    import jax.numpy as jnp

    # Its command line is read by OmegaConf into a pydantic model; both are only settings.
    stand_ins.install(["d4rl", "gym", "distrax", "tensorflow_probability", "wandb", "omegaconf"])
    stand_ins.install_gaussians()
    importlib.import_module("omegaconf").OmegaConf = type(  # type: ignore[attr-defined]
        "OmegaConf", (), {"from_cli": staticmethod(dict)}
    )
    iql = _import_file(checkout / "algos" / "iql.py")
    config = iql.IQLConfig(batch_size=spec["batch_size"])
    fields = {name: jnp.asarray(value) for name, value in _data(spec).items()}
    dones = 1.0 - fields.pop("masks")
    dataset = iql.Transition(**fields, dones=dones, dones_float=dones)
    first = jax.tree_util.tree_map(lambda x: x[0], dataset)
    state = iql.create_iql_train_state(
        jax.random.PRNGKey(0), first.observations, first.actions, config
    )
    update = jax.jit(iql.IQL().update_n_times, static_argnums=(3,))
    calls = max(1, spec["updates"] // config.n_jitted_updates)
    carried = [state, jax.random.PRNGKey(1)]

    def run() -> None:
        state, rng = carried
        for _ in range(calls):
            rng, key = jax.random.split(rng)
            state, _ = update(state, dataset, key, config)
        carried[:] = jax.block_until_ready((state, rng))

    facts = _counted(update.lower(state, dataset, carried[1], config), config.n_jitted_updates)
    once = (state, dataset, carried[1], config)
    facts["compile_seconds"] = _timed(lambda: jax.block_until_ready(update(*once)))
    return Work(run, calls * config.n_jitted_updates, facts)


def _unifloral(spec: dict[str, Any], checkout: Path) -> Work:
    """unifloral: a scan over all updates between evaluations, batches drawn on the device."""
    import jax
    import jax.numpy as jnp

    stand_ins.install(["d4rl", "gym", "distrax", "tensorflow_probability", "wandb", "tyro"])
    stand_ins.install_gaussians()
    iql = _import_file(checkout / "algorithms" / "iql.py")
    args = iql.Args(batch_size=spec["batch_size"])
    fields = {name: jnp.asarray(value) for name, value in _data(spec).items()}
    dataset = iql.Transition(
        obs=fields["observations"],
        action=fields["actions"],
        reward=fields["rewards"],
        next_obs=fields["next_observations"],
        done=1.0 - fields["masks"],
    )
    mean, std = dataset.obs.mean(axis=0), jnp.nan_to_num(dataset.obs.std(axis=0), nan=1.0)
    actor = iql.TanhGaussianActor(spec["action_dim"], mean, std)
    q, value = iql.DualQNetwork(mean, std), iql.StateValueFunction(mean, std)
    rng, *keys = jax.random.split(jax.random.PRNGKey(0), 4)
    obs, action = jnp.zeros(spec["observation_dim"]), jnp.zeros(spec["action_dim"])
    state = iql.AgentTrainState(
        actor=iql.create_train_state(args, keys[0], actor, [obs]),
        dual_q=iql.create_train_state(args, keys[1], q, [obs, action]),
        dual_q_target=iql.create_train_state(args, keys[1], q, [obs, action]),
        value=iql.create_train_state(args, keys[2], value, [obs]),
    )
    step = iql.make_train_step(args, actor.apply, q.apply, value.apply, dataset)
    carried = [(rng, state)]

    def run() -> None:
        carried[0], loss = jax.lax.scan(step, carried[0], None, spec["updates"])
        jax.block_until_ready((carried, loss))

    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, None, 2))
    facts = _counted(scan.lower(carried[0]), 1)
    facts["compile_seconds"] = _timed(run)
    return Work(run, spec["updates"], facts)


def _idql_learner(spec: dict[str, Any], checkout: Path, learner: str, **settings: Any) -> Work:
    """IDQL's learners: one jitted call per update, batches drawn on the device in another."""
    import jax

    packages = ["d4rl", "gym", "tensorflow_probability", "distrax", "wandb", "mjrl", "dm_control"]
    stand_ins.install(packages)
    stand_ins.install_jax_of_2022()
    stand_ins.install_gaussians()
    sys.path.insert(0, str(checkout))
    module = importlib.import_module(learner.rpartition(".")[0])
    data = importlib.import_module("jaxrl5.data.dataset")
    fields = _data(spec)
    dataset = data.Dataset(fields)

    class Space:
        """What its learners ask of a Gym space."""

        def __init__(self, example: np.ndarray):
            self.shape, self.sample = example.shape, lambda: example

    agent = getattr(module, learner.rpartition(".")[2]).create(
        0, Space(fields["observations"][0]), Space(fields["actions"][0]), **settings
    )
    carried = [agent]

    def run() -> None:
        for _ in range(spec["updates"]):
            batch = dataset.sample_jax(spec["batch_size"])
            carried[0], info = carried[0].update(batch)
        jax.block_until_ready((carried, info))

    batch = dataset.sample_jax(spec["batch_size"])
    facts = _counted(type(agent).update.lower(agent, batch), 1)
    facts["compile_seconds"] = _timed(lambda: jax.block_until_ready(agent.update(batch)))
    return Work(run, spec["updates"], facts)


def _idql_iql(spec: dict[str, Any], checkout: Path) -> Work:
    name = "jaxrl5.agents.iql.iql_learner.IQLLearner"
    return _idql_learner(spec, checkout, name, expectile=0.7, temperature=3.0)


def _idql(spec: dict[str, Any], checkout: Path) -> Work:
    return _idql_learner(
        spec,
        checkout,
        "jaxrl5.agents.ddpm_iql.ddpm_iql_learner.DDPMIQLLearner",
        actor_architecture="ln_resnet",
        actor_num_blocks=3,
        actor_dropout_rate=0.1,
        actor_layer_norm=True,
        decay_steps=3_000_000,
    )


def _corl(spec: dict[str, Any], checkout: Path) -> Work:
    """CORL: torch, batches drawn by NumPy, the losses fetched after every step."""
    import torch

    stand_ins.install(["d4rl", "gym", "wandb", "pyrallis"])
    stand_ins.install_decorator("pyrallis", "wrap")
    torch.set_num_threads(spec.get("threads", 1))
    iql = _import_file(checkout / "algorithms" / "offline" / "iql.py")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = iql.TrainConfig(device=device)
    sizes = (spec["observation_dim"], spec["action_dim"])
    fields = _data(spec)
    buffer = iql.ReplayBuffer(*sizes, spec["rows"], device)
    buffer.load_d4rl_dataset(fields | {"terminals": 1.0 - fields["masks"]})
    q, v = iql.TwinQ(*sizes).to(device), iql.ValueFunction(sizes[0]).to(device)
    actor = iql.GaussianPolicy(*sizes, 1.0).to(device)
    trainer = iql.ImplicitQLearning(
        max_action=1.0,
        actor=actor,
        actor_optimizer=torch.optim.Adam(actor.parameters(), lr=config.actor_lr),
        q_network=q,
        q_optimizer=torch.optim.Adam(q.parameters(), lr=config.qf_lr),
        v_network=v,
        v_optimizer=torch.optim.Adam(v.parameters(), lr=config.vf_lr),
        device=device,
    )

    def run() -> None:
        for _ in range(spec["updates"]):
            batch = [part.to(device) for part in buffer.sample(spec["batch_size"])]
            trainer.train(batch)  # waits for its losses, so the work is done

    threads = torch.get_num_threads()
    facts = {"torch": torch.__version__, "threads": threads, "compile_seconds": 0.0}
    return Work(run, spec["updates"], facts)


PEERS = {
    "authors": Peer(
        ("implicit_q_learning",),
        _authors,
        "The reference. One jitted call per update; batches drawn and sent by NumPy.",
    ),
    "JAX-CORL": Peer(
        ("JAX-CORL",),
        _jax_corl,
        "LayerNorm in V; twins by vmap; 8 unrolled updates per jitted call; state not donated.",
    ),
    "unifloral": Peer(
        ("unifloral",),
        _unifloral,
        "V before its step in the advantages and targets, so fewer products; Polyak first; all "
        "rates decay; Adam's epsilon 1e-5; twins by vmap; a scan over all updates of a turn.",
    ),
    "IDQL's IQL": Peer(
        ("IDQL",),
        _idql_iql,
        "Fixed standard deviation, no decay; twins by vmap; one jitted call per update and one per "
        "batch.",
    ),
    "CORL": Peer(
        ("CORL",),
        _corl,
        "Torch, eager; V before its step in the advantages and targets; three losses fetched per "
        "update; the better number of threads.",
    ),
    "IDQL": Peer(
        ("IDQL",),
        _idql,
        "Another algorithm, beside this project's IDQL where it has one: the policy is a diffusion "
        "model, a LayerNorm ResNet of three blocks, here with the critics' batch.",
    ),
}
