"""Trains IQL, or another agent, on a dataset and then by acting in its environment.

python train_finetune.py                                      a maze, no download
python train_finetune.py --env_name=antmaze-large-play-v2     the authors' protocol on D4RL
python train_finetune.py --from_run=DIR                       starts from a run of train_offline.py
"""

from absl import flags

from iql_jax import cli

# The config used where --config is not given, by the family of --env_name.
RECIPES = {
    "": "pointmaze_finetune.py",
    "pointmaze": "pointmaze_finetune.py",
    "antmaze": "antmaze_finetune.py",
    "hopper": "locomotion_finetune.py",
    "halfcheetah": "locomotion_finetune.py",
    "walker2d": "locomotion_finetune.py",
    "ant": "locomotion_finetune.py",
    "binary/pen": "adroit_binary_finetune.py",
    "binary/door": "adroit_binary_finetune.py",
    "binary/relocate": "adroit_binary_finetune.py",
}


def main() -> int:
    """Trains, and returns the exit status: 0, or that of the signal that ended the run early."""
    config, options = cli.run_config(), cli.run_options()
    from iql_jax.training.members import plan_members

    members = plan_members(config, flags.FLAGS.seed, flags.FLAGS.num_seeds, flags.FLAGS.sweep)
    cli.use_host_cores(len(members))
    from iql_jax.training.finetune import train_finetune

    return train_finetune(config, members, options, flags.FLAGS.from_run)


if __name__ == "__main__":
    cli.main(main, RECIPES, online=True)
