"""What every dataset adapter returns: plain NumPy transitions and where they came from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class RawDataset:
    """Transitions as stored, before any transform.

    Attributes:
      name: the name it was asked for, e.g. `d4rl/hopper-medium-v2`.
      source: one line on what made the data, printed with every score.
      observations: f32[N, O].
      actions: f32[N, A], in the units of the environment.
      rewards: f32[N].
      masks: f32[N]; 0 where bootstrapping stops (true termination), else 1.
      next_observations: f32[N, O].
      ends: bool[N]; True on the last row of each episode or fragment of one.
      env_name: the environment that evaluates a policy trained on it; None if there is none.
      extras: anything else worth keeping, by name.
    """

    name: str
    source: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    masks: np.ndarray
    next_observations: np.ndarray
    ends: np.ndarray
    env_name: str | None = None
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict)
