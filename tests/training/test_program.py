"""What the training program is compiled to on a CPU: nothing that the algorithm does not need.

These counts fail when the program grows. Where they fail for a good reason, change them.
"""

import dataclasses
import itertools
import types

import jax
import numpy as np
import pytest

from benchmarks import hlo
from iql_jax import agents
from iql_jax.config import RunConfig
from iql_jax.data import replay
from iql_jax.training import population

# Widths that no two layers share, so that each product tells which layer it is of.
OBSERVATION_DIM, ACTION_DIM, HIDDEN, BATCH, NUM_ROWS = 11, 3, (24, 40), 32, 1000


def forward(batch, inputs, outputs):
    """The products of a network's pass over `batch` rows: one for each layer."""
    sizes = (inputs, *HIDDEN, outputs)
    return [hlo.Product.of((batch, i), batch * o, (1,), ()) for i, o in itertools.pairwise(sizes)]


def backward(batch, inputs, outputs):
    """The products of the gradients of a network's kernels.

    Each layer needs one for its kernel's gradient and one for the layer before, but the first has
    none before it, and behind a single output that one is an outer product, which is no product.
    """
    sizes = (inputs, *HIDDEN, outputs)
    pairs = list(itertools.pairwise(sizes))
    kernels = [hlo.Product.of((batch, i), i * o, (0,), ()) for i, o in pairs]
    layers = [hlo.Product.of((batch, o), batch * i, (1,), ()) for i, o in pairs[1:] if o > 1]
    return kernels + layers


def needed_products(num_critics):
    """Every product that one IQL update needs.

    The target Q is evaluated once, for V and for the policy; V before its step on s; V after its
    step on s and s' in one pass; Q and the policy once; and the gradients of V, Q and the policy.
    """
    state_action = OBSERVATION_DIM + ACTION_DIM
    target_q = num_critics * forward(BATCH, state_action, 1)
    value = forward(BATCH, OBSERVATION_DIM, 1) + backward(BATCH, OBSERVATION_DIM, 1)
    new_value = forward(2 * BATCH, OBSERVATION_DIM, 1)
    one_q = forward(BATCH, state_action, 1) + backward(BATCH, state_action, 1)
    policy = [*forward(BATCH, OBSERVATION_DIM, ACTION_DIM)]
    policy += backward(BATCH, OBSERVATION_DIM, ACTION_DIM)
    return sorted(target_q + value + new_value + num_critics * one_q + policy)


def compile_program(agent=None, config=None):
    """Returns the parsed program, the body of its loop over updates, and the text."""
    config = config or dataclasses.replace(RunConfig(), hidden_dims=HIDDEN)
    agent = agent or agents.get(config.agent)
    agent_config = agent.make_config(config.settings(), OBSERVATION_DIM, ACTION_DIM)
    layout = population.choose_layout(1)
    hyper = population.stack_hyperparameters([agent.make_hyperparameters(config.settings())])
    init_keys, keys = population.member_keys([0])
    init = jax.vmap(lambda hyper, key: agent.init(agent_config, hyper, key))
    text = (
        population.update_many.lower(
            agent,
            agent_config,
            layout,
            jax.eval_shape(init, hyper, init_keys),
            keys,
            np.zeros((NUM_ROWS, replay.row_width(OBSERVATION_DIM, ACTION_DIM)), np.float32),
            np.int32(NUM_ROWS),
            batch_size=BATCH,
            num_updates=7,
        )
        .compile()
        .as_text()
    )
    program = hlo.parse(text)
    (body,) = hlo.training_loops(program)
    return program, body, text


@pytest.fixture(scope="module")
def compiled():
    return compile_program()


def test_an_update_multiplies_what_the_algorithm_needs(compiled):
    program, body, _ = compiled
    needed = needed_products(num_critics=2)
    assert len(needed) == 38
    assert hlo.products(program, [body]) == needed
    assert hlo.products(program) == needed  # and nothing is multiplied outside the loop


def test_another_pass_of_v_would_be_seen():
    iql = agents.get("iql")

    def update(config, state, batch, key):
        new_state, metrics = iql.update(config, state, batch, key)
        extra = iql.v_of(config, new_state.critic.value.params, batch.next_observations[:-1])
        return new_state, metrics | {"extra": extra.mean()}

    wasteful = types.ModuleType("wasteful")
    vars(wasteful).update(vars(iql) | {"update": update})
    program, body, _ = compile_program(wasteful)
    extra = len(hlo.products(program, [body])) - len(needed_products(2))
    assert extra == len(HIDDEN) + 1


def test_an_update_gathers_once(compiled):
    program, body, _ = compiled
    assert hlo.operations(program, body)["gather"] == 1
    width = replay.row_width(OBSERVATION_DIM, ACTION_DIM)
    gathers = [item for _, item in hlo.reachable(program, body) if item.operation == "gather"]
    assert np.prod(gathers[0].shape) == BATCH * width


def test_batches_are_drawn_before_the_loop(compiled):
    program, body, text = compiled
    assert " xor(" in text  # the generator's own operation
    assert hlo.operations(program, body)["xor"] == 0


def test_nothing_leaves_the_device_inside_a_chunk(compiled):
    program, body, text = compiled
    leaving = {"infeed", "outfeed", "send", "recv", "send-done", "recv-done", "custom-call"}
    assert not leaving & set(hlo.operations(program, body))
    assert "callback" not in text


def test_the_dataset_is_not_copied(compiled):
    program, _, _ = compiled
    copied = [
        item.shape
        for items in program.values()
        for item in items
        if item.operation.startswith("copy") and NUM_ROWS in item.shape
    ]
    assert copied == []


def test_the_state_is_not_copied(compiled):
    program, body, _ = compiled
    copies = [item for _, item in hlo.reachable(program, body) if item.operation.startswith("copy")]
    transposed = [item for item in copies if item.rest.startswith("%transpose")]
    assert [item.shape for item in copies if item not in transposed] == []
    # What gradients write transposed: three matrices for the hidden layers of each of V, two Q and
    # the policy, and three for its head; of the inputs, V and the policy share one, and both Q.
    assert len(transposed) == 4 * 3 + 3 - 2


def test_the_loop_has_no_more_steps_than_it_had(compiled):
    program, body, _ = compiled
    steps = [
        item.operation
        for item in program[body]
        if item.operation not in ("parameter", "constant", "get-tuple-element", "tuple", "bitcast")
    ]
    # What XLA fuses depends on its version: a quarter of slack, and no more.
    assert len(steps) <= 300
