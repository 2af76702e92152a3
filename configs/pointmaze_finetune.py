"""IQL on a maze, first from data that leaves it mediocre, then by acting: no download.

Command:  python train_finetune.py --num_seeds=4
Expect:   success of the four seeds 3, 0, 0 and 100% after the updates on a quarter of the data,
          100% each after 12,000 steps of acting. One seed takes some three minutes on two cores.
"""

from iql_jax.config import add_online, base_config


def get_config():
    config = add_online(base_config())
    config.env_name = "generated/pointmaze-medium-v0"
    config.expectile = 0.9
    config.temperature = 10.0
    config.reward_transform = "minus_one"
    config.online.num_pretraining_steps = 16_000
    config.online.init_dataset_size = 50_000
    config.max_steps = 12_000
    config.eval_episodes = 100
    config.eval_interval = 4_000
    return config
