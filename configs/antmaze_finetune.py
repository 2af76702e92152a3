"""IQL on AntMaze, offline and then online, the authors' settings: no decay of learning rates.

No download:     python train_finetune.py --config=configs/antmaze_finetune.py
The benchmark:   python train_finetune.py --config=configs/antmaze_finetune.py \
                     --env_name=antmaze-large-play-v2
"""

from iql_jax.config import add_online, base_config


def get_config():
    config = add_online(base_config())
    config.env_name = "generated/antmaze-medium-play-v0"
    config.expectile = 0.9
    config.temperature = 10.0
    config.reward_transform = "minus_one"
    config.eval_episodes = 100
    config.eval_interval = 100_000
    return config
