"""How fast environments step in lockstep, beside a plain loop over Gymnasium's own.

    python -m benchmarks.lockstep

Prints microseconds per environment step, medians over rounds in which the variants alternate: a
loop over single Gymnasium v4 environments (where there is a counterpart), lockstep with one thread,
with two, and choosing by itself. Counted are steps alone, no resets. `cores` is how much faster
MuJoCo's own threads step with two than with one in the same rounds: where it is well below 2, other
programs had the second core, and the comparison of threads says little.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import gymnasium
import mujoco
import mujoco.rollout
import numpy as np
from absl import app, flags

from iql_jax import envs
from iql_jax.envs.lockstep import Lockstep

_ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds per comparison.", lower_bound=1)
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


def compare(name: str, num_envs: int, rounds: int, speedup: Callable[[], float]) -> str:
    """Returns one line of results."""
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
            taken[variant].append(seconds())
        cores.append(speedup())
    medians = {
        variant: statistics.median(seconds) / actions[..., 0].size * 1e6
        for variant, seconds in taken.items()
    }
    first = next(iter(medians.values()))
    cells = [f"{variant} {us:6.1f} us (x{first / us:.2f})" for variant, us in medians.items()]
    return f"{name:30s} {num_envs:4d}  {'  '.join(cells)}  cores x{statistics.median(cores):.2f}"


def main(argv: Sequence[str]) -> None:
    del argv
    speedup = _native_speedup()
    for name in _COUNTERPARTS:
        for num_envs in (10, 100):
            print(compare(name, num_envs, _ROUNDS.value, speedup), flush=True)


if __name__ == "__main__":
    app.run(main)
