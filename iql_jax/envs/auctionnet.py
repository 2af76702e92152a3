"""AuctionNet's offline evaluation: a period of auctions replayed for one advertiser an episode.

An action is a bid factor alpha >= 0: the advertiser bids alpha x predicted value for every
impression of a tick, and wins, at the least winning cost, where the bid reaches it. The return of
an episode is AuctionNet's score, conversions x min(1, (CPA limit / CPA)^2); the reward of a tick is
what it changed the score by.

Each advertiser has its own budget and CPA limit. AuctionNet's script scores the first advertiser
only, with default limits.
"""

import dataclasses
import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.auction_period import NUM_TICKS, Period, load_period, parse_name, period_file
from iql_jax.errors import InputError

STATE_DIM = 16
# What the numbers of a state are, in AuctionNet's order. Means are over the impressions of a tick,
# then over all ticks so far or the last three.
STATE = (
    "time left",
    "budget left",
    "mean bid",
    "mean bid, last three ticks",
    "mean least winning cost",
    "mean predicted value",
    "mean conversion",
    "share won",
    "mean least winning cost, last three ticks",
    "mean predicted value, last three ticks",
    "mean conversion, last three ticks",
    "share won, last three ticks",
    "mean predicted value of this tick",
    "impressions of this tick",
    "impressions of the last three ticks",
    "impressions so far",
)
_LEAST_BUDGET = 0.1  # with less there are no more bids
_HISTORY = ("bid", "cost", "value", "conversion", "won")  # of which means are kept by tick


def score(conversions: float, cost: float, cpa_limit: float) -> float:
    """Returns AuctionNet's score of an advertiser's period."""
    cpa = cost / (conversions + 1e-10)
    return conversions * min(1.0, (cpa_limit / (cpa + 1e-10)) ** 2)


