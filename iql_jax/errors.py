"""The one exception that means: the user can fix this."""


class InputError(ValueError):
    """Bad input from outside: a name, a file, a flag, a configuration.

    The message is written for the user: it names the thing, the value found, what is allowed and
    the fix. Entry points print it on one line and exit with status 2, without a traceback.
    """
