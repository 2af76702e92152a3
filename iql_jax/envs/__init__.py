"""Environments by name: D4RL's own physics, generated mazes, anything Gymnasium knows."""

import contextlib
import functools
import importlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iql_jax.envs import d4rl_names, minari_env, ogbench_env
from iql_jax.errors import InputError, did_you_mean

if TYPE_CHECKING:  # names and scores are read without the simulators
    import gymnasium

_AUCTION_PREFIX = "auctionnet/"
_Maker = Callable[[str, str | None], "gymnasium.Env"]


@functools.cache
def _own() -> dict[str, _Maker]:
    """The environments made by this package, by every name they go by."""
    from iql_jax.envs import adroit, adroit_binary, antmaze, kitchen, locomotion, maze2d, pointmaze

    makers: dict[str, _Maker] = {}
    for names, maker in (
        (locomotion.d4rl_names(), locomotion.make_locomotion),
        (antmaze.D4RL_NAMES, antmaze.make_antmaze),
        (maze2d.d4rl_names(), maze2d.make_maze2d),
        (adroit.d4rl_names(), adroit.make_adroit),
        (kitchen.d4rl_names(), kitchen.make_kitchen),
    ):
        makers |= {prefix + name: maker for prefix in ("", "d4rl/") for name in names}
    makers |= dict.fromkeys(d4rl_names.binary_names(), adroit_binary.make_binary)
    makers |= dict.fromkeys(antmaze.GENERATED_NAMES, antmaze.make_antmaze)
    makers |= dict.fromkeys(pointmaze.GENERATED_NAMES, pointmaze.make_pointmaze)
    return makers


def make(env_name: str, render_mode: str | None = None) -> "gymnasium.Env":
    """Returns a new environment with vectors of real numbers for observations and actions.

    Dictionaries and choices of a Gymnasium environment become such vectors as `flatten` says.

    Args:
      env_name: a D4RL name, bare or as `d4rl/...`, for D4RL's environment reproduced; a
        `generated/...` name; `binary/...` for Adroit's binary tasks; `auctionnet/PATH` for a
        period replayed; `minari/ID` for what that dataset names; `ogbench/...`; or a Gymnasium
        id, as `module:Name-v0` where a module of yours registers it.
      render_mode: None or "rgb_array".

    Raises:
      InputError: there is no such environment, it cannot be made here, or its observations or
        actions are of another kind.
    """
    if env_name.startswith(_AUCTION_PREFIX):
        from iql_jax.envs import auctionnet

        return auctionnet.make_auction(env_name, render_mode)
    if env_name.startswith(minari_env.PREFIX):
        _register_robotics()
        return minari_env.make_recovered(env_name, render_mode)
    if ogbench_env.is_ogbench(env_name):
        return ogbench_env.make_ogbench(env_name, render_mode)
    maker = _own().get(env_name)
    if maker is not None:
        return maker(env_name, render_mode)
    _require_gymnasium_id(env_name)
    import gymnasium

    from iql_jax.envs.flatten import flatten_env

    # Not every environment takes a render mode, so none is not passed on.
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    try:
        env = gymnasium.make(env_name, disable_env_checker=True, **options)
    except (gymnasium.error.Error, ImportError) as error:
        raise InputError(f"environment {env_name!r} cannot be made: {_one_line(error)}") from error
    try:
        return flatten_env(env)
    except InputError as error:
        env.close()
        raise InputError(f"environment {env_name!r} cannot be used: {error}") from error


def exists(env_name: str) -> bool:
    """Returns whether `make` knows the name; a Gymnasium id may still be of an unsupported kind."""
    if env_name in _own():
        return True
    try:
        if env_name.startswith(_AUCTION_PREFIX):
            from iql_jax.envs import auction_period

            auction_period.period_file(auction_period.parse_name(env_name)[0])
            return True
        if env_name.startswith(minari_env.PREFIX):
            return minari_env.has_environment(minari_env.open_dataset(env_name))
        if ogbench_env.is_ogbench(env_name):
            ogbench_env.parse_name(env_name)
            return True
        _require_gymnasium_id(env_name)
    except InputError:
        return False
    return True


def _require_gymnasium_id(env_name: str) -> None:
    """Returns nothing if Gymnasium has this id, after importing what may register it."""
    import gymnasium

    module, colon, env_id = env_name.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"environment {env_name!r} asks for module {module!r}, which does not import: "
                f"{_one_line(error)}"
            ) from error
    if env_id in gymnasium.registry:
        return
    _register_robotics()
    if env_id in gymnasium.registry:
        return
    raise InputError(
        f"there is no environment {env_name!r}"
        f"{did_you_mean(env_name, [*_own(), *gymnasium.registry])} "
        "(known: D4RL names, generated/..., Gymnasium ids, module:Id for ids of your own)"
    )


def _register_robotics() -> None:
    """Adds gymnasium-robotics' ids where it is installed, without the notice it prints."""
    import gymnasium

    with contextlib.suppress(ImportError), contextlib.redirect_stderr(io.StringIO()):
        robotics: Any = importlib.import_module("gymnasium_robotics")
        gymnasium.register_envs(robotics)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
