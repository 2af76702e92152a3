"""Compilation of the training program with the options that serve the platform it runs on."""

import functools
from collections.abc import Callable
from typing import Any

import jax

# By platform. On a CPU, XLA copies each kernel whose gradient is done before its last use in the
# same step, unless it looks at which uses overlap: 13 copies of 256 KiB per update of IQL.
_OPTIONS: dict[str, dict[str, bool | str]] = {
    "cpu": {"xla_cpu_copy_insertion_use_region_analysis": True},
}

# And by platform where all layers are of these widths. There XLA's other library for products on
# CPUs, Eigen, is 5% (256) to 30% (128) faster than YNNPACK, which it takes by itself; measured with
# batches of 256 on two AVX-512 cores. At 64 and 512 units it is slower.
_MIDDLE_WIDTHS = range(128, 257)
_MIDDLE_OPTIONS: dict[str, dict[str, bool | str]] = {
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": ""},
}


class PlatformJit:
    """A function as `jax.jit` makes it, compiled with options of the platform it runs on.

    The function's second argument is an agent's configuration, which tells the widths of its
    layers; the third is the layout of the members, which names the devices. Both are static.
    """

    def __init__(self, function: Callable[..., Any], **jit_options: Any):
        """Wraps `function`; `jit_options` are arguments of `jax.jit`."""
        functools.update_wrapper(self, function)
        self._function, self._jit_options = function, jit_options
        self._jitted: dict[tuple[tuple[str, bool | str], ...], Any] = {}

    def _for(self, config: Any, layout: Any) -> Any:
        options = compiler_options(layout.platform, config.layer_widths)
        if options not in self._jitted:
            self._jitted[options] = jax.jit(
                self._function, compiler_options=dict(options) or None, **self._jit_options
            )
        return self._jitted[options]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the function does, compiled."""
        return self._for(args[1], args[2])(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the function lowered for these arguments."""
        return self._for(args[1], args[2]).lower(*args, **kwargs)

    def num_compiled(self) -> int:
        """Returns how many programs were compiled."""
        return sum(jitted._cache_size() for jitted in self._jitted.values())


class CompiledOnce:
    """A function of `jax.jit` for static arguments that stay, compiled in the first call.

    Calls cost less than those of `jax.jit`, which looks the static arguments up each time. All must
    be like the first: arrays of the same shapes and types in the same places.
    """

    def __init__(self, jitted: Any, *static: Any, **options: Any):
        """Takes the function, its leading arguments and its options, all of them static."""
        self._jitted, self._static, self._options = jitted, static, options
        self._compiled: Any = None

    def __call__(self, *args: Any) -> Any:
        """Returns what the function does with the further arguments."""
        if self._compiled is None:
            lowered = self._jitted.lower(*self._static, *args, **self._options)
            self._compiled = lowered.compile()
        return self._compiled(*args)


@functools.cache
def compiler_options(
    platform: str, layer_widths: tuple[int, ...]
) -> tuple[tuple[str, bool | str], ...]:
    """Returns names and values for the compiler, of those alone that the platform's knows.

    Args:
      platform: "cpu", "gpu", ...
      layer_widths: of the networks' hidden layers.
    """
    options = dict(_OPTIONS.get(platform, {}))
    if all(width in _MIDDLE_WIDTHS for width in layer_widths):
        options |= _MIDDLE_OPTIONS.get(platform, {})
    return tuple(option for option in options.items() if knows(platform, *option))


def knows(platform: str, name: str, value: bool | str) -> bool:
    """Returns whether a platform's compiler knows an option: XLA's come and go by version."""
    with jax.default_device(jax.local_devices(backend=platform)[0]):
        try:
            jax.jit(lambda x: x, compiler_options={name: value}).lower(0.0).compile()
        except jax.errors.JaxRuntimeError as error:
            if name in str(error):
                return False
            raise
    return True
