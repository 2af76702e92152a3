"""How fast environments step in lockstep, beside a plain loop over Gymnasium's own.

    python -m benchmarks.lockstep

Microseconds per environment step, medians over rounds in which the variants alternate: a loop over
single Gymnasium v4 environments (where there is a counterpart), lockstep with one thread, with two,
and choosing by itself. Counted are steps alone, no resets. `cores` is how much faster MuJoCo's own
threads step with two than with one in the same rounds: where it is well below 2, other programs had
the second core, and the comparison of threads says little.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import mujoco
import mujoco.rollout
import numpy as np

from benchmarks import common
from benchmarks.protocol import spread
from iql_jax import envs
from iql_jax.envs.lockstep import Lockstep

_COUNTERPARTS = {
    "hopper-medium-v2": "Hopper-v4",
    "halfcheetah-medium-v2": "HalfCheetah-v4",
    "ant-medium-v2": "Ant-v4",
    "antmaze-medium-play-v2": None,
    "generated/pointmaze-medium-v0": None,
}


def _gymnasium_loop(env_id: str, actions: np.ndarray) -> Callable[[], float]:
    with warnings.catch_warnings():  # that v4 is not the newest is the point
        warnings.simplefilter("ignore", DeprecationWarning)
        single = [gymnasium.make(env_id, disable_env_checker=True) for _ in actions[0]]

    def seconds() -> float:
        for seed, env in enumerate(single):
            env.reset(seed=seed)
        start = time.perf_counter()
        for row in actions:
            for env, action in zip(single, row, strict=True):
                env.step(action)
        return time.perf_counter() - start

    return seconds


def _lockstep(name: str, actions: np.ndarray, num_threads: int | None) -> Callable[[], float]:
    lockstep = Lockstep(lambda: envs.make(name), actions.shape[1], num_threads)

    def seconds() -> float:
        lockstep.reset(range(lockstep.num_envs))
        start = time.perf_counter()
        for row in actions:
            lockstep.step(row)
        return time.perf_counter() - start

    return seconds


def _native_speedup() -> Callable[[], float]:
    model = envs.make("hopper-medium-v2").unwrapped.model
    full = mujoco.mjtState.mjSTATE_FULLPHYSICS
    start_state = np.empty(mujoco.mj_stateSize(model, full))
    mujoco.mj_getState(model, mujoco.MjData(model), start_state, full)
    teams = [
        (
            mujoco.rollout.Rollout(nthread=count),
            [mujoco.MjData(model) for _ in range(max(count, 1))],
        )
        for count in (0, 2)
    ]

    def speedup() -> float:
        taken = []
        for team, data in teams:
            start = time.perf_counter()
            team.rollout(model, data, np.tile(start_state, (20, 1)), nstep=50)
            taken.append(time.perf_counter() - start)
        return taken[0] / taken[1]

    return speedup


def compare(name: str, num_envs: int, rounds: int, speedup: Callable[[], float]) -> dict[str, Any]:
    """Returns the spread of each variant, in microseconds per step, and of the cores' speedup."""
    num_steps = 100 if num_envs < 50 else 40
    action_shape = envs.make(name).action_space.shape
    actions = np.random.default_rng(0).uniform(-1, 1, (num_steps, num_envs, *action_shape))
    actions = actions.astype(np.float32)
    variants = {
        "1 thread": _lockstep(name, actions, 1),
        "2 threads": _lockstep(name, actions, 2),
        "own choice": _lockstep(name, actions, None),
    }
    if counterpart := _COUNTERPARTS[name]:
        variants = {"Gymnasium loop": _gymnasium_loop(counterpart, actions), **variants}
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    cores = []
    for _ in range(rounds):
        for variant, seconds in variants.items():
            taken[variant].append(1e6 * seconds() / actions[..., 0].size)
        cores.append(speedup())
    microseconds = {variant: spread(values) for variant, values in taken.items()}
    return {"num_envs": num_envs, "variants": microseconds, "cores": spread(cores)}


def table(result: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    variants = ("Gymnasium loop", "1 thread", "2 threads", "own choice")
    header = ["environment", "at once", *(f"{variant}, us" for variant in variants), "cores"]
    rows = []
    for name, comparisons in result["results"]["environments"].items():
        for comparison in comparisons:
            measured = comparison["variants"]
            cells = [
                common.with_range(measured[variant], "{:.1f}".format) if variant in measured else ""
                for variant in variants
            ]
            cores = f"{comparison['cores']['median']:.2f}"
            rows.append([name, comparison["num_envs"], *cells, cores])
    return common.markdown(header, rows)


def main() -> None:
    """Measures, and writes the results file."""
    flags = common.parser(__doc__, rounds=7)
    flags.add_argument("--num_envs", type=common.integers, default=[10, 100], help="at once")
    arguments = flags.parse_args()
    start = common.machine()
    speedup = _native_speedup()
    environments: dict[str, list[dict[str, Any]]] = {}
    for name in _COUNTERPARTS:
        for num_envs in arguments.num_envs:
            comparison = compare(name, num_envs, arguments.rounds, speedup)
            environments.setdefault(name, []).append(comparison)
            common.say(f"{name} x {num_envs} is measured")
    path = common.write("lockstep", arguments, start, {"environments": environments})
    common.say(table(common.read(path)))


if __name__ == "__main__":
    main()
