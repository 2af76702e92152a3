"""IQL on a maze, first from data that leaves it mediocre, then by acting: no download.

Command:  python train_finetune.py
"""

from iql_jax.config import add_online, base_config


def get_config():
    config = add_online(base_config())
    config.env_name = "generated/pointmaze-medium-v0"
    config.expectile = 0.9
    config.temperature = 10.0
    config.reward_transform = "minus_one"
    config.online.num_pretraining_steps = 5_000
    config.online.init_dataset_size = 10_000
    config.max_steps = 20_000
    config.eval_episodes = 100
    config.eval_interval = 5_000
    return config
