"""IQL on D4RL's Adroit hand, the authors' settings.

Command:  python train_offline.py --config=configs/adroit.py --env_name=pen-human-v1
Time:     about an hour for 1M updates of one seed on two CPU cores.
Score:    not measured here; the IQL paper (arXiv 2110.06169) is cited for pen 71.5 human and 37.3
          cloned, hammer 1.4 and 2.1, door 4.3 and 1.6, relocate 0.1 and -0.2.
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "pen-human-v1"
    config.expectile = 0.7
    config.temperature = 0.5
    config.dropout_rate = 0.1
    return config
