"""IQL on locomotion, offline and then online; online rewards are scaled by the dataset's constant.

Command:  python train_finetune.py --config=configs/locomotion_finetune.py \
              --env_name=hopper-medium-v2
"""

from iql_jax.config import add_online, base_config


def get_config():
    config = add_online(base_config())
    config.env_name = "hopper-medium-v2"
    config.expectile = 0.7
    config.temperature = 3.0
    config.reward_transform = "return_range_1000"
    return config
