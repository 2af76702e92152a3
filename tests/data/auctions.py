"""A little of AuctionNet: a training CSV and a period to replay, in the true layouts."""

import csv

import numpy as np

COLUMNS = (
    "deliveryPeriodIndex",
    "advertiserNumber",
    "advertiserCategoryIndex",
    "budget",
    "CPAConstraint",
    "realAllCost",
    "realAllConversion",
    "timeStepIndex",
    "state",
    "action",
    "reward",
    "reward_continuous",
    "done",
    "next_state",
)


def training_rows(num_ticks=6, spent_after=3):
    """Returns rows of two advertisers in two periods; the second has spent its budget early."""
    rng = np.random.default_rng(0)
    rows = []
    for period in (0, 1):
        for advertiser, cpa_limit in ((0, 100), (1, 50)):
            states = rng.random((num_ticks + 1, 16)).round(6)
            states[:, 13:] = np.arange(num_ticks + 1)[:, None] * (1000, 2000, 3000)
            for tick in range(num_ticks):
                done = tick == num_ticks - 1 or (advertiser == 1 and tick >= spent_after)
                following = "" if done else str(tuple(states[tick + 1].tolist()))
                outcome = (40.0 + tick, tick % 2, tick / 8, int(done), following)
                state = str(tuple(states[tick].tolist()))
                rows.append(
                    [period, advertiser, 0, 2900, cpa_limit, 10.5, 3, tick, state, *outcome]
                )
    return rows


def write_csv(path, rows=None, columns=COLUMNS, opener=open):
    """Writes rows under `columns` and returns the path."""
    with opener(path, "wt", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(training_rows() if rows is None else rows)
    return path


def period_arrays(num_advertisers=2, per_tick=5):
    """Returns the arrays of a period whose auctions are all alike: value 0.1, cost 2."""
    num_impressions = 48 * per_tick
    shape = (num_impressions, num_advertisers)
    return {
        "advertisers": np.arange(num_advertisers) * 9,
        "budget": np.full(num_advertisers, 1000.0),
        "CPAConstraint": np.linspace(20.0, 40.0, num_advertisers),
        "pValue": np.full(shape, 0.1, np.float32),
        "pValueSigma": np.zeros(shape, np.float32),
        "leastWinningCost": np.full(num_impressions, 2.0, np.float32),
        "tick_offsets": np.arange(49) * per_tick,
    }
