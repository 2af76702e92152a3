"""Stand-ins for packages that published codes import but their updates do not need.

`install` makes packages importable whose every name is an empty class, and gives JAX the names it
has since dropped. Of what an update does compute with, diagonal Gaussians, the stand-ins are real.
"""

import importlib.abc
import importlib.machinery
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class _Anything(type):
    """The class of empty classes whose every attribute is one too."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


class _StandIn(types.ModuleType):
    """A module that has every name."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Anything(name, (), {})
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, packages: Sequence[str]):
        self._packages = frozenset(packages)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        del path, target
        if fullname.split(".")[0] not in self._packages:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def install(packages: Sequence[str]) -> None:
    """Makes these packages importable, in place of any that are installed."""
    sys.meta_path.insert(0, _Finder(packages))


def install_decorator(package: str, name: str) -> None:
    """Gives a stand-in a function `name()` that returns a decorator which changes nothing."""
    module = importlib.import_module(package)
    setattr(module, name, lambda *_, **__: lambda function: function)


def install_jax_of_2022() -> None:
    """Gives JAX and Flax the names and the tolerance that codes of 2022 expect."""
    import flax
    import jax

    for old in ("tree_map", "tree_multimap"):
        if not hasattr(jax, old):
            setattr(jax, old, jax.tree_util.tree_map)
    flax.config.update("flax_return_frozendict", True)
    strict_jit = jax.jit

    def jit(function: Any, *, static_argnames: Any = (), **options: Any) -> Any:
        """Returns `jax.jit` of a function, passing over static names that it does not have."""
        names = (static_argnames,) if isinstance(static_argnames, str) else static_argnames
        known = inspect.signature(function).parameters
        options["static_argnames"] = tuple(name for name in names if name in known)
        return strict_jit(function, **options)

    jax.jit = jit


def install_gaussians() -> None:
    """Gives the stand-ins for distrax and TensorFlow Probability their diagonal Gaussians."""
    import jax
    import jax.numpy as jnp

    class Normal:
        """N(loc, scale^2), each component by itself."""

        def __init__(self, loc: Any, scale: Any):
            self.loc, self.scale = loc, scale

        def log_prob(self, value: Any) -> Any:
            scaled = (value - self.loc) / self.scale
            return -0.5 * scaled**2 - jnp.log(self.scale) - 0.5 * jnp.log(2 * jnp.pi)

    class MultivariateNormalDiag(Normal):
        """N(loc, diag scale_diag^2)."""

        def __init__(self, loc: Any, scale_diag: Any):
            super().__init__(loc, scale_diag)

        def log_prob(self, value: Any) -> Any:
            return super().log_prob(value).sum(axis=-1)

        def sample(self, seed: Any) -> Any:
            return self.loc + self.scale * jax.random.normal(seed, jnp.shape(self.loc))

    for name in ("distrax", "tensorflow_probability.substrates.jax"):
        module = importlib.import_module(name)
        if name == "distrax":
            distributions = module
        else:
            distributions = importlib.import_module(name + ".distributions")
            module.distributions = distributions  # type: ignore[attr-defined]
            root = importlib.import_module("tensorflow_probability")
            root.substrates = importlib.import_module(  # type: ignore[attr-defined]
                "tensorflow_probability.substrates"
            )
            root.substrates.jax = module  # type: ignore[attr-defined]
        distributions.Normal = Normal  # type: ignore[attr-defined]
        distributions.MultivariateNormalDiag = MultivariateNormalDiag  # type: ignore[attr-defined]


def install_gym_of_2022(make_env: Callable[[str], Any], before_step: Callable[[], None]) -> None:
    """Gives the stand-in for Gym its interface of 2022, over environments of Gymnasium.

    Args:
      make_env: makes one by its name.
      before_step: called at the beginning of each step.
    """
    import gymnasium

    class Env:
        """An environment whose step returns four things."""

        def __init__(self, env: Any):
            self._env, self._seed = env, None
            self.observation_space, self.action_space = env.observation_space, env.action_space

        def seed(self, seed: Any) -> None:
            self._seed = seed

        def reset(self) -> Any:
            seed, self._seed = self._seed, None
            return self._env.reset(seed=seed)[0]

        def step(self, action: Any) -> Any:
            before_step()
            observation, reward, terminated, truncated, info = self._env.step(action)
            if truncated and not terminated:
                info["TimeLimit.truncated"] = True
            return observation, reward, terminated or truncated, info

    class Wrapper:
        """Hands on what it does not have."""

        def __init__(self, env: Any):
            self.env = env
            self.observation_space, self.action_space = env.observation_space, env.action_space

        def __getattr__(self, name: str) -> Any:
            return getattr(self.env, name)

    class ObservationWrapper(Wrapper):
        """Changes observations."""

        def reset(self) -> Any:
            return self.observation(self.env.reset())

        def step(self, action: Any) -> Any:
            observation, *rest = self.env.step(action)
            return self.observation(observation), *rest

    gym, spaces = importlib.import_module("gym"), importlib.import_module("gym.spaces")
    names = {"Env": Env, "ActionWrapper": Wrapper, "ObservationWrapper": ObservationWrapper}
    names |= {"spaces": spaces, "make": lambda name: Env(make_env(name))}
    for name, value in names.items():
        setattr(gym, name, value)
    spaces.Box, spaces.Dict = gymnasium.spaces.Box, gymnasium.spaces.Dict  # type: ignore[attr-defined]


class SummaryWriter:
    """Takes what is logged, and forgets it."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None
