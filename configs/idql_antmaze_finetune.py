"""IDQL on AntMaze, offline and then online, in the paper's two variants.

No download:    python train_finetune.py \
                    --config=configs/idql_antmaze_finetune.py:critics_only,small
The benchmark:  python train_finetune.py --config=configs/idql_antmaze_finetune.py:critics_only \
                    --env_name=antmaze-large-play-v2
Variants:       critics_only  the policy stays as pretrained, exploring by argmax of 128 candidates
                policy_too    the policy learns on, exploring by the implicit policy

Both: 1M updates offline, then 1M environment steps with one update each, half of a batch lived and
half from the dataset, the first after 5,000 steps.
"""

from iql_jax.config import add_online, idql_config
from iql_jax.errors import InputError

VARIANTS = ("critics_only", "policy_too")


def get_config(arguments="critics_only"):
    variant, _, recipe = arguments.partition(",")
    if variant not in VARIANTS:
        raise InputError(
            f"there is no variant {variant!r} of idql_antmaze_finetune.py: choose one of "
            + ", ".join(VARIANTS)
        )
    config = add_online(idql_config(recipe or "paper"))
    config.env_name = "generated/antmaze-medium-play-v0"
    config.expectile = 0.9
    config.reward_transform = "minus_one"
    config.opt_decay_schedule = "cosine"  # over those updates in which the policy learns
    config.max_steps = 1_000_000
    config.online.num_pretraining_steps = 1_000_000
    config.online.warmup_steps = 5_000
    config.online.sampling = "symmetric"
    config.diffusion.num_candidates = 128
    config.diffusion.finetune_policy = variant == "policy_too"
    config.diffusion.exploration_rule = "implicit" if variant == "policy_too" else "argmax"
    config.eval_episodes = 25
    config.eval_interval = 25_000
    return config
