"""What datasets there are, and what is in them.

python -m iql_jax.data list [WORD...]     every known name, with the file where it is here
python -m iql_jax.data describe NAME      rows, returns, rewards, actions, score, warnings
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from iql_jax import data
from iql_jax.errors import InputError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="every known name, and whether it is here")
    listing.add_argument("words", nargs="*", metavar="WORD", help="only names that have them all")
    listing.add_argument("--here", action="store_true", help="only what is on this machine")
    listing.set_defaults(run=_list)
    describing = commands.add_parser("describe", help="a dataset's facts, and a histogram")
    describing.add_argument("name", metavar="NAME")
    describing.add_argument("--data_dir", help="folder for files that are downloaded or made")
    describing.add_argument("--picture", help="where the histogram goes; default: NAME-returns.png")
    describing.add_argument("--no_picture", action="store_true")
    describing.set_defaults(run=_describe)
    return parser


def _list(arguments: argparse.Namespace) -> None:
    from iql_jax.data import catalog

    found = [
        entry
        for entry in catalog.entries()
        if all(word in entry.name for word in arguments.words)
        and (entry.is_here or not arguments.here)
    ]
    if not found:
        raise InputError(
            f"no dataset{' here' if arguments.here else ''} has {' and '.join(arguments.words)!r} "
            "in its name; `list` alone shows all"
        )
    print(catalog.to_text(found))


def _describe(arguments: argparse.Namespace) -> None:
    from iql_jax.data import describe

    raw = data.load(arguments.name, data_dir=arguments.data_dir)
    description = describe.describe(raw)
    print(describe.to_text(description))
    if not arguments.no_picture:
        stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in raw.name).strip("-.")
        path = pathlib.Path(arguments.picture or f"{stem}-returns.png")
        print(f"histogram of returns: {describe.draw_returns(description, raw.name, path)}")


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
