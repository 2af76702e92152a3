"""IQL on D4RL's kitchen, the authors' settings.

Command:  python train_offline.py --config=configs/kitchen.py --env_name=kitchen-mixed-v0
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "kitchen-mixed-v0"
    config.expectile = 0.7
    config.temperature = 0.5
    config.dropout_rate = 0.1
    return config
