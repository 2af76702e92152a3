"""IQL on AntMaze, the authors' settings.

No download:     python train_offline.py --config=configs/antmaze.py
The benchmark:   python train_offline.py --config=configs/antmaze.py \
                     --env_name=antmaze-large-play-v2 --max_steps=1000000
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "generated/antmaze-medium-play-v0"
    config.expectile = 0.9
    config.temperature = 10.0
    config.reward_transform = "minus_one"
    config.eval_episodes = 100
    config.eval_interval = 100_000
    return config
