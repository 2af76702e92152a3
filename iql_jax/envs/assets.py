"""Models that come with gymnasium-robotics, found without importing it: that prints a banner."""

import importlib.util
import pathlib

from iql_jax.errors import InputError


def robotics_asset(*parts: str) -> pathlib.Path:
    """Returns the path of a file or folder among gymnasium-robotics' models.

    Args:
      *parts: below the package's folder of assets, e.g. "point", "point.xml".

    Raises:
      InputError: the package is not installed.
    """
    package = importlib.util.find_spec("gymnasium_robotics")
    if package is None or package.origin is None:
        raise InputError(
            f"the model {'/'.join(parts)} comes with gymnasium-robotics, which is not installed: "
            'pip install "gymnasium-robotics>=1.4,<1.5"'
        )
    return pathlib.Path(package.origin).parent.joinpath("envs", "assets", *parts)
