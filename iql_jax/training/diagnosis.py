"""What members think of a fixed sample of the data, and of a maze if they are in one."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.agents import Agent
from iql_jax.data import replay
from iql_jax.report import maze
from iql_jax.training import maze_view
from iql_jax.training.evaluation import Evaluation
from iql_jax.training.population import Layout, choose_layout, over_members
from iql_jax.training.problem import Problem

MAX_ROWS = 4096

# The sample is drawn from a stream of its own, the same for every run over a dataset.
_STREAM = 0xD1A6


@functools.partial(jax.jit, static_argnums=(0, 1, 2), static_argnames="precision")
def diagnose_many(
    agent: Agent,
    config: Any,
    layout: Layout,
    states: Any,
    rows: jax.Array,
    *,
    precision: str,
    tasks: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Returns what P members think of M transitions: f32[P, M] by name.

    Args:
      agent: the agent's module.
      config: its static configuration.
      layout: where members live.
      states: states of P members.
      rows: f32[M, W], as `replay.pack` lays them out.
      precision: of matrix products, a name of `jax.default_matmul_precision`.
      tasks: i32[P], each member's task, counted from 0; None where the rows are of one.
    """
    width = replay.row_width(config.observation_dim, config.action_dim)

    def diagnose(member: tuple[Any, jax.Array | None], rows: jax.Array) -> dict[str, jax.Array]:
        state, task = member
        rows = replay.of_task(rows, width, task)
        batch = replay.unpack(rows, config.observation_dim, config.action_dim)
        return agent.diagnose(config, state, batch)

    with jax.default_matmul_precision(precision):
        return over_members(diagnose, layout, (states, tasks), rows)


def sample_rows(rows: np.ndarray, most: int = MAX_ROWS) -> np.ndarray:
    """Returns at most so many rows of a dataset f32[N, W], the same at every call, in order."""
    if len(rows) <= most:
        return rows
    rng = np.random.default_rng(_STREAM)
    return rows[np.sort(rng.choice(len(rows), most, replace=False))]


class Diagnosis:
    """Asks members about the same transitions at each evaluation."""

    def __init__(
        self,
        agent: Agent,
        config: Any,
        layout: Layout,
        problem: Problem,
        precision: str,
        tasks: jax.Array | None = None,
    ):
        """Draws the sample.

        Args:
          agent: the agent's module.
          config: its static configuration.
          layout: where members live.
          problem: the data, its transforms and the environment.
          precision: of matrix products.
          tasks: as in `diagnose_many`.
        """
        self._tasks = tasks
        self._diagnose = functools.partial(diagnose_many, agent, config, precision=precision)
        self._layout, self._problem = layout, problem
        sample = sample_rows(problem.rows)
        self._rows = jax.device_put(sample, layout.replicated)
        self._maze = maze_view.survey(problem)
        self._grid = None
        if self._maze is not None:
            self._grid = maze_view.value_rows(self._maze, problem, sample)

    def __call__(self, states: Any) -> dict[str, np.ndarray]:
        """Returns what each member thinks of the sample: f32[P, M] by name."""
        found = self._diagnose(self._layout, states, self._rows, tasks=self._tasks)
        return {name: np.asarray(values) for name, values in found.items()}

    def draw_maze(
        self,
        run_dir: Path,
        states: Any,
        paths: maze_view.Paths,
        evaluation: Evaluation,
        update: int,
    ) -> None:
        """Writes `maze.npz` where the environment is a maze; else does nothing.

        Args:
          run_dir: the run's directory.
          states: states of P members.
          paths: what it saw of the evaluation; of one member.
          evaluation: how it went.
          update: the number of updates done.
        """
        if self._maze is None or self._grid is None or evaluation.success is None:
            return
        device = self._layout.mesh.devices.flat[0]
        one = jax.device_put(
            jax.tree.map(lambda leaf: leaf[paths.member : paths.member + 1], states), device
        )
        found = self._diagnose(choose_layout(1, [device]), one, self._grid)
        values = np.asarray(found["v"])[0] if "v" in found else None
        success = evaluation.success[paths.member]
        maze.save(run_dir, maze_view.draw(self._maze, paths, success, values, update))