def tick_state(
    tick: int, budget_left: float, means: np.ndarray, volumes: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Returns f64[16], AuctionNet's state before a tick.

    Args:
      tick: from 0; 48 when the period is over.
      budget_left: the share of it.
      means: f64[tick, 5], of each past tick the mean bid, least winning cost, predicted value and
        conversion, and the share won.
      volumes: f64[tick], the impressions of each past tick.
      values: f64[n], the predicted values of this tick's impressions.
    """
    history = means if len(means) else np.zeros((1, len(_HISTORY)))
    ever, lately = history.mean(axis=0), history[-3:].mean(axis=0)
    bid, cost, value, conversion, won = range(len(_HISTORY))
    return np.array(
        [
            (NUM_TICKS - tick) / NUM_TICKS,
            budget_left,
            ever[bid],
            lately[bid],
            *ever[[cost, value, conversion, won]],
            *lately[[cost, value, conversion, won]],
            values.mean() if len(values) else 0.0,
            len(values),
            volumes[-3:].sum(),
            volumes.sum(),
        ]
    )


@dataclasses.dataclass
class _Account:
    """What an advertiser's episode has come to."""

    advertiser: int  # its column in the period
    tick: int = 0
    cost: float = 0.0
    conversions: int = 0
    # By tick, f64: mean bid, least winning cost, predicted value, conversion, share won.
    means: list[list[float]] = dataclasses.field(default_factory=list)


class AuctionReplayEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """48 ticks of bidding for one advertiser; observations f64[16] are AuctionNet's states.

    Volumes are as they are; scaling them is the observation transform `auctionnet`. The advertiser
    is drawn at each reset, or chosen by `reset(options={"advertiser": number})`. With `relative`,
    actions are in units of the advertiser's CPA limit: 1 bids what a conversion may cost.

    Attributes:
      period: what is replayed.
      max_episode_steps: 48.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's type

    def __init__(self, period: Period, relative: bool = False):
        # Gymnasium allows no paths in the names of environments.
        self.spec = EnvSpec(id="AuctionReplay-v0", max_episode_steps=NUM_TICKS)
        self.period, self.relative = period, relative
        self.max_episode_steps = NUM_TICKS
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (STATE_DIM,), np.float64)
        self.action_space = gymnasium.spaces.Box(0.0, np.inf, (1,), np.float32)
        self._account = _Account(0)

    @property
    def budget(self) -> float:
        """The advertiser's budget at the start of the period."""
        return float(self.period.budget[self._account.advertiser])

    @property
    def cpa_limit(self) -> float:
        """What a conversion may cost the advertiser on average."""
        return float(self.period.cpa_limit[self._account.advertiser])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        column = int(self.np_random.integers(len(self.period.advertisers)))
        chosen = (options or {}).get("advertiser")
        if chosen is not None:
            found = np.flatnonzero(self.period.advertisers == chosen)
            if not len(found):
                raise InputError(
                    f"advertiser {chosen} is not in {self.period.path}, which has "
                    f"{', '.join(map(str, self.period.advertisers))}"
                )
            column = int(found[0])
        self._account = _Account(column)
        return self.observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        (factor,) = np.asarray(action, np.float64)
        if self.relative:
            factor = factor * self.cpa_limit
        account, before = self._account, self._score()
        self._auction(max(float(factor), 0.0))
        account.tick += 1
        ended = account.tick == NUM_TICKS or self.budget - account.cost < _LEAST_BUDGET
        return self.observation(), self._score() - before, ended, False, self._info()

    def _auction(self, factor: float) -> None:
        """Adds a tick's auctions to the account."""
        account = self._account
        values, sigmas, costs = self.period.tick(account.advertiser, account.tick)
        bids = factor * values
        won = np.flatnonzero(bids >= costs)
        dropped = 0.0  # sum of the bids that the budget takes back
        while len(won):
            # A tick may cost more than is left: impressions are then given up at random.
            cost = float(costs[won].sum())
            excess = (cost - (self.budget - account.cost)) / (cost + 1e-4)
            if excess <= 0.0:
                break
            lost = self.np_random.choice(len(won), math.ceil(len(won) * excess), replace=False)
            dropped += float(bids[won[lost]].sum())
            won = np.delete(won, lost)
        chance = np.clip(self.np_random.normal(values[won], sigmas[won]), 0.0, 1.0)
        conversions = int((self.np_random.random(len(won)) < chance).sum())
        account.cost += float(costs[won].sum())
        account.conversions += conversions
        count = len(values)
        account.means.append(
            [
                (float(bids.sum()) - dropped) / count,
                float(costs.mean()),
                float(values.mean()),
                conversions / count,
                len(won) / count,
            ]
        )

    def _score(self) -> float:
        return score(self._account.conversions, self._account.cost, self.cpa_limit)

    def observation(self) -> np.ndarray:
        """Returns f64[16], AuctionNet's state before the next tick."""
        account, period = self._account, self.period
        over = account.tick == NUM_TICKS
        return tick_state(
            account.tick,
            (self.budget - account.cost) / self.budget,
            np.array(account.means),
            np.diff(period.tick_offsets)[: account.tick],
            np.zeros(0) if over else period.tick(account.advertiser, account.tick)[0],
        )

    def _info(self) -> dict[str, Any]:
        account = self._account
        return {
            "advertiser": int(self.period.advertisers[account.advertiser]),
            "conversions": account.conversions,
            "cost": account.cost,
            "score": self._score(),
        }

    def get_state(self) -> dict[str, Any]:
        """Returns all that the rest of the episode and later resets depend on, picklable."""
        return {
            "account": dataclasses.asdict(self._account),
            "random": self.np_random.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues bit for bit from what `get_state` returned, here or in another process."""
        account = _Account(**state["account"])
        account.means = [list(means) for means in account.means]
        self._account = account
        self.np_random.bit_generator.state = state["random"]


def make_auction(name: str, render_mode: str | None = None) -> AuctionReplayEnv:
    """Returns the environment of `auctionnet/PATH`, a period's file or a folder with one.

    With `@relative` at the end, actions are in units of the CPA limit. `@sparse` is the dataset's
    and changes nothing here.

    Raises:
      InputError: there is no such file, it is none of a period, or a render mode is asked for.
    """
    if render_mode is not None:
        raise InputError(f"environment {name!r} has no pictures; leave out render_mode")
    path, options = parse_name(name)
    return AuctionReplayEnv(load_period(period_file(path)), relative="relative" in options)
