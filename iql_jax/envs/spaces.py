"""Which environments this package can act in."""

import gymnasium

from iql_jax.errors import InputError


def env_label(env: gymnasium.Env) -> str:
    """Returns the name to call `env` by in messages."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def check_spaces(env: gymnasium.Env) -> None:
    """Returns nothing if observations and actions are flat vectors of real numbers.

    Raises:
      InputError: they are not.
    """
    for kind, space in (("observation", env.observation_space), ("action", env.action_space)):
        if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
            continue
        hint = ""
        if isinstance(space, gymnasium.spaces.Dict):
            hint = " (goal environments: flatten with gymnasium.wrappers.FlattenObservation)"
        found = f"{type(space).__name__}{list(space.shape) if space.shape else ''}"
        raise InputError(
            f"environment {env_label(env)!r} has a {found} {kind} space; supported: "
            f"one-dimensional Box{hint}"
        )
