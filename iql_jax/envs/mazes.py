"""Mazes as strings of cells: where cells lie in the world, and shortest ways between them."""

import dataclasses
import functools
import math
from collections import deque

Cell = tuple[int, int]  # (row, column)

# 1 is a wall, 0 is free. D4RL's three mazes, which gymnasium-robotics' PointMaze has too, and
# those that only D4RL's maze2d has.
MAPS = {
    "umaze": ("11111", "10001", "11101", "10001", "11111"),
    "medium": (
        "11111111",
        "10011001",
        "10010001",
        "11000111",
        "10010001",
        "10100101",
        "10001001",
        "11111111",
    ),
    "large": (
        "111111111111",
        "100001000001",
        "101101010101",
        "100000010001",
        "101111011101",
        "100101000001",
        "110101010111",
        "100100010001",
        "111111111111",
    ),
    "open": ("1111111", "1000001", "1000001", "1000001", "1111111"),
    "eval-umaze": ("11111", "10001", "10111", "10001", "11111"),
    "eval-medium": (
        "11111111",
        "10000001",
        "10101101",
        "10000101",
        "11100111",
        "10000001",
        "10011001",
        "11111111",
    ),
    "eval-large": (
        "111111111111",
        "100100010001",
        "110111010101",
        "100101000001",
        "101101001101",
        "100000010001",
        "101101010111",
        "100001000001",
        "111111111111",
    ),
}


@dataclasses.dataclass(frozen=True)
class Maze:
    """A map laid out in the world.

    Attributes:
      rows: one string a row, 1 for a wall and 0 for a free cell.
      cell_size: edge of a cell in metres.
      origin: (x, y) of the centre of cell (0, 0).
      row_sign: +1 where y grows with the row (D4RL), -1 where it falls (gymnasium-robotics).
    """

    rows: tuple[str, ...]
    cell_size: float
    origin: tuple[float, float]
    row_sign: int

    @property
    def shape(self) -> Cell:
        """(rows, columns) of the map."""
        return len(self.rows), len(self.rows[0])

    def is_free(self, cell: Cell) -> bool:
        """Whether `cell` lies in the map and is no wall."""
        (row, col), (num_rows, num_cols) = cell, self.shape
        return 0 <= row < num_rows and 0 <= col < num_cols and self.rows[row][col] == "0"

    def center(self, cell: Cell) -> tuple[float, float]:
        """(x, y) of the cell's centre."""
        row, col = cell
        x0, y0 = self.origin
        return x0 + col * self.cell_size, y0 + self.row_sign * row * self.cell_size

    def cell_at(self, x: float, y: float) -> Cell:
        """The cell that contains (x, y), which may lie outside of the map."""
        x0, y0 = self.origin
        row = round(self.row_sign * (y - y0) / self.cell_size)
        return row, round((x - x0) / self.cell_size)


def d4rl_maze(size: str) -> Maze:
    """D4RL's AntMaze of that size: 4 m cells, cell (1, 1) at the world's origin."""
    return Maze(MAPS[size], cell_size=4.0, origin=(-4.0, -4.0), row_sign=1)


def pointmaze_maze(size: str) -> Maze:
    """gymnasium-robotics' PointMaze of that size: 1 m cells, the map's middle at the origin."""
    rows = MAPS[size]
    height, width = len(rows), len(rows[0])
    return Maze(rows, cell_size=1.0, origin=(0.5 - width / 2, height / 2 - 0.5), row_sign=-1)


@functools.cache
def free_cells(maze: Maze) -> tuple[Cell, ...]:
    """Every free cell, row by row."""
    num_rows, num_cols = maze.shape
    cells = ((row, col) for row in range(num_rows) for col in range(num_cols))
    return tuple(cell for cell in cells if maze.is_free(cell))


def wall_cells(maze: Maze) -> tuple[Cell, ...]:
    """Every wall cell, row by row."""
    num_rows, num_cols = maze.shape
    cells = ((row, col) for row in range(num_rows) for col in range(num_cols))
    return tuple(cell for cell in cells if not maze.is_free(cell))


@functools.cache
def distances_to(maze: Maze, goal: Cell) -> dict[Cell, int]:
    """Steps between neighbouring cells from each free cell to `goal`, by breadth-first search.

    Raises:
      ValueError: `goal` is a wall or outside of the map.
    """
    if not maze.is_free(goal):
        raise ValueError(f"cell {goal} is not a free cell of the maze {maze.rows}")
    distances, queue = {goal: 0}, deque([goal])
    while queue:
        cell = queue.popleft()
        for neighbour in _neighbours(cell):
            if maze.is_free(neighbour) and neighbour not in distances:
                distances[neighbour] = distances[cell] + 1
                queue.append(neighbour)
    return distances


@functools.cache
def next_cells(maze: Maze, goal: Cell) -> dict[Cell, Cell]:
    """The next cell on a shortest way to `goal` from each free cell; `goal` leads to itself."""
    distances = distances_to(maze, goal)
    onward = {goal: goal}
    for cell in distances:
        if cell != goal:
            reachable = [c for c in _neighbours(cell) if c in distances]
            onward[cell] = min(reachable, key=distances.__getitem__)
    return onward


def waypoint(maze: Maze, x: float, y: float, goal_xy: tuple[float, float]) -> tuple[float, float]:
    """(x, y) to head for from (x, y): the next cell's centre, or the goal itself in its own cell.

    From inside a wall, which rounding makes possible, that is the nearest free cell.
    """
    cell, goal = maze.cell_at(x, y), maze.cell_at(*goal_xy)
    onward = next_cells(maze, goal)
    if cell == goal:
        return goal_xy
    if cell not in onward:
        return min(map(maze.center, onward), key=lambda center: math.dist(center, (x, y)))
    return maze.center(onward[cell])


def _neighbours(cell: Cell) -> tuple[Cell, ...]:
    row, col = cell
    return (row, col - 1), (row, col + 1), (row - 1, col), (row + 1, col)
