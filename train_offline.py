"""Trains IQL, or another agent, on a fixed dataset.

python train_offline.py                                       a maze, solved in minutes
python train_offline.py --config=configs/antmaze.py           AntMaze, no download
python train_offline.py --config=configs/locomotion.py --env_name=hopper-medium-v2
"""

from absl import flags

from iql_jax import cli

# The config used where --config is not given, by the family of --env_name.
RECIPES = {
    "": "pointmaze.py",
    "pointmaze": "pointmaze.py",
    "antmaze": "antmaze.py",
    "hopper": "locomotion.py",
    "halfcheetah": "locomotion.py",
    "walker2d": "locomotion.py",
    "ant": "locomotion.py",
    "kitchen": "kitchen.py",
    "pen": "adroit.py",
    "hammer": "adroit.py",
    "door": "adroit.py",
    "relocate": "adroit.py",
    "ogbench": "ogbench.py",
    "auctionnet": "auctionnet.py",
}


def main() -> int:
    """Trains, and returns the exit status: 0, or that of the signal that ended the run early."""
    config, options = cli.run_config(), cli.run_options()
    from iql_jax.training.members import plan_members

    members = plan_members(config, flags.FLAGS.seed, flags.FLAGS.num_seeds, flags.FLAGS.sweep)
    cli.use_host_cores(len(members) // flags.FLAGS.num_processes)
    cli.join_team()
    from iql_jax.training.offline import train_offline

    return train_offline(config, members, options)


if __name__ == "__main__":
    cli.main(main, RECIPES)
