"""A goal environment, small enough to know by heart."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Reach(gymnasium.Env):
    """A goal environment: success ends it in the third step."""

    observation_space = spaces.Dict(
        {
            "observation": spaces.Box(-1, 1, (2, 2)),
            "desired_goal": spaces.Box(-1, 1, (1,)),
            "achieved_goal": spaces.Box(-1, 1, (1,)),
        }
    )
    action_space = spaces.Box(-1, 1, (3,))

    def _observe(self):
        self.t += 1
        return {
            "observation": np.full((2, 2), 0.1 * self.t, np.float32),
            "desired_goal": np.full(1, 0.5, np.float32),
            "achieved_goal": np.full(1, -0.1 * self.t, np.float32),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = -1
        return self._observe(), {}

    def step(self, action):
        observation = self._observe()
        return observation, 1.0, self.t == 3, False, {"is_success": self.t == 3}
