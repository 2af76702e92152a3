"""A policy trained on AuctionNet's data, as bids and as a score by advertiser.

    python -m iql_jax.auction RUN                         in the period the run was evaluated in
    python -m iql_jax.auction RUN --period=PATH --draws=100

Beside the policy are scored, in the same period: the bid factors of the run's own data, those of
each advertiser in each of its periods replayed tick by tick, and constant factors of 1 and 0.8 of
the advertiser's CPA limit. `Bidder` makes the bids themselves, by AuctionNet's own interface.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iql_jax.data.auctionnet import logged_factors
from iql_jax.envs import auction_scores
from iql_jax.envs.auction_period import PREFIX, parse_name, period_file
from iql_jax.envs.auction_scores import AdvertiserScore
from iql_jax.envs.auctionnet import STATE_DIM, tick_state
from iql_jax.errors import InputError
from iql_jax.evaluate import checkpoint_argument, member_argument
from iql_jax.policy import Policy, load_policy
from iql_jax.training import saved_run

_CONSTANTS = (1.0, 0.8)
_LOGGED = "logged bids"


class Bidder:
    """An advertiser that bids as the policy of a run does, by AuctionNet's interface of agents.

    Attributes:
      name: the run's directory.
      budget, cpa: what the advertiser is given.
      category: kept for AuctionNet, not used.
      remaining_budget: kept up to date by whoever runs the auctions.
    """

    def __init__(
        self,
        run_dir: str | Path,
        budget: float,
        cpa: float,
        category: int = 1,
        member: int = 0,
        checkpoint: int | str = "last",
    ):
        """Loads the policy of a member of a run.

        Raises:
          InputError: see `load_policy`, or the run is not of AuctionNet's data.
        """
        name = _dataset(saved_run.open_run(run_dir))
        self._unit = cpa if "relative" in parse_name(name)[1] else 1.0
        self._policy = load_policy(run_dir, member, checkpoint)
        self.name, self.budget, self.cpa, self.category = str(run_dir), budget, cpa, category
        self.remaining_budget = budget

    def reset(self) -> None:
        """Begins another period."""
        self.remaining_budget = self.budget

    def bidding(
        self,
        time_step: int,
        values: np.ndarray,
        sigmas: np.ndarray,
        history_values: Sequence[np.ndarray],
        history_bids: Sequence[np.ndarray],
        history_auctions: Sequence[np.ndarray],
        history_impressions: Sequence[np.ndarray],
        history_costs: Sequence[np.ndarray],
    ) -> np.ndarray:
        """Returns the bids f64[n] for the n impressions of a tick.

        Arguments are AuctionNet's, in its order: what is to come, and one array for each past tick.

        Args:
          time_step: the tick, from 0.
          values, sigmas: f64[n], the predicted values of the impressions and their deviations.
          history_values: f64[m, 2], (value, sigma).
          history_bids: f64[m].
          history_auctions: f64[m, 3], (won, slot, cost).
          history_impressions: f64[m, 2], (exposed, converted).
          history_costs: f64[m], least winning costs.
        """
        del sigmas
        columns = (
            history_bids,
            history_costs,
            [seen[:, 0] for seen in history_values],
            [seen[:, 1] for seen in history_impressions],
            [seen[:, 0] for seen in history_auctions],
        )
        means = [[float(np.mean(seen[t])) for seen in columns] for t in range(len(history_bids))]
        state = tick_state(
            time_step,
            self.remaining_budget / self.budget,
            np.array(means),
            np.array([len(bids) for bids in history_bids], np.float64),
            values,
        )
        return float(self._policy.act(state)[0]) * self._unit * np.asarray(values, np.float64)


def compare(
    run_dir: str | Path,
    *,
    period: str | Path | None = None,
    member: int | None = None,
    checkpoint: int | str = "last",
    num_draws: int = 30,
    seed: int = 0,
) -> dict[str, list[AdvertiserScore]]:
    """Returns the scores by advertiser of each way to bid, by its name; the policies come first.

    Args:
      run_dir: the run's directory.
      period: the file of the period; None for the one in the folder of the run's data.
      member: one member; None for all whose training stayed finite.
      checkpoint: `last`, `best` or an update.
      num_draws: replays of the period for each advertiser.
      seed: of the draws.

    Raises:
      InputError: the run, its data or the period is not there, or the run is of other data.
    """
    if num_draws < 1:
        raise InputError(f"draws is {num_draws}, but must be a count of at least 1")
    run = saved_run.open_run(run_dir)
    name = _dataset(run)
    path, options = parse_name(name)
    file = period_file(path if period is None else Path(period).expanduser())
    plain, relative = f"{PREFIX}{file}", f"{PREFIX}{file}@relative"
    env_name = relative if "relative" in options else plain
    dropped = saved_run.restore(run, checkpoint).dropped
    members = [member] if member is not None else range(len(run.members))
    tables = {}
    for i in members:
        if member is None and i in dropped:
            continue
        policy = load_policy(run_dir, i, checkpoint)
        label = f"{run.config.agent}, seed {run.members[i].seed}"
        tables[label] = auction_scores.score_advertisers(_act(policy), env_name, num_draws, seed)
    schedules = logged_factors(name)
    tables[_LOGGED] = auction_scores.score_schedules(schedules, env_name, seed)
    for factor in _CONSTANTS:
        tables[f"{factor:g} x CPA limit"] = auction_scores.score_advertisers(
            _constant(factor), relative, num_draws, seed
        )
    return tables


def _act(policy: Policy) -> auction_scores.Act:
    """Returns the policy for as many states as there are, compiled for one number of them."""
    most = 0

    def act(states: np.ndarray) -> np.ndarray:
        nonlocal most
        most = max(most, len(states))
        padded = np.zeros((most, STATE_DIM), np.float32)
        padded[: len(states)] = states
        return policy.act(padded)[: len(states), 0]

    return act


def _constant(factor: float) -> auction_scores.Act:
    return lambda states: np.full(len(states), factor)


def _dataset(run: saved_run.SavedRun) -> str:
    """Returns the name of AuctionNet's data that a run learned from.

    Raises:
      InputError: it learned from other data.
    """
    name = run.config.dataset_name
    if not name.startswith(PREFIX):
        raise InputError(f"'{run.path}' was trained on {name}; bids are for {PREFIX}... data")
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of the command line: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.auction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--period", help="a period's file; default: the one beside the run's data")
    parser.add_argument("--member", type=member_argument, default="all", help="all, or one from 0")
    parser.add_argument(
        "--checkpoint", type=checkpoint_argument, default="last", help="last, best or an update"
    )
    parser.add_argument("--draws", type=int, default=30, help="replays for each advertiser")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parsed = parser.parse_args(arguments)
    try:
        tables = compare(
            parsed.run,
            period=parsed.period,
            member=parsed.member,
            checkpoint=parsed.checkpoint,
            num_draws=parsed.draws,
            seed=parsed.seed,
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(auction_scores.to_text(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
