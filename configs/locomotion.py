"""IQL on D4RL's hopper, halfcheetah and walker2d, the authors' settings.

Command:  python train_offline.py --config=configs/locomotion.py --env_name=hopper-medium-v2
Time:     about an hour for 1M updates of one seed on two CPU cores (3.5 ms an update).
Score:    normalised, D4RL v2, as the IQL paper (arXiv 2110.06169) reports this recipe: hopper
          66.3 medium, 94.7 medium-replay, 91.5 medium-expert; halfcheetah 47.4, 44.2, 86.7;
          walker2d 78.3, 73.9, 109.6. hopper-medium-expert is bimodal: take ten seeds.
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "hopper-medium-v2"
    config.expectile = 0.7
    config.temperature = 3.0
    config.reward_transform = "return_range_1000"
    return config
