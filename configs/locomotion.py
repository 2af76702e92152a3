"""IQL on D4RL's hopper, halfcheetah and walker2d, the authors' settings.

Command:  python train_offline.py --config=configs/locomotion.py --env_name=hopper-medium-v2
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "hopper-medium-v2"
    config.expectile = 0.7
    config.temperature = 3.0
    config.reward_transform = "return_range_1000"
    return config
