"""How many kernels an update launches on an NVIDIA H200, counted with no GPU present.

    python3.12 -m venv .venv-kernel-count
    .venv-kernel-count/bin/pip install -r benchmarks/requirements-kernel-count.txt
    .venv-kernel-count/bin/python -m benchmarks.kernel_count

XLA's CUDA compiler compiles for a described target (`h200.txtpb`) and dumps the list of what it
will launch; counted is the body of the loop over updates. At a microsecond or more for a launch,
this count is the floor of an update's time. Autotuning needs the device: there XLA may choose other
kernels for some products, but hardly more of them.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import common

TARGET = Path(__file__).resolve().parent / "h200.txtpb"
COPIES = {"kCopy", "kMemcpy", "kDynamicSliceFusion", "kDynamicMemcpy", "kDynamicSlice"}
PRODUCTS = {"kGemm", "kCublasLtMatmul", "kCublasLt"}
_THUNK = re.compile(r"^(\s*)\d+: (k\w+)\s*(?:\[[^\]]*\])?\s*(\S*)")


def main() -> None:
    """Counts, and writes the results file."""
    flags = common.parser(__doc__, rounds=1)
    common.add_work_flags(flags)
    flags.set_defaults(updates=100)
    flags.add_argument("--members", type=common.integers, default=[1, 10])
    flags.add_argument("--agent", default="iql")
    flags.add_argument("--precision", default="float32")
    flags.add_argument("--xla_flags", default="", help="for the compiler, to compare")
    arguments = flags.parse_args()
    start = common.machine()
    spec = common.work_spec(arguments) | {
        "agent": arguments.agent,
        "precision": arguments.precision,
    }
    counts = {}
    for members in arguments.members:
        counts[str(members)] = count_elsewhere(spec | {"members": members}, arguments.xla_flags)
        common.say(f"{members} members: {counts[str(members)]}")
    results = {"device_kind": "NVIDIA H200 (compiled for)", "members": counts}
    path = common.write("kernel_count", arguments, start, results)
    common.say(table(common.read(path)))


def count_elsewhere(spec: dict[str, Any], xla_flags: str = "") -> dict[str, Any]:
    """Returns what one update of all members launches; compiled in a process of its own.

    Args:
      spec: as for `ours.build`.
      xla_flags: more flags for XLA.

    Raises:
      RuntimeError: XLA's CUDA compiler is missing or fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_dump_to={folder} {xla_flags}",
            "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "JAX_TRACEBACK_FILTERING": "off",
        }
        command = [sys.executable, "-m", "benchmarks.kernel_count", "--compile", json.dumps(spec)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        dumped = sorted(Path(folder).glob("*update_many*.thunk_sequence.txt"))
        if done.returncode or not dumped:
            last = (done.stderr.strip().splitlines() or ["nothing was dumped"])[-1]
            raise RuntimeError(f"compiling for the H200 failed: {last}")
        counted = count(max(dumped, key=lambda path: path.stat().st_size).read_text())
    return counted | json.loads(done.stdout.strip().splitlines()[-1])


def count(thunks: str) -> dict[str, Any]:
    """Returns kernels, copies, products and others in the body of the loop in a list of launches.

    Args:
      thunks: XLA's `thunk_sequence.txt`.
    """
    kinds: collections.Counter[str] = collections.Counter()
    products = 0
    for kind, name in loop_body(thunks):
        kinds[kind] += 1
        products += kind in PRODUCTS or "gemm" in name
    kinds.pop("kCommandBuffer", None)  # a container: its content is counted
    copies = sum(number for kind, number in kinds.items() if kind in COPIES)
    return {
        "launches": sum(kinds.values()),
        "kernels": sum(kinds.values()) - copies,
        "copies": copies,
        "products": products,
        "kinds": dict(kinds),
    }


def loop_body(thunks: str) -> list[tuple[str, str]]:
    """Returns kind and name of everything in the longest loop body of a list of launches."""
    bodies: list[list[tuple[str, str]]] = [[]]
    depth = None  # of the `body:` that is being read
    for line in thunks.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() == "body:":
            depth = indent
            bodies.append([])
        elif depth is not None and (found := _THUNK.match(line)):
            if indent <= depth:
                depth = None
            else:
                bodies[-1].append((found.group(2), found.group(3)))
    return max(bodies, key=len)


def compile_here(spec: dict[str, Any]) -> None:
    """Compiles `update_many` for the target, and prints how long that took."""
    import time

    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from iql_jax import agents
    from iql_jax.config import PRECISIONS, RunConfig
    from iql_jax.data import replay
    from iql_jax.training import population

    target = re.sub(r"^#.*$", "", TARGET.read_text(), flags=re.MULTILINE)
    topology = topologies.get_topology_desc(platform="cuda", target_config=target, topology="1x1x1")
    mesh = Mesh(np.array(topology.devices), ("members",))
    sharding = NamedSharding(mesh, PartitionSpec())

    def described(arrays: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), arrays
        )

    settings = RunConfig().settings() | {"agent": spec["agent"]}
    agent = agents.get(spec["agent"])
    sizes = (spec["observation_dim"], spec["action_dim"])
    config = agent.make_config(settings, *sizes)
    members = spec["members"]
    hyper = population.stack_hyperparameters(members * [agent.make_hyperparameters(settings)])
    init_keys, keys = population.member_keys(range(members))
    init = jax.vmap(lambda hyper, key: agent.init(config, hyper, key))
    lowered = population.update_many.lower(
        agent,
        config,
        population.Layout(mesh=mesh, vectorized=True),
        described(jax.eval_shape(init, hyper, init_keys)),
        described(keys),
        described(jnp.empty((spec["rows"], replay.row_width(*sizes)))),
        described(jnp.int32(0)),
        batch_size=spec["batch_size"],
        num_updates=spec["updates"],
        precision=PRECISIONS[spec["precision"]],
    )
    start = time.perf_counter()
    lowered.compile()
    print(json.dumps({"compile_seconds": time.perf_counter() - start}))


def table(result: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    header = ["members", "kernels per update", "of them products", "copies", "per member-update"]
    rows = [
        [
            members,
            counts["kernels"],
            counts["products"],
            counts["copies"],
            f"{counts['launches'] / int(members):.1f}",
        ]
        for members, counts in result["results"]["members"].items()
    ]
    return common.markdown(header, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--compile"]:
        compile_here(json.loads(sys.argv[2]))
    else:
        main()
