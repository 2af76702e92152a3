"""Writes small datasets from Gymnasium loops, for trying the ways in for data of one's own.

    python -m examples.record_data cartpole cartpole.npz
    python train_offline.py --config=configs/discrete.py

    python -m examples.record_data reach iql-jax/reach-clumsy-v0
    python train_offline.py --config=configs/locomotion.py --config.reward_transform=none \
        --env_name=minari/iql-jax/reach-clumsy-v0

The first is a file of one's own with choices between two actions, the second a dataset of Minari
with goal dictionaries (needs minari and gymnasium-robotics). In both the right thing is done two
times in five and the opposite otherwise: who imitates that fails, who learns from it need not.

    python -m examples.record_data kitchen kitchen.npz
    python train_offline.py --config=configs/kitchen.py --env_name=kitchen-partial-v0 \
        --dataset=file/kitchen.npz

The third is no human in the kitchen but an arm that sways about random directions, and later does
again, with noise, what has achieved something. It takes four minutes.
"""

import argparse

import gymnasium
import numpy as np

from iql_jax import envs
from iql_jax.data.recording import Recorder

CARTPOLE_EPISODES, REACH_EPISODES, KITCHEN_EPISODES = 1500, 400, 300
_KITCHEN_STEPS = 280
RIGHT = 0.4  # share of the actions


def record_cartpole(path: str, num_episodes: int = CARTPOLE_EPISODES) -> None:
    """Writes `path`, .npz or .hdf5."""
    rng = np.random.default_rng(0)
    env = Recorder(gymnasium.make("CartPole-v1"))
    for seed in range(num_episodes):
        observation, ended = env.reset(seed=seed)[0], False
        while not ended:
            falling = int(observation[2] + 0.5 * observation[3] > 0)
            action = falling if rng.random() < RIGHT else 1 - falling
            observation, _, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
    print(f"{env.save(path)}: {env.num_steps:,} steps of {num_episodes} episodes")


def record_reach(name: str, num_episodes: int = REACH_EPISODES) -> None:
    """Writes the Minari dataset `name`."""
    import gymnasium_robotics
    import minari

    gymnasium.register_envs(gymnasium_robotics)
    rng = np.random.default_rng(0)
    env = minari.DataCollector(gymnasium.make("FetchReach-v4"))
    for seed in range(num_episodes):
        observation, ended = env.reset(seed=seed)[0], False
        towards = 0.0
        while not ended:
            if towards == 0.0 or rng.random() < 0.2:
                towards = 5.0 if rng.random() < RIGHT else -5.0
            away = observation["desired_goal"] - observation["achieved_goal"]
            action = np.append(towards * away + 0.3 * rng.standard_normal(3), 0.0)
            observation, _, terminated, truncated, _ = env.step(
                np.clip(action, -1.0, 1.0).astype(np.float32)
            )
            ended = terminated or truncated
    dataset = env.create_dataset(
        dataset_id=name,
        algorithm_name="towards the goal or away from it, at random",
        author="iql_jax",
        description="Made by `python -m examples.record_data reach`.",
    )
    print(f"minari/{name}: {dataset.total_steps:,} steps of {num_episodes} episodes")


def record_kitchen(path: str, num_episodes: int = KITCHEN_EPISODES) -> None:
    """Writes `path`, .npz or .hdf5."""
    rng = np.random.default_rng(0)
    env = Recorder(envs.make("kitchen-partial-v0"))
    tried: list[tuple[float, np.ndarray]] = []  # what each plan of actions earned
    for seed in range(num_episodes):
        env.reset(seed=seed)
        if seed < num_episodes // 2:
            plan, sway = np.zeros((_KITCHEN_STEPS, 9)), np.zeros(9)
            direction = rng.uniform(-0.6, 0.6, 9)
            for t in range(_KITCHEN_STEPS):
                sway = 0.9 * sway + 0.3 * rng.standard_normal(9)
                plan[t] = direction + sway
        else:
            best = max(earned for earned, _ in tried)
            good = [one for earned, one in tried if earned > 0.5 * best]
            plan = good[rng.integers(len(good))] + 0.1 * rng.standard_normal((_KITCHEN_STEPS, 9))
        steps = [env.step(action) for action in np.clip(plan, -1.0, 1.0)]
        tried.append((sum(float(step[1]) for step in steps), plan))
    returns = np.array([earned for earned, _ in tried])
    print(f"{env.save(path)}: {env.num_steps:,} steps, mean return {returns.mean():.2f}")


def main() -> None:
    """Writes what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cartpole", "reach", "kitchen"))
    parser.add_argument("where", help="a file's path, or the ID of a Minari dataset")
    parser.add_argument("--episodes", type=int)
    parsed = parser.parse_args()
    recorders = {"cartpole": record_cartpole, "reach": record_reach, "kitchen": record_kitchen}
    record = recorders[parsed.what]
    record(parsed.where, **({} if parsed.episodes is None else {"num_episodes": parsed.episodes}))


if __name__ == "__main__":
    main()
