"""AuctionNet's score of a policy, advertiser by advertiser."""

import dataclasses
from collections.abc import Callable

import numpy as np

from iql_jax.envs.auctionnet import AuctionReplayEnv, make_auction
from iql_jax.errors import InputError

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
    envs = _start(env_name, [num_draws] * len(first.period.advertisers), seed)
    outcomes = _play(lambda states, active, tick: act(states), envs)
    return _table(first, np.split(outcomes, len(first.period.advertisers)))


def score_schedules(
    schedules: dict[int, np.ndarray], env_name: str, seed: int = 0
) -> list[AdvertiserScore]:
    """Returns the score of each advertiser of a period that bids by a plan, not by what it sees.

    Args:
      schedules: by advertiser, f64[S, 48], S plans of a bid factor for each tick; each is replayed
        once.
      env_name: `auctionnet/PATH`; bid factors are absolute or `@relative` as its actions are.
      seed: of the draws.

    Raises:
      InputError: an advertiser of the period has no plan.
    """
    first = make_auction(env_name)
    numbers = first.period.advertisers.tolist()
    missing = sorted(set(numbers) - schedules.keys())
    if missing:
        raise InputError(f"{first.period.path}: there are no bids of advertiser {missing[0]}")
    plans = [schedules[number] for number in numbers]
    factors = np.concatenate(plans)
    envs = _start(env_name, [len(plan) for plan in plans], seed)
    outcomes = _play(lambda states, active, tick: factors[active, tick], envs)
    return _table(first, np.split(outcomes, np.cumsum([len(plan) for plan in plans])[:-1]))


def _start(env_name: str, num_draws: list[int], seed: int) -> list[AuctionReplayEnv]:
    """Returns so many environments for each advertiser, each at the start of its draw."""
    envs = [make_auction(env_name) for _ in range(sum(num_draws))]
    owners = np.repeat(envs[0].period.advertisers, num_draws)
    sequence = np.random.SeedSequence(seed).generate_state(len(envs)) >> 1
    for env, draw, advertiser in zip(envs, sequence.tolist(), owners.tolist(), strict=True):
        env.reset(seed=draw, options={"advertiser": advertiser})
    return envs


def _play(
    act: Callable[[np.ndarray, np.ndarray, int], np.ndarray], envs: list[AuctionReplayEnv]
) -> np.ndarray:
    """Returns f64[B, 3]: score, conversions and cost of one episode in each environment.

    Args:
      act: actions f64[n] for states f64[n, 16], the environments they are of i64[n], and the tick.
      envs: just reset.
    """
    states = np.stack([env.observation() for env in envs])
    outcomes = np.zeros((len(envs), 3))
    active, tick = np.arange(len(envs)), 0
    while len(active):
        actions = act(states[active], active, tick)
        still = []
        for i, action in zip(active.tolist(), actions, strict=True):
            states[i], _, ended, _, info = envs[i].step(np.array([action]))
            outcomes[i] = info["score"], info["conversions"], info["cost"]
            if not ended:
                still.append(i)
        active, tick = np.array(still, np.int64), tick + 1
    return outcomes


def _table(env: AuctionReplayEnv, outcomes: list[np.ndarray]) -> list[AdvertiserScore]:
    """Returns a line for each advertiser of a period from its draws' outcomes f64[n, 3]."""
    table = []
    for k, draws in enumerate(outcomes):
        score, conversions, cost = draws.T
        spread = float(score.std(ddof=1)) if len(draws) > 1 else float("nan")
        table.append(
            AdvertiserScore(
                advertiser=int(env.period.advertisers[k]),
                budget=float(env.period.budget[k]),
                cpa_limit=float(env.period.cpa_limit[k]),
                score=float(score.mean()),
                score_error=spread / len(draws) ** 0.5,
                conversions=float(conversions.mean()),
                cost=float(cost.mean()),
            )
        )
    return table


def to_text(tables: dict[str, list[AdvertiserScore]]) -> str:
    """Returns the scores of several ways to bid for a terminal, each a column with its error.

    The first way's conversions and costs are shown too. The last lines are means and totals over
    advertisers.
    """
    first = next(iter(tables.values()))
    header = ["advertiser", "budget", "CPA limit", "conversions", "cost", "CPA", *tables]
    lines = [header]
    for k, row in enumerate(first):
        cpa = row.cost / row.conversions if row.conversions else float("nan")
        facts = (row.budget, row.cpa_limit, row.conversions, row.cost, cpa)
        lines.append([str(row.advertiser), *(f"{fact:.1f}" for fact in facts)])
        lines[-1] += [f"{t[k].score:.1f} +- {t[k].score_error:.1f}" for t in tables.values()]
    sums = [sum(row.score for row in table) for table in tables.values()]
    mean = [f"{total / len(first):.1f}" for total in sums]
    lines.append(["mean score", *5 * [""], *mean])
    lines.append(["total score", *5 * [""], *(f"{total:.1f}" for total in sums)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
