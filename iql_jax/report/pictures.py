"""The pictures of a run directory, drawn from its files whether it has finished or not."""

from collections.abc import Mapping
from pathlib import Path

from iql_jax.report import maze, runs

LEARNING_CURVES, DISTRIBUTIONS, MAZE = "learning_curves.png", "distributions.png", "maze.png"


def title_of(run: runs.Run) -> str:
    """Return the title of a run's pictures: method, data and what made the data."""
    agent = str(run.config.get("agent", "")).upper()
    source = run.record.get("dataset", {}).get("source")
    title = f"{agent} on {run.dataset}" if agent else run.dataset
    return f"{title}\n{source}" if source else title


def training_series(run_dir: str | Path, limit: int = 9) -> Mapping[str, runs.Series]:
    """Return up to `limit` of the metrics under `training/`, losses first."""
    rows = runs.read_metrics(run_dir)
    names = list(
        dict.fromkeys(name for row in rows for name in row if name.startswith("training/"))
    )
    names.sort(key=lambda name: "loss" not in name)  # stable: else in the order of logging
    return {name: runs.pivot(rows, name) for name in names[:limit]}


def draw_run(run_dir: str | Path) -> list[Path]:
    """Write the pictures that the files of a run allow; return their paths.

    Raises:
      InputError: if it is no run directory, a file of it is damaged, or one cannot be written.
    """
    from iql_jax.report import plots  # matplotlib is slow to import

    run = runs.load_run(run_dir)
    title = title_of(run)
    written = [run.path / LEARNING_CURVES]
    plots.save(
        plots.learning_curves(
            title, run.score_label, run.scores(), training_series(run_dir), run.online_from
        ),
        written[0],
    )
    histograms = runs.read_histograms(run_dir)
    if histograms:
        written.append(run.path / DISTRIBUTIONS)
        plots.save(plots.distributions(title, histograms), written[-1])
    view = maze.load(run_dir)
    if view is not None:
        written.append(run.path / MAZE)
        plots.save(plots.maze(title, view), written[-1])
    return written
