"""IDQL on D4RL's hopper, halfcheetah and walker2d, the paper's settings.

Command:      python train_offline.py --config=configs/idql_mujoco.py --env_name=hopper-medium-v2
              for a GPU: an update is 20 GFLOP, 34 times IQL's
Each N:       add --eval_candidates=16,64,256
Last commit:  --config=configs/idql_mujoco.py:last_commit
              the authors' later sizes, of which they say that they score 2 to 4 points less
Published     (IDQL paper, one setting for all): halfcheetah-medium 49.7, walker2d-medium 80.2,
              halfcheetah-medium-replay 45.1, hopper-medium-replay 82.4, halfcheetah-medium-expert
              94.4, hopper-medium-expert 105.3, walker2d-medium-expert 111.6

Paper: 1.5M updates, each of the critic on 256 transitions and two of the policy on 1024.
"""

from iql_jax.config import idql_config


def get_config(recipe="paper"):
    config = idql_config(recipe)
    config.env_name = "hopper-medium-v2"
    config.expectile = 0.7
    config.reward_transform = "return_range_1000"
    config.eval_episodes = 50
    config.eval_interval = 250_000
    return config
