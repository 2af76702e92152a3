"""The product of a layer is a product, and so is its gradient, whatever form it is computed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.agents.products import product

SHAPES = {
    "square": ((32,), 16, 16),
    "thin": ((32,), 16, 3),
    "one column": ((32,), 16, 1),
    "wide": ((32,), 3, 16),
    "large": ((4,), 300, 256),
    "two leading axes": ((2, 5), 6, 4),
}


def loss(multiply, x, kernel):
    return jnp.sum(jnp.sin(multiply(x, kernel)))


@pytest.mark.parametrize("name", SHAPES)
def test_value_and_gradient_are_those_of_a_product(name):
    leading, inputs, features = SHAPES[name]
    x_key, kernel_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, (*leading, inputs))
    kernel = jax.random.normal(kernel_key, (inputs, features))
    value, gradients = jax.value_and_grad(loss, argnums=(1, 2))(product, x, kernel)
    expected, wanted = jax.value_and_grad(loss, argnums=(1, 2))(jnp.matmul, x, kernel)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for gradient, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, want, rtol=1e-5, atol=1e-5)


def test_members_side_by_side_get_the_gradients_of_each():
    xs = jax.random.normal(jax.random.key(0), (3, 8, 5))
    kernels = jax.random.normal(jax.random.key(1), (3, 5, 4))
    gradient = jax.grad(lambda kernel, x: loss(product, x, kernel))
    together = jax.vmap(gradient)(kernels, xs)
    alone = [gradient(kernel, x) for kernel, x in zip(kernels, xs, strict=True)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-5, atol=1e-6)


def test_the_form_for_a_cpu_multiplies_no_transposed_matrix():
    x, kernel = jnp.ones((256, 64)), jnp.ones((64, 64))
    program = jax.jit(jax.grad(lambda x, kernel: loss(product, x, kernel), argnums=(0, 1)))
    lowered = program.trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    others = program.trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert lowered.count("optimization_barrier") == 2
    assert others.count("optimization_barrier") == 0
    assert lowered.count("dot_general") == others.count("dot_general") == 3
