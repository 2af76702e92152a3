"""Maze views survive their file; contradictions and damage are refused."""

import dataclasses

import numpy as np
import pytest

from iql_jax.errors import InputError
from iql_jax.report import maze
from tests.report.test_plots import view_of


@pytest.mark.parametrize(
    "changes",
    [{}, {"goal": None}, {"trajectories": [], "success": np.zeros(0, bool)}],
)
def test_a_view_comes_back(tmp_path, changes):
    view = view_of(**changes)
    maze.save(tmp_path, view)
    back = maze.load(tmp_path)
    for field in dataclasses.fields(view):
        wanted, found = getattr(view, field.name), getattr(back, field.name)
        if field.name == "trajectories":
            assert len(wanted) == len(found)
            assert all(np.array_equal(*pair) for pair in zip(wanted, found, strict=True))
        elif isinstance(wanted, np.ndarray):
            assert np.array_equal(wanted, found, equal_nan=wanted.dtype.kind == "f")
        else:
            assert wanted == found


def test_no_view_and_a_damaged_one(tmp_path):
    assert maze.load(tmp_path) is None
    (tmp_path / "maze.npz").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"maze.npz' is damaged"):
        maze.load(tmp_path)


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match=r"values of shape \(2, 2\) for 12 x 12 points"):
        view_of(values=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="1 successes for 2 trajectories"):
        view_of(success=np.array([True]))


def test_the_grid_increases_and_knows_walls_whichever_way_rows_point():
    walls = np.array([[True, False], [False, False]])
    x, y, free = maze.value_grid(walls, (0.0, 10.0), (2.0, -2.0), per_cell=2)
    assert x.tolist() == [-0.5, 0.5, 1.5, 2.5]
    assert y.tolist() == [7.5, 8.5, 9.5, 10.5]
    assert free.tolist() == [[True] * 4, [True] * 4] + [[False, False, True, True]] * 2
