"""Pictures: pure functions of arrays to figures, in colours that colour-blind readers can tell."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from iql_jax.report.files import write_atomic
from iql_jax.report.groups import Group
from iql_jax.report.maze import MazeView
from iql_jax.report.runs import Series
from iql_jax.report.statistics import bootstrap_band
from iql_jax.report.summary import member_mean

# Okabe and Ito's palette.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_PANELS_PER_ROW = 3


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, apart from any global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write `figure` as PNG, in place of an older one.

    Raises:
      InputError: if it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomic(Path(path), buffer.getvalue())


def draw_curve(
    axes: Axes,
    series: Series,
    colour: str = COLOURS[0],
    style: str = "-",
    label: str | None = None,
    *,
    members: bool,
    band: bool,
) -> None:
    """Draw the mean over members; if asked, a thin line for each and the mean's 95% interval."""
    updates, values = series.updates, series.values
    if values.shape[1] > 1 and members:
        axes.plot(updates, values, color=colour, linewidth=0.8, alpha=0.35)
    if values.shape[1] > 1 and band:
        low, high = bootstrap_band(values)
        axes.fill_between(updates, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        updates,
        member_mean(values),
        color=colour,
        linestyle=style,
        linewidth=2 if band else 1.3,
        marker="o" if band and len(updates) <= 30 else None,
        markersize=4,
        label=label,
    )


def count_members(count: int) -> str:
    """Return "1 member", "4 members"."""
    return f"{count} member{'' if count == 1 else 's'}"


def _dress(axes: Axes, ylabel: str, xlabel: str | None = "gradient updates") -> None:
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel(ylabel)
    if xlabel:
        axes.set_xlabel(xlabel)


def _entitle(figure: Figure, title: str) -> None:
    """Put a title above all panels, in as many lines as the figure's width asks for."""
    figure.suptitle(_wrapped(title, figure.get_figwidth()), fontsize="medium")


def _wrapped(text: str, inches: float) -> str:
    return "\n".join(textwrap.fill(line, int(13 * inches)) for line in text.splitlines())


