"""The one exception that means: the user can fix this."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from outside: a name, a file, a flag, a configuration.

    The message is written for the user: it names the thing, the value found, what is allowed and
    the fix. Entry points print it on one line and exit with status 2, without a traceback.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name nearest to `name`, or an empty string."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""
