"""IQL on Adroit's binary tasks, offline and then online: -1 a step until the task is done.

Command:  python train_finetune.py --config=configs/adroit_binary_finetune.py \
              --env_name=binary/pen-cloned-v1
Score:    not measured here. The names and the processing of the data are in
          docs/adroit_binary.md; the numbers below are a start, not tuned.
"""

from iql_jax.config import add_online, base_config


def get_config():
    config = add_online(base_config())
    config.env_name = "binary/pen-cloned-v1"
    config.expectile = 0.8
    config.temperature = 3.0
    config.online.num_pretraining_steps = 25_000
    config.eval_episodes = 100
    config.eval_interval = 25_000
    return config
