"""The matrix product of a layer, its gradient in the form that is fastest where it runs."""

import jax
import jax.numpy as jnp

# Of kernels with more numbers the form of the gradient makes no difference that could be measured.
_LARGE = 256 * 256


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns `x @ kernel`: f32[..., I], f32[I, F] -> f32[..., F].

    On CPUs its gradient, dx = g @ kernel.T and dkernel = x.T @ g, is taken apart: XLA's libraries
    multiply matrices as they lie faster than transposed ones, by more than writing the transposed
    one first costs. The numbers are the same up to the order of their sums.
    """
    return x @ kernel


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x, kernel), (x, kernel)


def _backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    _, kernel = saved
    if kernel.shape[1] == 1 or kernel.size > _LARGE:  # of one column XLA writes a loop of its own
        return _plain(*saved, gradient)
    return jax.lax.platform_dependent(*saved, gradient, cpu=_as_they_lie, default=_plain)


def _plain(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(jnp.matmul, x, kernel)[1](gradient)


def _as_they_lie(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    # Without the barriers XLA turns these back into products with transposed matrices.
    rows, row_gradients = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
    barrier = jax.lax.optimization_barrier
    if kernel.shape[1] < kernel.shape[0]:  # the thin one is the cheaper to transpose
        kernel_gradient = barrier(row_gradients.T @ rows).T
    else:
        kernel_gradient = barrier(rows.T) @ row_gradients
    return gradient @ barrier(kernel.T), kernel_gradient


product.defvjp(_forward, _backward)
