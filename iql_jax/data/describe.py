"""What there is to know of a dataset before anyone trains on it."""

import dataclasses
import os
import pathlib

import numpy as np

from iql_jax.data.raw import RawDataset, fingerprint
from iql_jax.data.transforms import ACTION_LIMIT, behaviour_success, episode_returns
from iql_jax.envs import scores

_MOST_VALUES = 6  # so many different rewards are listed one by one
_RARE_EPISODES = 10


@dataclasses.dataclass(frozen=True)
class Description:
    """Facts about a dataset.

    Attributes:
      facts: (what, text) pairs, in order.
      warnings: one sentence each.
      returns: f64[E], the sum of rewards of each episode or fragment.
    """

    facts: list[tuple[str, str]]
    warnings: list[str]
    returns: np.ndarray


def describe(raw: RawDataset) -> Description:
    """Return what there is to know of `raw`."""
    returns = episode_returns(raw)
    return Description(
        facts=[
            ("name", raw.name),
            ("source", raw.source),
            ("transitions", f"{len(raw.rewards):,}"),
            ("episodes", _episodes(raw)),
            ("observations", f"{raw.observations.shape[1]} numbers, {_spread(raw.observations)}"),
            ("actions", f"{raw.actions.shape[1]} numbers, {_spread(raw.actions)}"),
            ("rewards", _rewards(raw.rewards)),
            ("returns", _quantiles(returns)),
            ("score", _scores(raw, returns)),
            ("environment", raw.env_name or "none known"),
            ("fingerprint", fingerprint(raw)),
        ],
        warnings=warnings(raw),
        returns=returns,
    )


def to_text(description: Description) -> str:
    """Return a description as lines for a terminal."""
    width = max(len(what) for what, _ in description.facts)
    lines = [f"{what.ljust(width)}  {text}" for what, text in description.facts]
    lines += [f"{'warning'.ljust(width)}  {text}" for text in description.warnings]
    return "\n".join(lines)


def _episodes(raw: RawDataset) -> str:
    last = np.flatnonzero(raw.ends)
    lengths = np.diff(np.concatenate([[-1], last]))
    terminated = int((raw.masks[last] == 0).sum())
    return (
        f"{len(lengths):,}, of {lengths.min():,} to {lengths.max():,} steps (median "
        f"{int(np.median(lengths)):,}); {terminated:,} of them end in a termination"
    )


def _spread(array: np.ndarray) -> str:
    return f"from {array.min():.4g} to {array.max():.4g}"


def _rewards(rewards: np.ndarray) -> str:
    values, counts = np.unique(rewards, return_counts=True)
    if len(values) > _MOST_VALUES:
        return f"from {values[0]:.4g} to {values[-1]:.4g}, mean {rewards.mean():.4g}"
    return ", ".join(
        f"{value:g} ({count / len(rewards):.2%})"
        for value, count in zip(values, counts, strict=True)
    )


def _quantiles(returns: np.ndarray) -> str:
    low, lower, middle, upper, high = np.quantile(returns, [0, 0.25, 0.5, 0.75, 1])
    return (
        f"{low:.4g} to {high:.4g}, quartiles {lower:.4g}, {middle:.4g}, {upper:.4g}, "
        f"mean {returns.mean():.4g}"
    )


def _scores(raw: RawDataset, returns: np.ndarray) -> str:
    normalised = None
    if raw.env_name is not None:
        normalised = scores.normalized_score(raw.env_name, returns)
    if normalised is None:
        success = behaviour_success(raw)
        reached = "" if success is None else f"; {success:.0%} of the episodes reach a goal"
        return f"no reference returns: not normalised{reached}"
    return f"{normalised.mean():.1f} normalised on average, the best episode {normalised.max():.1f}"


def warnings(raw: RawDataset) -> list[str]:
    """Return what others have fallen for with such data, one sentence each."""
    return [
        *_name_warnings(raw),
        *_reward_warnings(raw),
        *_action_warnings(raw),
        *_episode_warnings(raw),
        *_observation_warnings(raw),
    ]


