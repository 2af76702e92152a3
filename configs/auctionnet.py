"""IQL on AuctionNet's training data, with AuctionNet's own settings but for the networks.

Command:  python train_offline.py --config=configs/auctionnet.py --env_name=auctionnet/FOLDER

FOLDER holds one *rlData.csv (or .csv.gz) to learn from and one *period*.hdf5 to evaluate in; the
return of an evaluation is AuctionNet's score. `auctionnet/FOLDER@relative` learns bid factors in
units of the advertiser's CPA limit, which AuctionNet's state does not tell; `@sparse` learns from
conversions. Behaviour cloning on the same data: --config.agent=bc. Scores by advertiser, beside
the logged and constant bids: python -m iql_jax.auction RUN.
"""

from iql_jax.config import base_config


def get_config():
    config = base_config()
    config.env_name = "auctionnet/data/auctionnet"
    config.reward_transform = "unit_range"
    config.observation_transform = "auctionnet"
    config.action_transform = "rescale_quantile"
    config.expectile = 0.7
    config.temperature = 3.0
    config.target_update_rate = 0.01
    config.actor_lr = config.critic_lr = config.value_lr = 1e-4
    config.opt_decay_schedule = "none"
    config.batch_size = 100
    config.max_steps = 20_000
    config.eval_interval = 5_000
    config.eval_episodes = 60
    return config
