"""What this project's update is measured as, and against."""

import jax
import pytest

from benchmarks import hlo, ours

SPEC = {
    "observation_dim": 5,
    "action_dim": 3,
    "hidden_dims": (16, 24),
    "rows": 50,
    "batch_size": 8,
    "updates": 3,
}


@pytest.fixture(scope="module")
def program():
    return ours.make_program(SPEC)


def test_the_floor_multiplies_what_an_update_does(program):
    update = ours.update_products(program)
    _, config, _ = program.static
    kernels = ours._kernels(config)
    batch = ours.replay.unpack(program.arrays[2][:8], 5, 3)
    floor = jax.make_jaxpr(ours.update_of_products)(kernels, batch)
    assert hlo.traced_products(floor.jaxpr) == update
    compiled = jax.jit(ours.update_of_products).lower(kernels, batch).compile()
    assert hlo.products(hlo.parse(compiled.as_text())) == update


@pytest.mark.parametrize("name", sorted(ours.PROGRAMS))
def test_every_program_runs_again_and_again(program, name):
    # Copies, for they are donated.
    states, *arrays = program.arrays
    copied = ours.Program(
        program.static, (jax.tree.map(lambda x: x.copy(), states), *arrays), program.options
    )
    run, _ = ours.PROGRAMS[name](copied)
    run()
    run()
