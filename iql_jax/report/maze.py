"""What a picture of a maze shows, computed by the caller: walls, paths, values."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iql_jax.errors import InputError
from iql_jax.report.files import write_atomic

FILE = "maze.npz"


@dataclasses.dataclass(frozen=True)
class MazeView:
    """A maze with trajectories and values over it; lengths in metres.

    Attributes:
      walls: bool[R, C]; True where there is a wall.
      origin: (x, y) of the centre of cell [0, 0].
      step: (metres in x from a column to the next, metres in y from a row to the next); negative
        where rows go down.
      trajectories: for each episode, positions f32[T, 2].
      success: bool[K]; which episodes reached the goal.
      goal: (x, y), None if there is no fixed one.
      goal_radius: distance to the goal that counts as reaching it.
      value_x: f32[W], increasing, where values were computed.
      value_y: f32[H], increasing.
      values: f32[H, W], V at (value_x, value_y), NaN inside walls; H = W = 0 for none.
      update: gradient updates done.
    """

    walls: np.ndarray
    origin: tuple[float, float]
    step: tuple[float, float]
    trajectories: Sequence[np.ndarray]
    success: np.ndarray
    goal: tuple[float, float] | None
    goal_radius: float
    value_x: np.ndarray
    value_y: np.ndarray
    values: np.ndarray
    update: int

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.value_y), len(self.value_x)):
            raise ValueError(
                f"values of shape {self.values.shape} for {len(self.value_y)} x "
                f"{len(self.value_x)} points"
            )
        if len(self.success) != len(self.trajectories):
            raise ValueError(
                f"{len(self.success)} successes for {len(self.trajectories)} trajectories"
            )


def value_grid(
    walls: np.ndarray, origin: tuple[float, float], step: tuple[float, float], per_cell: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (x f64[W], y f64[H], free bool[H, W]): points all over a maze to compute values at.

    Args:
      walls: bool[R, C], as in `MazeView`.
      origin: as in `MazeView`.
      step: as in `MazeView`.
      per_cell: points in each direction of a cell.

    `x` and `y` increase; `free` is False where a point lies in a wall.
    """
    rows, columns = walls.shape
    across = (np.arange(columns * per_cell) + 0.5) / per_cell - 0.5  # in cells, 0 the centre
    along = (np.arange(rows * per_cell) + 0.5) / per_cell - 0.5
    across = across if step[0] > 0 else across[::-1]
    along = along if step[1] > 0 else along[::-1]
    row, column = np.round(along).astype(int), np.round(across).astype(int)
    free = ~walls[row[:, None], column[None, :]]
    return origin[0] + step[0] * across, origin[1] + step[1] * along, free


def save(run_dir: str | Path, view: MazeView) -> None:
    """Write `view` as `maze.npz` of the run directory, in place of an older one.

    Raises:
      InputError: if it cannot be written.
    """
    lengths = np.array([len(path) for path in view.trajectories], np.int64)
    positions = np.concatenate([np.zeros((0, 2), np.float32), *view.trajectories])
    goal = (np.nan, np.nan) if view.goal is None else view.goal
    arrays = dataclasses.asdict(view) | {"goal": goal, "lengths": lengths, "positions": positions}
    del arrays["trajectories"]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(Path(run_dir) / FILE, buffer.getvalue())


def load(run_dir: str | Path) -> MazeView | None:
    """Return the view saved in the run directory, None if there is none.

    Raises:
      InputError: if the file is damaged.
    """
    path = Path(run_dir) / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InputError(f"'{path}' is damaged ({error}); remove that file") from error
    ends = np.cumsum(arrays["lengths"])
    paths = np.split(arrays["positions"], ends)[:-1]  # what follows the last end is empty
    goal = arrays["goal"]
    return MazeView(
        walls=arrays["walls"],
        origin=(float(arrays["origin"][0]), float(arrays["origin"][1])),
        step=(float(arrays["step"][0]), float(arrays["step"][1])),
        trajectories=paths,
        success=arrays["success"],
        goal=None if np.isnan(goal).any() else (float(goal[0]), float(goal[1])),
        goal_radius=float(arrays["goal_radius"]),
        value_x=arrays["value_x"],
        value_y=arrays["value_y"],
        values=arrays["values"],
        update=int(arrays["update"]),
    )
