"""Finetuning loops as work for a process of its own: this project's, and the authors' own.

`build` makes one of these programs, chosen by `spec["program"]`:

- `ours`: `train_finetune` as the command line runs it, with `members` over `devices`.
- `authors`: the `main` of their `train_finetune.py`, from a checkout, unchanged.
- `environment`: as many environments stepped by a plain loop with drawn actions, and nothing else.

A loop runs in a thread of its own and waits, at the beginning of an environment step, for its turn.
Both loops act in the same environment, on the same made-up transitions, with the settings of the
authors' configuration for AntMaze. Evaluation and checkpoints are left out for both; rows of
metrics are not. `stand_ins` replaces what the authors' loop imports and does not compute with.
"""

import functools
import importlib
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import stand_ins, synthetic
from benchmarks.protocol import Work

_LOG_INTERVAL = 1000  # environment steps, as the authors' default
_STEPS = 1_000_000  # more than any measurement takes


def build(spec: dict[str, Any]) -> Work:
    """Returns the work of a spec.

    Args:
      spec: `program`, `env_name`, `rows`, `batch_size`, `steps` per turn of every member; `members`
        and `devices` of our programs, `checkout` of the authors'.
    """
    return PROGRAMS[spec["program"]](spec)


class Turns:
    """Lets a loop in another thread go on for so many environment steps at a time."""

    def __init__(self, loop: Callable[[], object]):
        self._loop = loop
        self._allowed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._left = 0
        self._begun = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._loop()
            raise RuntimeError("the loop has come to its end")
        except BaseException as error:
            self._reports.put(error)

    def before_step(self) -> None:
        """To be called by the loop at the beginning of each environment step."""
        if self._left == 0:
            self._reports.put(None)
            self._left = self._allowed.get()
        self._left -= 1

    def take(self, steps: int) -> None:
        """Returns when the loop has made so many steps, and all that follows each.

        Raises:
          BaseException: what ended the loop.
        """
        if not self._begun:
            self._begun = True
            self._thread.start()
            self._wait()
        self._allowed.put(steps)
        self._wait()

    def _wait(self) -> None:
        error = self._reports.get()
        if error is not None:
            raise error


def _ours(spec: dict[str, Any]) -> Work:
    import jax

    jax.config.update("jax_num_cpu_devices", spec["devices"])
    from configs import antmaze_finetune
    from iql_jax.config import from_config_dict
    from iql_jax.training.acting import ActingEnvironments
    from iql_jax.training.finetune import train_finetune
    from iql_jax.training.members import plan_members
    from iql_jax.training.run_directory import RunOptions

    signal.signal = lambda *_: signal.SIG_DFL  # type: ignore[assignment]  # main thread's alone
    folder = Path(tempfile.mkdtemp(prefix="online_loop_"))
    np.savez(folder / "data.npz", **_data(spec))
    settings = antmaze_finetune.get_config()
    settings.online.num_pretraining_steps = 0
    config = from_config_dict(
        settings,
        env_name=spec["env_name"],
        dataset=f"file/{folder}/data.npz",
        batch_size=spec["batch_size"],
        max_steps=_STEPS,
        eval_interval=_STEPS,
        log_interval=_LOG_INTERVAL,
    )
    options = RunOptions(str(folder / "run"), evaluate=False, checkpoint_seconds=1e9)
    members = plan_members(config, 0, spec["members"], None)
    turns = Turns(lambda: train_finetune(config, members, options))
    step = ActingEnvironments.step

    @functools.wraps(step)
    def waiting(self: Any, actions: np.ndarray) -> np.ndarray:
        turns.before_step()
        return step(self, actions)

    ActingEnvironments.step = waiting  # type: ignore[method-assign]
    return _work(turns, spec)


def _authors(spec: dict[str, Any]) -> Work:
    from iql_jax import envs

    stand_ins.install(["d4rl", "gym", "tensorflow_probability", "distrax", "tensorboardX"])
    stand_ins.install_jax_of_2022()
    stand_ins.install_gaussians()
    turns = Turns(lambda: train_finetune.main(None))
    stand_ins.install_gym_of_2022(lambda name: envs.make(name), turns.before_step)
    fields = _data(spec)
    importlib.import_module("d4rl").qlearning_dataset = (  # type: ignore[attr-defined]
        lambda env: fields
    )
    importlib.import_module("tensorboardX").SummaryWriter = (  # type: ignore[attr-defined]
        stand_ins.SummaryWriter
    )
    checkout = Path(spec["checkout"])
    sys.path.insert(0, str(checkout))
    train_finetune = importlib.import_module("train_finetune")
    folder = tempfile.mkdtemp(prefix="online_loop_")
    train_finetune.FLAGS(
        [
            "train_finetune.py",
            f"--config={checkout / 'configs' / 'antmaze_finetune_config.py'}",
            f"--env_name={spec['env_name']}",
            f"--save_dir={folder}",
            f"--batch_size={spec['batch_size']}",
            "--num_pretraining_steps=0",
            f"--max_steps={_STEPS}",
            f"--eval_interval={2 * _STEPS}",
            f"--log_interval={_LOG_INTERVAL}",
            "--notqdm",
        ]
    )
    return _work(turns, spec)


def _work(turns: Turns, spec: dict[str, Any]) -> Work:
    count = spec["steps"] * spec.get("members", 1)
    return Work(lambda: turns.take(spec["steps"]), count, {})


def _environment(spec: dict[str, Any]) -> Work:
    from iql_jax import envs

    members = [envs.make(spec["env_name"]) for _ in range(spec["members"])]
    for seed, env in enumerate(members):
        env.reset(seed=seed)
    space: Any = members[0].action_space
    size = (spec["steps"], len(members), *space.shape)
    actions = np.clip(np.random.default_rng(0).standard_normal(size, np.float32), -1.0, 1.0)

    def run() -> None:
        for row in actions:
            for env, action in zip(members, row, strict=True):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()

    return Work(run, spec["steps"] * len(members), {})


def _data(spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns made-up transitions of the environment's sizes, in D4RL's layout."""
    fields = synthetic.transitions(spec["rows"], *sizes(spec["env_name"]))
    fields["terminals"] = fields.pop("masks") == 0.0
    return fields


def sizes(env_name: str) -> tuple[int, int]:
    """Returns the sizes of an environment's observations and actions."""
    from iql_jax import envs

    env = envs.make(env_name)
    shapes: Iterator[Any] = (env.observation_space.shape, env.action_space.shape)  # type: ignore
    (observation_dim,), (action_dim,) = shapes
    env.close()
    return observation_dim, action_dim


PROGRAMS: dict[str, Callable[[dict[str, Any]], Work]] = {
    "ours": _ours,
    "authors": _authors,
    "environment": _environment,
}
