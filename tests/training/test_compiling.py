"""Compiler options are passed where the compiler knows them, and nowhere else."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from iql_jax.training import compiling
from iql_jax.training.population import choose_layout


@dataclasses.dataclass(frozen=True)
class Config:
    layer_widths: tuple[int, ...] = (8,)


def double(first, second, layout, x):
    return 2 * x


def compiling_with(monkeypatch, options):
    monkeypatch.setattr(compiling, "_OPTIONS", options)
    compiling.compiler_options.cache_clear()
    return compiling.PlatformJit(double, static_argnums=(0, 1, 2))


@pytest.fixture(autouse=True)
def restored():
    yield
    compiling.compiler_options.cache_clear()


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
    (known, _), *_ = compiling.compiler_options("cpu", (8,))
    program = compiling_with(monkeypatch, {"cpu": {known: True, "xla_cpu_no_such_option": True}})
    assert compiling.compiler_options("cpu", (8,)) == ((known, True),)
    assert program(0, Config(), choose_layout(1), 4.0) == 8.0
    assert not compiling.knows("cpu", "xla_cpu_no_such_option", True)


def test_other_platforms_get_no_options_of_this_one():
    assert compiling.compiler_options("cpu", (8,))
    assert compiling.compiler_options("gpu", (8,)) == ()
    assert compiling.compiler_options("gpu", (256,)) == ()


def test_layers_of_the_middle_widths_get_their_own_options():
    narrow, middle, mixed = (
        compiling.compiler_options("cpu", widths) for widths in ((64,), (256, 128), (256, 1024))
    )
    assert set(middle) > set(narrow)
    assert mixed == narrow


def test_each_shape_is_compiled_once(monkeypatch):
    program = compiling_with(monkeypatch, {})
    layout = choose_layout(1)
    assert [program(0, Config(), layout, x) for x in (1.0, 2.0)] == [2.0, 4.0]
    assert program.num_compiled() == 1
    assert program.lower(0, Config(), layout, 1.0).compile()(3.0) == 6.0


def test_what_is_compiled_once_takes_arrays_of_one_kind_alone():
    once = compiling.CompiledOnce(jax.jit(double, static_argnums=(0, 1, 2)), 0, Config(), None)
    assert [once(jnp.float32(x)) for x in (1.0, 2.0)] == [2.0, 4.0]
    with pytest.raises(TypeError, match="was compiled"):
        once(jnp.ones(3))
