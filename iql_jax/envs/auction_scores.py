"""AuctionNet's score of a policy, advertiser by advertiser."""

import dataclasses
from collections.abc import Callable

import numpy as np

from iql_jax.envs.auctionnet import AuctionReplayEnv, make_auction

# Actions f64[B] for states f64[B, 16], in the environment's units.
Act = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class AdvertiserScore:
    """What a policy achieved for one advertiser, each a mean over draws.

    Attributes:
      advertiser: its number.
      budget, cpa_limit: what it was given.
      score: AuctionNet's.
      score_error: the standard error of the mean score.
      conversions, cost: what was won and paid.
    """

    advertiser: int
    budget: float
    cpa_limit: float
    score: float
    score_error: float
    conversions: float
    cost: float


def score_advertisers(
    act: Act, env_name: str, num_draws: int = 30, seed: int = 0
) -> list[AdvertiserScore]:
    """Returns the score of each advertiser of a period: single draws are noisy, so their mean.

    Args:
      act: the policy; all advertisers' and draws' states come in one call a tick.
      env_name: `auctionnet/PATH`, with `@relative` if the policy's actions are.
      num_draws: replays of the period for each advertiser.
      seed: of the draws.
    """
    first = make_auction(env_name)
    advertisers = [int(number) for number in first.period.advertisers]
    envs = [make_auction(env_name) for _ in range(len(advertisers) * num_draws)]
    sequence = np.random.SeedSequence(seed).generate_state(len(envs)) >> 1
    for i, env in enumerate(envs):
        env.reset(seed=int(sequence[i]), options={"advertiser": advertisers[i // num_draws]})
    outcomes = _play(act, envs)
    table = []
    for k, advertiser in enumerate(advertisers):
        score, conversions, cost = outcomes[k * num_draws : (k + 1) * num_draws].T
        spread = float(score.std(ddof=1)) if num_draws > 1 else float("nan")
        table.append(
            AdvertiserScore(
                advertiser=advertiser,
                budget=float(first.period.budget[k]),
                cpa_limit=float(first.period.cpa_limit[k]),
                score=float(score.mean()),
                score_error=spread / num_draws**0.5,
                conversions=float(conversions.mean()),
                cost=float(cost.mean()),
            )
        )
    return table


def _play(act: Act, envs: list[AuctionReplayEnv]) -> np.ndarray:
    """Returns f64[B, 3]: score, conversions and cost of one episode in each environment."""
    states = np.stack([env.observation() for env in envs])
    outcomes = np.zeros((len(envs), 3))
    active = np.arange(len(envs))
    while len(active):
        actions = act(states[active])
        still = []
        for i, action in zip(active.tolist(), actions, strict=True):
            states[i], _, ended, _, info = envs[i].step(np.array([action]))
            outcomes[i] = info["score"], info["conversions"], info["cost"]
            if not ended:
                still.append(i)
        active = np.array(still, np.int64)
    return outcomes


def to_text(table: list[AdvertiserScore]) -> str:
    """Returns a table for a terminal, with the mean over advertisers in its last line."""
    lines = ["advertiser   budget  CPA limit  conversions     cost    CPA  score"]
    for row in table:
        cpa = row.cost / row.conversions if row.conversions else float("nan")
        lines.append(
            f"{row.advertiser:10d} {row.budget:8.0f} {row.cpa_limit:10.0f} {row.conversions:12.1f}"
            f" {row.cost:8.0f} {cpa:6.1f} {row.score:6.1f} +- {row.score_error:.1f}"
        )
    mean = sum(row.score for row in table) / len(table)
    total = sum(row.score for row in table)
    lines.append(f"mean score {mean:.1f}, in total {total:.1f}")
    return "\n".join(lines)
