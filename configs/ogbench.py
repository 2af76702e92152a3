"""IQL on OGBench's state-based single-task sets, OGBench's settings.

No download:     python train_offline.py --config=configs/ogbench.py
The benchmark:   python train_offline.py --config=configs/ogbench.py \
                     --env_name=ogbench/antmaze-large-navigate-singletask-task1-v0 \
                     --max_steps=1000000

All five tasks:  the same with ...-singletask-all-v0, in one run: a member for each task and seed.

OGBench itself recommends another way to a policy: --config.policy_extraction=ddpg_bc.

Published with these settings (FQL paper, mean of five tasks, eight seeds, 1M updates): success
53% on antmaze-large-navigate, 83% on cube-single-play, 28% on scene-play.
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "generated/ogbench-antmaze-medium-navigate-singletask-task1-v0"
    config.hidden_dims = (512, 512, 512, 512)
    config.activation = "gelu"
    config.critic_layer_norm = "hidden"
    config.policy_distribution = "constant_std"
    config.online_advantage = True
    config.expectile = 0.9
    config.temperature = 10.0
    config.opt_decay_schedule = "none"
    config.max_steps = 100_000
    config.eval_interval = 50_000
    config.eval_episodes = 50
    return config
