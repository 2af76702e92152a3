import pytest

from iql_jax.envs import mazes
from iql_jax.envs.mazes import Maze

# A way round a wall: from (1, 1) to (3, 1) the only way is over column 3, as in D4RL's umaze.
UMAZE = mazes.d4rl_maze("umaze")


@pytest.mark.parametrize("size", mazes.MAPS)
def test_maps_are_rectangles_closed_by_walls(size):
    rows = mazes.MAPS[size]
    assert len({len(row) for row in rows}) == 1
    assert set("".join(rows)) == {"0", "1"}
    border = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)
    assert set(border) == {"1"}


@pytest.mark.parametrize(("size", "num_free"), [("umaze", 7), ("medium", 26), ("large", 46)])
def test_every_free_cell_can_be_reached(size, num_free):
    maze = mazes.d4rl_maze(size)
    assert len(mazes.free_cells(maze)) == num_free
    assert set(mazes.distances_to(maze, (1, 1))) == set(mazes.free_cells(maze))
    num_rows, num_cols = maze.shape
    assert len(mazes.wall_cells(maze)) == num_rows * num_cols - num_free


def test_d4rl_lays_rows_out_along_y_from_the_start_cell():
    assert UMAZE.center((1, 1)) == (0.0, 0.0)
    assert UMAZE.center((3, 1)) == (0.0, 8.0)
    assert mazes.d4rl_maze("large").center((7, 9)) == (32.0, 24.0)


def test_pointmaze_is_centred_with_the_first_row_on_top():
    maze = mazes.pointmaze_maze("medium")
    assert maze.center((1, 1)) == (-2.5, 2.5)
    assert maze.center((6, 6)) == (2.5, -2.5)


@pytest.mark.parametrize("layout", [mazes.d4rl_maze, mazes.pointmaze_maze])
@pytest.mark.parametrize("size", mazes.MAPS)
def test_a_cell_contains_its_centre_and_its_corners(layout, size):
    maze = layout(size)
    inside = 0.49 * maze.cell_size
    for cell in mazes.free_cells(maze) + mazes.wall_cells(maze):
        x, y = maze.center(cell)
        for dx, dy in [(0, 0), (inside, inside), (-inside, inside), (inside, -inside)]:
            assert maze.cell_at(x + dx, y + dy) == cell


def test_distances_follow_the_only_way():
    assert mazes.distances_to(UMAZE, (3, 1)) == {
        (3, 1): 0,
        (3, 2): 1,
        (3, 3): 2,
        (2, 3): 3,
        (1, 3): 4,
        (1, 2): 5,
        (1, 1): 6,
    }


@pytest.mark.parametrize("size", mazes.MAPS)
def test_each_next_cell_is_one_step_nearer(size):
    maze = mazes.d4rl_maze(size)
    for goal in mazes.free_cells(maze):
        distances = mazes.distances_to(maze, goal)
        for cell, onward in mazes.next_cells(maze, goal).items():
            (row, col), (next_row, next_col) = cell, onward
            assert abs(row - next_row) + abs(col - next_col) == (cell != goal)
            assert distances[onward] == max(distances[cell] - 1, 0)


def test_a_way_can_be_missing():
    parted = Maze(("11111", "10101", "11111"), 1.0, (0.0, 0.0), 1)
    assert set(mazes.distances_to(parted, (1, 1))) == {(1, 1)}


def test_a_wall_is_no_goal():
    with pytest.raises(ValueError, match=r"cell \(0, 0\) is not a free cell"):
        mazes.distances_to(UMAZE, (0, 0))


def test_waypoints_lead_over_the_next_cell_to_the_goal_itself():
    goal = (0.5, 8.5)
    assert mazes.waypoint(UMAZE, 0.3, -0.2, goal) == (4.0, 0.0)
    assert mazes.waypoint(UMAZE, 8.3, 1.0, goal) == (8.0, 4.0)
    assert mazes.waypoint(UMAZE, 1.5, 7.5, goal) == goal


def test_inside_a_wall_the_nearest_free_cell_is_the_waypoint():
    assert mazes.waypoint(UMAZE, 0.1, 2.1, (0.5, 8.5)) == (0.0, 0.0)
