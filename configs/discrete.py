"""IQL where an action is one of a few choices: a categorical policy, otherwise as in locomotion.

No download:  python -m examples.record_data cartpole cartpole.npz
              python train_offline.py --config=configs/discrete.py
Your data:    python train_offline.py --config=configs/discrete.py --env_name=ENV \
                  --dataset=file/PATH
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "CartPole-v1"
    config.dataset = "file/cartpole.npz"
    config.policy_distribution = "categorical"
    config.expectile = 0.7
    config.temperature = 3.0
    config.observation_transform = "standardize"
    config.max_steps = 20_000
    config.eval_interval = 10_000
    config.eval_episodes = 20
    return config
