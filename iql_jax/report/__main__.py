"""Pictures, tables and comparisons of run directories, finished or not.

    python -m iql_jax.report plot DIR...       pictures in every run directory
    python -m iql_jax.report table DIR...      scores, with published ones beside them
    python -m iql_jax.report compare DIR...    methods compared over common data
    python -m iql_jax.report book DIR...       all of it as one page, with the commands
    python -m iql_jax.report commands          the commands for the published tables, as a script

A DIR is a run directory or one that has run directories below it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from iql_jax.errors import InputError
from iql_jax.report import pictures, runs, tables
from iql_jax.report.book import published_commands, results_book
from iql_jax.report.files import write_atomic
from iql_jax.report.groups import group_runs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    plot = commands.add_parser("plot", help="learning curves, distributions, mazes")
    table = commands.add_parser("table", help="last and best scores with intervals")
    compare = commands.add_parser("compare", help="interquartile mean, probability of improvement")
    book = commands.add_parser("book", help="scores by kind of data, commands, published tables")
    book.add_argument("directories", nargs="*", metavar="DIR")
    book.add_argument("--output", type=Path, help="file to write instead of the terminal")
    listing = commands.add_parser("commands", help="what reproduces the published tables")
    for command in (plot, table, compare):
        command.add_argument("directories", nargs="+", metavar="DIR")
        command.add_argument("--by", help="setting that names the method, e.g. expectile")
        command.add_argument("--output", type=Path, help="file to write instead of the terminal")
    for command in (table, compare):
        command.add_argument("--format", choices=tables.FORMATS, default="text")
    table.add_argument("--no_published", action="store_true", help="leave out published scores")
    compare.add_argument("--score", choices=("last", "best"), default="last")
    plot.set_defaults(run=_plot)
    table.set_defaults(run=_table)
    compare.set_defaults(run=_compare)
    book.set_defaults(run=_book)
    listing.set_defaults(run=lambda _: print(published_commands()))
    return parser


def _plot(arguments: argparse.Namespace) -> None:
    found = runs.find_runs(arguments.directories)
    groups = group_runs(found, arguments.by)  # refuses a run that has nothing to show
    for run in found:
        for path in pictures.draw_run(run.path):
            print(path)
    if len(found) > 1 or arguments.output:
        from iql_jax.report import plots

        path = arguments.output or Path("learning_curves.png")
        plots.save(plots.method_curves(groups), path)
        print(path)


def _table(arguments: argparse.Namespace) -> None:
    groups = group_runs(runs.find_runs(arguments.directories), arguments.by)
    text = tables.results_table(groups, arguments.format, not arguments.no_published)
    _give(text, arguments.output)


def _compare(arguments: argparse.Namespace) -> None:
    groups = group_runs(runs.find_runs(arguments.directories), arguments.by)
    _give(tables.comparison_table(groups, arguments.score, arguments.format), arguments.output)


def _book(arguments: argparse.Namespace) -> None:
    found = runs.find_runs(arguments.directories) if arguments.directories else []
    _give(results_book(found).rstrip("\n"), arguments.output)


def _give(text: str, output: Path | None) -> None:
    if output is None:
        print(text)
    else:
        write_atomic(output, text + "\n")
        print(output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status of the command line `arguments`: 0, or 2 for bad input."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
