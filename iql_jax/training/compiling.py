"""Compilation of the training program with the options that serve the platform it runs on."""

import functools
from collections.abc import Callable
from typing import Any

import jax

# By platform. On a CPU, XLA copies each kernel whose gradient is done before its last use in the
# same step, unless it looks at which uses overlap: 13 copies of 256 KiB per update of IQL.
_OPTIONS: dict[str, dict[str, bool]] = {
    "cpu": {"xla_cpu_copy_insertion_use_region_analysis": True},
}


class PlatformJit:
    """A function as `jax.jit` makes it, compiled with options of the platform it runs on.

    The function's third argument is the layout of the members, static, and names the devices.
    """

    def __init__(self, function: Callable[..., Any], **jit_options: Any):
        """Wraps `function`; `jit_options` are arguments of `jax.jit`."""
        functools.update_wrapper(self, function)
        self._function, self._jit_options = function, jit_options
        self._jitted: dict[str, Any] = {}

    def on(self, platform: str) -> Any:
        """Returns what `jax.jit` makes of the function for a platform: "cpu", "gpu", ..."""
        if platform not in self._jitted:
            self._jitted[platform] = jax.jit(
                self._function, compiler_options=compiler_options(platform), **self._jit_options
            )
        return self._jitted[platform]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the function does, compiled."""
        return self.on(args[2].platform)(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the function lowered for these arguments."""
        return self.on(args[2].platform).lower(*args, **kwargs)

    def num_compiled(self) -> int:
        """Returns how many programs were compiled."""
        return sum(jitted._cache_size() for jitted in self._jitted.values())


@functools.cache
def compiler_options(platform: str) -> dict[str, bool] | None:
    """Returns the options for `jax.jit` on a platform, those alone that its compiler knows."""
    options = _OPTIONS.get(platform, {})
    return {name: x for name, x in options.items() if knows(platform, name, x)} or None


def knows(platform: str, name: str, value: bool) -> bool:
    """Returns whether a platform's compiler knows an option: XLA's come and go by version."""
    with jax.default_device(jax.local_devices(backend=platform)[0]):
        try:
            jax.jit(lambda x: x, compiler_options={name: value}).lower(0.0).compile()
        except jax.errors.JaxRuntimeError as error:
            if name in str(error):
                return False
            raise
    return True
