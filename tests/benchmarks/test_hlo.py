"""Reading compiled programs."""

import jax
import jax.numpy as jnp

from benchmarks import hlo

TEXT = """HloModule example

%inner (a: f32[4,3], b: f32[3,5]) -> f32[4,5] {
  %a = f32[4,3]{1,0} parameter(0)
  %b = f32[3,5]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,5]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (state: (s32[], f32[4,3], f32[3,5])) -> (s32[], f32[4,3], f32[3,5]) {
  %state = (s32[], f32[4,3]{1,0}, /*index=2*/f32[3,5]{1,0}) parameter(0)
  %x = f32[4,3]{1,0} get-tuple-element(%state), index=1
  %copy.1 = f32[4,3]{1,0} copy(%x)
  %fused = f32[4,5]{1,0} fusion(%copy.1, %x), kind=kCustom, calls=%inner, metadata={op_name="a"}
  ROOT %tuple = (s32[], f32[4,3]{1,0}, f32[3,5]{1,0}) tuple(%x, %x, %x)
}

%condition (state: (s32[], f32[4,3], f32[3,5])) -> pred[] {
  ROOT %less = pred[] compare(%x, %x), direction=LT
}

ENTRY %main (x: f32[2,4,3]) -> f32[2,4,3] {
  %x = f32[2,4,3]{2,1,0} parameter(0)
  %loop = (s32[], f32[4,3]) while(%x), condition=%condition, body=%body
  ROOT %dot.2 = f32[2,4,4] dot(%x, %x), lhs_batch_dims={0}, lhs_contracting_dims={2}
}
"""


def test_a_program_is_read():
    program = hlo.parse(TEXT)
    assert set(program) == {"inner", "body", "condition", "main"}
    assert hlo.training_loops(program) == ["body"]
    assert hlo.operations(program, "body")["copy"] == 1
    assert hlo.products(program, ["body"]) == [hlo.Product(m=5, k=3, n=4)]
    assert hlo.products(program)[-1] == hlo.Product(m=5, k=3, n=4)
    assert hlo.Product(m=4, k=3, n=4, batch=2) in hlo.products(program)


def test_flops_are_multiplications_and_additions():
    assert hlo.flops([hlo.Product(m=5, k=3, n=4), hlo.Product(m=4, k=3, n=4, batch=2)]) == 312


def test_a_trace_has_the_products_of_what_it_compiles_to():
    def function(x, w):
        return jax.grad(lambda w: jnp.tanh(jnp.tanh(x @ w[0]) @ w[1]).sum())(w)

    x, w = jnp.ones((8, 3)), [jnp.ones((3, 5)), jnp.ones((5, 2))]
    traced = hlo.traced_products(jax.make_jaxpr(function)(x, w).jaxpr)
    compiled = hlo.products(hlo.parse(jax.jit(function).lower(x, w).compile().as_text()))
    assert traced == compiled
    assert len(traced) == 5  # two forward, two gradients of kernels, one to the layer before


def test_outer_products_are_no_products():
    jaxpr = jax.make_jaxpr(lambda x: x @ x.T)(jnp.ones((4, 1)))
    assert hlo.traced_products(jaxpr.jaxpr) == []