def _frame_scores(axes: Axes, label: str) -> None:
    """Show zero, and of a rate all that it can be."""
    if label == "success rate (%)":
        axes.set_ylim(-3.0, 103.0)
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def learning_curves(
    title: str,
    score_label: str,
    scores: Series,
    metrics: Mapping[str, Series],
    online_from: int | None = None,
) -> Figure:
    """Return the score over updates, and below it one panel for every metric.

    Args:
      title: names the data and the method.
      score_label: what the score is.
      scores: score by update and member; may be empty.
      metrics: by name.
      online_from: the update after which training was online; None if it never was.
    """
    rows = -(-len(metrics) // _PANELS_PER_ROW)
    figure = new_figure(10, 4.2 + 2.3 * rows)
    grid = figure.add_gridspec(
        1 + rows, _PANELS_PER_ROW, height_ratios=[1.9] + [1.0] * rows if rows else [1.0]
    )
    top = figure.add_subplot(grid[0, :])
    _entitle(figure, title)
    many = scores.values.shape[1]
    if len(scores.updates):
        label = ("mean of " if many > 1 else "") + count_members(many)
        draw_curve(top, scores, label=label, members=True, band=True)
        handles, labels = top.get_legend_handles_labels()
        if many > 1:
            handles.append(Line2D([], [], color=COLOURS[0], linewidth=0.8, alpha=0.5))
            handles.append(Rectangle((0, 0), 1, 1, color=COLOURS[0], alpha=0.2))
            labels += ["members", "95% bootstrap interval of the mean"]
        top.legend(handles, labels, frameon=False, fontsize="small")
        _frame_scores(top, score_label)
    else:
        top.text(0.5, 0.5, "no evaluation yet", transform=top.transAxes, ha="center")
    _dress(top, score_label)
    for index, (name, series) in enumerate(metrics.items()):
        panel = figure.add_subplot(grid[1 + index // _PANELS_PER_ROW, index % _PANELS_PER_ROW])
        draw_curve(panel, series, members=True, band=False)
        _dress(panel, "")
        panel.set_title(name, fontsize="medium")
        _clip_to_bulk(panel, series.values)
    for axes in figure.axes:
        if online_from is not None:
            axes.axvline(online_from, color="0.4", linestyle=":", linewidth=1)
    if online_from is not None:
        top.annotate(
            "online from here",
            (online_from, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize="small",
            va="top",
        )
    return figure


def _clip_to_bulk(axes: Axes, values: np.ndarray) -> None:
    """Keep a huge first value from flattening the rest of a curve; say so where it does."""
    finite = values[np.isfinite(values)]
    if len(values) < 50 or not finite.size:
        return
    low, high = np.quantile(finite, [0.02, 0.98], method="inverted_cdf")
    margin = 0.15 * (high - low) or 1.0
    beyond = int((finite > high + 3 * margin).sum() + (finite < low - 3 * margin).sum())
    if beyond:
        axes.set_ylim(low - margin, high + margin)
        axes.text(
            0.98,
            0.97,
            f"{beyond} value{'s' * (beyond > 1)} beyond the frame",
            transform=axes.transAxes,
            fontsize="x-small",
            color="0.4",
            ha="right",
            va="top",
        )


def method_curves(groups: Sequence[Group]) -> Figure:
    """Return one panel per dataset, in it one curve with its 95% interval per method."""
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    methods = list(dict.fromkeys(group.method for group in groups))
    columns = min(_PANELS_PER_ROW, len(datasets))
    rows = -(-len(datasets) // columns)
    figure = new_figure(max(6.0, 4.6 * columns), 3.6 * rows + 0.6)
    for index, dataset in enumerate(datasets):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set_title(dataset, fontsize="medium")
        for group in groups:
            if group.dataset == dataset:
                place = methods.index(group.method)
                draw_curve(
                    axes,
                    group.scores,
                    COLOURS[place % len(COLOURS)],
                    _STYLES[place // len(COLOURS) % len(_STYLES)],
                    f"{group.method} ({count_members(group.scores.values.shape[1])})",
                    members=False,
                    band=True,
                )
                _frame_scores(axes, group.label)
                _dress(axes, group.label)
        axes.legend(frameon=False, fontsize="small")
    figure.suptitle("mean over members, 95% bootstrap interval", fontsize="small", color="0.3")
    return figure


def distributions(title: str, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return, for each name in `rows`, the distribution of its last update, a line per member.

    Args:
      title: names the data and the method.
      rows: of `histograms.jsonl`, at least one.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure = new_figure(4.8 * len(names), 3.6)
    _entitle(figure, title)
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        update = max(row["update"] for row in rows if row["name"] == name)
        shown = [row for row in rows if row["name"] == name and row["update"] == update]
        for place, row in enumerate(shown):
            counts, edges = np.array(row["counts"], float), np.array(row["edges"])
            density = counts / (counts.sum() * np.diff(edges))
            colour = COLOURS[place % len(COLOURS)]
            axes.stairs(density, edges, color=colour, label=f"seed {row['seed']}", linewidth=1.3)
            axes.stairs(density, edges, color=colour, fill=True, alpha=0.3 / len(shown))
        axes.set_xlim(*_bulk(shown))
        if name == "advantage":
            axes.axvline(0, color="0.4", linestyle=":", linewidth=1)
        axes.set_title(f"{name} after {update:,} updates", fontsize="medium")
        unit = "log density" if name == "log_prob" else "discounted return"
        _dress(axes, "probability density", f"{name} ({unit})")
        axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
        axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
        if len(shown) <= len(COLOURS):  # a place of its own: to look for the best takes seconds
            axes.legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def _bulk(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return an interval that holds all but a thousandth of each histogram at either end."""
    lows, highs = [], []
    for row in rows:
        below = np.cumsum(row["counts"]) / np.sum(row["counts"])
        lows.append(row["edges"][np.searchsorted(below, 0.001)])
        highs.append(row["edges"][np.searchsorted(below, 0.999) + 1])
    return min(lows), max(highs)


def maze(title: str, view: MazeView) -> Figure:
    """Return the maze from above: walls, value over it, trajectories, goal."""
    rows, columns = view.walls.shape
    width, height = abs(view.step[0]) * columns, abs(view.step[1]) * rows
    scale = 7.0 / max(width, height)
    figure = new_figure(max(5.0, width * scale + 1.6), max(3.5, height * scale + 1.4))
    axes = figure.add_subplot()
    if view.values.size:
        mesh = axes.pcolormesh(view.value_x, view.value_y, view.values, cmap="viridis")
        figure.colorbar(mesh, ax=axes, label="V(s), discounted return", shrink=0.85)
    cells = [
        Rectangle(
            (
                view.origin[0] + view.step[0] * column - abs(view.step[0]) / 2,
                view.origin[1] + view.step[1] * row - abs(view.step[1]) / 2,
            ),
            abs(view.step[0]),
            abs(view.step[1]),
        )
        for row, column in np.argwhere(view.walls)
    ]
    axes.add_collection(PatchCollection(cells, facecolor="0.25", edgecolor="0.25", zorder=2))
    _draw_trajectories(axes, view)
    across = np.sort(view.origin[0] + view.step[0] * np.array([-0.5, columns - 0.5]))
    along = np.sort(view.origin[1] + view.step[1] * np.array([-0.5, rows - 0.5]))
    axes.set(xlim=across, ylim=along, xlabel="x (m)", ylabel="y (m)", aspect="equal")
    reached = int(np.sum(view.success))
    outcome = f"{reached} of {len(view.success)} episodes reach the goal, {view.update:,} updates"
    axes.set_title(f"{_wrapped(title, 0.8 * figure.get_figwidth())}\n{outcome}", fontsize="medium")
    return figure


def _draw_trajectories(axes: Axes, view: MazeView) -> None:
    outline = [patheffects.withStroke(linewidth=2.6, foreground="black")]
    handles = {}
    for path, success in zip(view.trajectories, view.success, strict=True):
        colour, style, label = (
            ("white", "-", "reaches the goal") if success else ("#E69F00", "-", "does not")
        )
        (line,) = axes.plot(
            path[:, 0],
            path[:, 1],
            style,
            color=colour,
            linewidth=1.2,
            path_effects=outline,
            zorder=3,
        )
        handles[label] = line
        axes.plot(*path[0], "o", color="white", markeredgecolor="black", markersize=6, zorder=4)
    if view.goal is not None:
        pink = COLOURS[3]
        axes.add_patch(
            Circle(view.goal, view.goal_radius, facecolor="none", edgecolor=pink, lw=1.8, zorder=5)
        )
        (star,) = axes.plot(
            *view.goal, "*", color=pink, markeredgecolor="black", markersize=14, zorder=5
        )
        handles["goal"] = star
    if handles:
        axes.figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize="small"
        )
