"""IQL on D4RL's kitchen, the authors' settings.

Command:  python train_offline.py --config=configs/kitchen.py --env_name=kitchen-mixed-v0
Time:     about an hour for 1M updates of one seed on two CPU cores.
Score:    not measured here; the IQL paper (arXiv 2110.06169) is cited for 62.5 complete,
          46.3 partial, 51.0 mixed.
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "kitchen-mixed-v0"
    config.expectile = 0.7
    config.temperature = 0.5
    config.dropout_rate = 0.1
    return config
