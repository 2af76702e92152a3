"""Pictures: what is on their axes, and that every kind of run can be drawn."""

import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import FillBetweenPolyCollection, PatchCollection, QuadMesh

from iql_jax.report import groups, maze, pictures, plots, runs
from iql_jax.report.runs import Series


def view_of(step=(4.0, 4.0), **changes):
    walls = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 0, 1], [1, 1, 1, 1]], bool)
    x, y, free = maze.value_grid(walls, (-4.0, -4.0), step, per_cell=3)
    fields = {
        "walls": walls,
        "origin": (-4.0, -4.0),
        "step": step,
        "trajectories": [np.float32([[0, 0], [4, 0], [4, 4]]), np.float32([[0, 0], [1, 1]])],
        "success": np.array([True, False]),
        "goal": (4.0, 4.0),
        "goal_radius": 0.5,
        "value_x": x,
        "value_y": y,
        "values": np.where(free, 1.0, np.nan),
        "update": 1000,
    }
    return maze.MazeView(**(fields | changes))


def bands(axes):
    return [one for one in axes.collections if isinstance(one, FillBetweenPolyCollection)]


def test_learning_curves_show_mean_members_and_interval():
    scores = Series(np.array([1000, 2000]), np.array([[10.0, 30.0], [40.0, 60.0]]))
    losses = {"training/q_loss": Series(np.arange(50), np.ones((50, 2)))}
    figure = plots.learning_curves("IQL on x", "success rate (%)", scores, losses)
    top, panel = figure.axes
    assert top.get_ylabel() == "success rate (%)"
    assert top.get_xlabel() == panel.get_xlabel() == "gradient updates"
    assert figure.get_suptitle() == "IQL on x"
    assert panel.get_title() == "training/q_loss"
    assert top.lines[-1].get_ydata().tolist() == [20.0, 50.0]
    assert len(top.lines) == 3  # two members and their mean
    assert len(bands(top)) == 1
    legend = [text.get_text() for text in top.get_legend().get_texts()]
    assert legend == ["mean of 2 members", "members", "95% bootstrap interval of the mean"]


def test_one_member_has_no_band_and_no_evaluation_is_said():
    one = Series(np.array([1000]), np.array([[10.0]]))
    top = plots.learning_curves("t", "score", one, {}).axes[0]
    assert not bands(top)
    none = Series(np.zeros(0, np.int64), np.zeros((0, 0)))
    top = plots.learning_curves("t", "score", none, {}).axes[0]
    assert [text.get_text() for text in top.texts] == ["no evaluation yet"]


def test_a_huge_first_loss_does_not_flatten_the_rest_and_is_told():
    loss = np.linspace(1.0, 0.5, 100)[:, None].copy()
    loss[0] = 1e6
    series = Series(np.arange(100), loss)
    figure = plots.learning_curves("t", "score", series, {"training/q_loss": series})
    panel = figure.axes[1]
    assert panel.get_ylim()[1] < 2
    assert panel.texts[0].get_text() == "1 value beyond the frame"


def test_the_start_of_training_online_is_marked():
    scores = Series(np.array([1000, 2000]), np.array([[10.0], [40.0]]))
    top = plots.learning_curves("t", "score", scores, {}, online_from=1000).axes[0]
    assert top.texts[0].get_text() == "online from here"
    assert list(top.lines[-1].get_xdata()) == [1000, 1000]


def test_methods_share_a_panel_per_dataset(make_run):
    found = groups.group_runs(
        [
            runs.load_run(make_run("a", [[1, 2], [3, 4]])),
            runs.load_run(make_run("b", [[1], [2]], agent="bc")),
            runs.load_run(make_run("c", [[1], [2]], dataset="file/x", label="return")),
        ]
    )
    figure = plots.method_curves(found)
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["generated/maze-v0", "file/x"]
    assert second.get_ylabel() == "return"
    texts = [text.get_text() for text in first.get_legend().get_texts()]
    assert texts == ["iql (2 members)", "bc (1 member)"]


def test_distributions_are_densities_of_the_last_update():
    rows = [
        {"update": update, "seed": 0, "name": name, "counts": [1, 3], "edges": [0.0, 0.5, 1.0]}
        for update in (10, 20)
        for name in ("advantage", "q")
    ]
    figure = plots.distributions("t", rows)
    first = figure.axes[0]
    assert [axes.get_title() for axes in figure.axes] == [
        "advantage after 20 updates",
        "q after 20 updates",
    ]
    values, edges, _ = first.patches[0].get_data()
    assert (values * np.diff(edges)).sum() == pytest.approx(1.0)
    assert first.get_xlim() == (0.0, 1.0)


@pytest.mark.parametrize("step", [(4.0, 4.0), (4.0, -4.0)])
def test_a_maze_has_walls_values_and_paths_where_they_are(step):
    view = view_of(step)
    figure = plots.maze("IQL on x", view)
    axes = figure.axes[0]
    walls = next(one for one in axes.collections if isinstance(one, PatchCollection))
    boxes = [path.get_extents() for path in walls.get_paths()]
    assert len(boxes) == view.walls.sum()

    def is_wall(x, y):
        return any(box.contains(x, y) for box in boxes)

    # Cell [1, 1] is free, cell [2, 1] is a wall, wherever rows point.
    assert not is_wall(0.0, -4.0 + step[1])
    assert is_wall(0.0, -4.0 + 2 * step[1])
    assert any(isinstance(one, QuadMesh) for one in axes.collections)
    points = [(x, y) for x in view.value_x for y in view.value_y]
    values = view.values.T.ravel()
    assert all(
        np.isnan(value) == is_wall(*point) for point, value in zip(points, values, strict=True)
    )
    assert axes.get_aspect() == 1.0
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (m)", "y (m)")
    assert "1 of 2 episodes reach the goal, 1,000 updates" in axes.get_title()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["reaches the goal", "does not", "goal"]


def test_a_maze_without_values_goal_or_paths_is_drawn():
    empty = np.zeros(0)
    bare = {"trajectories": [], "success": np.zeros(0, bool), "goal": None}
    view = view_of(value_x=empty, value_y=empty, values=np.zeros((0, 0)), **bare)
    figure = plots.maze("t", view)
    assert len(figure.axes) == 1  # no colour bar
    assert not figure.legends


def test_the_pictures_of_a_run(make_run):
    path = make_run("a", [[1, 2], [3, 4]])
    maze.save(path, view_of())
    written = pictures.draw_run(path)
    assert [one.name for one in written] == ["learning_curves.png", "distributions.png", "maze.png"]
    for picture in written:
        pixels = image.imread(picture)
        assert min(pixels.shape[:2]) > 300
        assert pixels[..., :3].std() > 0.05  # something is drawn
    run = runs.load_run(path)
    assert pictures.title_of(run) == "IQL on generated/maze-v0\nmade for a test"
    assert list(pictures.training_series(path)) == ["training/q_loss", "training/v"]


def test_rates_show_their_whole_range_and_long_titles_wrap():
    scores = runs.Series(np.array([10, 20]), np.zeros((2, 1)))
    figure = plots.learning_curves(
        "IQL on a maze\n" + "made by " * 40, "success rate (%)", scores, {}
    )
    assert figure.axes[0].get_ylim() == (-3.0, 103.0)
    lines = figure.get_suptitle().splitlines()
    assert lines[0] == "IQL on a maze" and max(map(len, lines)) <= 130 and len(lines) > 2
    figure = plots.learning_curves("", "return", scores, {})
    assert figure.axes[0].get_ylim()[1] < 1
