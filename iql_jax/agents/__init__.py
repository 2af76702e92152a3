"""Agents: pure functions over explicit state, looked up by name.

Each agent is a module with

    ACTS_IN_ONE_PASS                         whether acting is one pass of one small network
    make_config(settings, observation_dim, action_dim) -> Config     hashable, static under jit
    make_hyperparameters(settings) -> Hyperparameters                numbers, leaves of the state
    init(config, hyper, key) -> State
    update(config, state, batch, key) -> (State, metrics)
    sample_actions(config, state, observations, key, *, temperature) -> f32[B, A]
    diagnose(config, state, batch) -> {name: f32[B]}                 for histograms
    acting_by(config, num_candidates, acting_rule) -> Config         for evaluation alone
    for_online_training(config) -> Config                            for updates while acting

`State` has `step` i32[] and `hyper`, and holds arrays only.
"""

from typing import Any, Protocol, cast

from iql_jax.agents import bc, idql, iql
from iql_jax.agents.iql import Hyperparameters
from iql_jax.errors import InputError


class Agent(Protocol):
    """What a module must offer to be trained, evaluated and saved."""

    ACTS_IN_ONE_PASS: bool
    make_config: Any
    make_hyperparameters: Any
    init: Any
    update: Any
    sample_actions: Any
    diagnose: Any
    acting_by: Any
    for_online_training: Any


AGENTS: dict[str, Agent] = {
    "bc": cast(Agent, bc),
    "idql": cast(Agent, idql),
    "iql": cast(Agent, iql),
}


def get(name: str) -> Agent:
    """Returns the agent of this name.

    Raises:
      InputError: there is none.
    """
    if name not in AGENTS:
        raise InputError(f"unknown agent {name!r}: choose one of {', '.join(sorted(AGENTS))}")
    return AGENTS[name]


__all__ = ["AGENTS", "Agent", "Hyperparameters", "get"]