def _name_warnings(raw: RawDataset) -> list[str]:
    found = []
    if raw.name.startswith("generated/"):
        found.append("made on this machine: no score on it compares with published ones")
    if raw.name.startswith("minari/D4RL/"):
        found.append(
            "Minari's D4RL sets are not D4RL's data: never compare scores on them with the papers'"
        )
    if raw.name.startswith("d4rl/antmaze"):
        version = raw.name.rsplit("-", 1)[1]
        papers = "IQL's and IDQL's papers use v0" if version == "v2" else "CORL uses v2"
        found.append(f"AntMaze v0 and v2 are different data: this is {version}, {papers}")
    if raw.name.startswith("d4rl/hopper-medium-expert"):
        found.append(
            "runs on hopper-medium-expert end in two groups (std 8 to 35): train ten seeds"
        )
    if "-medium-expert-" in raw.name and len(raw.rewards) < 1_500_000:
        found.append(
            f"D4RL's medium-expert sets have about 2,000,000 rows, this has {len(raw.rewards):,}: "
            "a cap of 1,000,000 drops the expert's half"
        )
    if raw.env_name is None:
        found.append("no environment is known for it: name one with --env_name, or --noevaluate")
    return found


def _reward_warnings(raw: RawDataset) -> list[str]:
    found = []
    values = np.unique(raw.rewards)
    if len(values) == 1:
        found.append(f"all rewards are {values[0]:g}: there is nothing to prefer")
    if set(values.tolist()) == {0.0, 1.0}:
        found.append(
            "rewards are 0 and 1: without --config.reward_transform=minus_one AntMaze scores 0"
        )
        rewarded = raw.rewards[:-1] == 1
        again = (raw.rewards[1:] == 1) & ~raw.ends[:-1] & rewarded
        if rewarded.any() and again.sum() > rewarded.sum() / 2:
            found.append(
                "rewards of 1 come in runs: trajectories go on after the goal is reached, so a "
                "return counts steps near it, not successes"
            )
    return found


def _action_warnings(raw: RawDataset) -> list[str]:
    largest = float(np.abs(raw.actions).max())
    if largest > 1.0 + 1e-5:
        return [
            f"actions reach {largest:.4g}, policies [-1, 1]: train with "
            "--config.action_transform=rescale"
        ]
    at_bound = float((np.abs(raw.actions) >= ACTION_LIMIT).mean())
    if at_bound > 0.2 and set(np.unique(raw.actions).tolist()) - {0.0, 1.0}:
        return [
            f"{at_bound:.0%} of the actions' numbers are at a bound, where a Gaussian policy's "
            "likelihood is poor: they are clipped to 1 - 1e-5"
        ]
    return []


def _episode_warnings(raw: RawDataset) -> list[str]:
    found = []
    num_episodes = int(raw.ends.sum())
    if num_episodes < _RARE_EPISODES:
        found.append(f"only {num_episodes} episodes: return statistics say little")
    terminal = float((raw.masks == 0).mean())
    if terminal > 0.5:
        found.append(
            f"{terminal:.0%} of the rows are terminal: values are bootstrapped in the others only"
        )
    inside = int(((raw.masks == 0) & ~raw.ends).sum())
    if inside:
        found.append(f"{inside:,} terminal rows are followed by rows of the same episode")
    return found


def _observation_warnings(raw: RawDataset) -> list[str]:
    low, high = raw.observations.min(axis=0), raw.observations.max(axis=0)
    constant = np.flatnonzero(low == high)
    found = []
    if len(constant):
        shown = ", ".join(map(str, constant[:8])) + (", ..." if len(constant) > 8 else "")
        found.append(f"{len(constant)} numbers of the observations never change: {shown}")
    if float(np.abs(raw.observations).max()) > 1e3:
        found.append(
            "observations are as large as "
            f"{float(np.abs(raw.observations).max()):.4g}: consider "
            "--config.observation_transform=standardize"
        )
    return found


def draw_returns(description: Description, name: str, path: str | os.PathLike[str]) -> pathlib.Path:
    """Return the path of a picture, written there: a histogram of the episodes' returns."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    bins = min(50, max(5, int(np.sqrt(len(description.returns)))))
    axes.hist(description.returns, bins=bins)
    axes.set(xlabel="return", ylabel="episodes", title=name)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
