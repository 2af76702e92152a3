"""IQL on D4RL's Adroit hand, the authors' settings.

Command:  python train_offline.py --config=configs/adroit.py --env_name=pen-human-v1
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "pen-human-v1"
    config.expectile = 0.7
    config.temperature = 0.5
    config.dropout_rate = 0.1
    return config
