"""A trained policy out of a run directory, for use anywhere.

policy = iql_jax.load_policy("runs/...")
action = policy.act(observation)
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.agents import Agent
from iql_jax.config import PRECISIONS
from iql_jax.errors import InputError
from iql_jax.training import saved_run
from iql_jax.training.problem import Transforms


class Policy:
    """Acts as one member of a run does, in the units of the environment.

    Attributes:
      agent: the agent's module.
      config: its static configuration.
      state: the member's state, on the device.
      transforms: of the run's data; applied to observations and to actions.
      precision: of matrix products, by the name that JAX has for it.
      update: updates done when the state was saved.
    """

    def __init__(
        self,
        agent: Agent,
        config: Any,
        state: Any,
        transforms: Transforms,
        precision: str,
        update: int,
    ):
        self.agent, self.config, self.state = agent, config, state
        self.transforms, self.precision, self.update = transforms, precision, update

    @property
    def observation_dim(self) -> int:
        """Numbers in an observation."""
        return self.config.observation_dim

    @property
    def action_dim(self) -> int:
        """Numbers in an action."""
        return self.config.action_dim

    def act(
        self,
        observations: Any,
        *,
        temperature: float = 0.0,
        seed: int | None = None,
        key: jax.Array | None = None,
    ) -> np.ndarray:
        """Returns the action f32[A] for an observation f32[O], or f32[B, A] for f32[B, O].

        Compiled once for each B.

        Args:
          observations: as the environment gives them, not transformed.
          temperature: 0 acts as in evaluation; 1 adds the policy's own noise.
          seed: of the noise; the same seed gives the same actions.
          key: a JAX key in place of a seed.

        Raises:
          InputError: another width or number of axes, or noise without a seed.
        """
        array = np.asarray(observations, np.float32)
        if array.ndim not in (1, 2) or array.shape[-1] != self.observation_dim:
            raise InputError(
                f"observations have shape {array.shape}; this policy takes "
                f"({self.observation_dim},) for one or (any number, {self.observation_dim}) for "
                "many"
            )
        actions = _act(
            self.agent,
            self.config,
            self.state,
            self.transforms.observation(np.atleast_2d(array)),
            _key(seed, key, temperature),
            np.float32(temperature),
            precision=self.precision,
        )
        return self.transforms.action.to_env(np.asarray(actions)).reshape(*array.shape[:-1], -1)


def load_policy(run_dir: str | Path, member: int = 0, update: int | str | None = None) -> Policy:
    """Returns the policy of a member of a run, finished or still going on.

    Args:
      run_dir: the run's directory.
      member: which member, counted from 0.
      update: the update of a checkpoint that is there; `last` (and None) or `best`, by score.

    Raises:
      InputError: no run, member or checkpoint is there, or it is damaged.
    """
    run = saved_run.open_run(run_dir)
    saved = saved_run.restore(run, update)
    saved_run.check_member(run, saved, member)
    return Policy(
        agent=run.agent,
        config=run.agent_config,
        state=jax.device_put(jax.tree.map(lambda leaf: leaf[member], saved.states)),
        transforms=run.transforms,
        precision=PRECISIONS[run.config.precision],
        update=saved.update,
    )


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="precision")
def _act(
    agent: Agent,
    config: Any,
    state: Any,
    observations: jax.Array,
    key: jax.Array,
    temperature: jax.Array,
    *,
    precision: str,
) -> jax.Array:
    with jax.default_matmul_precision(precision):
        return agent.sample_actions(config, state, observations, key, temperature=temperature)


def _key(seed: int | None, key: jax.Array | None, temperature: float) -> jax.Array:
    if key is not None and seed is not None:
        raise InputError("act takes a seed or a key, not both")
    if key is not None:
        return key
    if seed is None and temperature > 0:
        raise InputError(
            f"temperature {temperature} adds noise, which needs a seed: act(..., seed=0), and "
            "another at the next step"
        )
    return jax.random.key(0 if seed is None else seed)
