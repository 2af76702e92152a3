"""IDQL on AntMaze, the paper's settings.

No download:    python train_offline.py --config=configs/idql_antmaze.py:small
The benchmark:  python train_offline.py --config=configs/idql_antmaze.py \
                    --env_name=antmaze-large-play-v2
                for a GPU: an update is 20 GFLOP, 34 times IQL's
Each N:         add --eval_candidates=16,64,256
Last commit:    --config=configs/idql_antmaze.py:last_commit
                the authors' later sizes, of which they say that they score 2 to 4 points less
Published       (IDQL paper, AntMaze v0, which is other data than v2): umaze 93.8,
                umaze-diverse 62.0, medium-play 86.6, medium-diverse 83.5, large-play 57.0,
                large-diverse 56.4

Paper: 1.5M updates, each of the critic on 256 transitions and two of the policy on 1024. `small` is
ours, for a computer without a GPU: a narrow policy and IQL's batch, 0.64 GFLOP an update.
"""

from iql_jax.config import idql_config


def get_config(recipe="paper"):
    config = idql_config(recipe)
    config.env_name = "generated/antmaze-medium-play-v0"
    config.expectile = 0.9
    config.reward_transform = "minus_one"
    config.eval_episodes = 100
    config.eval_interval = 250_000
    return config
