"""Raw auctions become the rows that AuctionNet's own generator makes of them."""

import csv
import gzip

import numpy as np
import pytest

from iql_jax import data, envs
from iql_jax.data import auction_traffic
from iql_jax.errors import InputError

COLUMNS = (
    "deliveryPeriodIndex",
    "advertiserNumber",
    "advertiserCategoryIndex",
    "budget",
    "CPAConstraint",
    "timeStepIndex",
    "remainingBudget",
    "pvIndex",
    "pValue",
    "pValueSigma",
    "bid",
    "xi",
    "adSlot",
    "cost",
    "isExposed",
    "conversionAction",
    "leastWinningCost",
    "isEnd",
)


def traffic(num_ticks=5, per_tick=4, ended_at=3):
    """Returns rows of two advertisers, impressions in order of time; the second ends early."""
    rng = np.random.default_rng(0)
    rows = []
    for advertiser in (2, 5):
        left, index = 900.0, 0
        costs = np.random.default_rng(1).uniform(0.5, 2, num_ticks * per_tick).round(4)
        for tick in range(num_ticks):
            before = left
            for _ in range(per_tick):
                value = round(float(rng.uniform(0.01, 0.2)), 5)
                exposed = int(rng.random() < 0.5)
                conversion = int(exposed and rng.random() < 0.5)
                cost, ended = costs[index], int(advertiser == 5 and tick >= ended_at)
                about = (7, advertiser, 1, 900, 20 * advertiser, tick, before, index, value, 0.01)
                bid = (round(30 * value, 5), exposed, 0, cost, exposed, conversion, cost, ended)
                rows.append([*about, *bid])
                left -= costs[index] * exposed
                index += 1
    return rows


def write(path, rows=None, columns=COLUMNS, opener=open):
    with opener(path, "wt", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *(rows or traffic())])
    return path


def test_rows_are_those_of_the_definition(tmp_path):
    path = write(tmp_path / "period-7.csv")
    rows = auction_traffic.training_rows([path])
    table = [dict(zip(auction_traffic.HEADER, row, strict=True)) for row in rows]
    raw = [dict(zip(COLUMNS, row, strict=True)) for row in traffic()]
    assert len(table) == 10

    def of(advertiser, tick):
        return [
            r for r in raw if r["advertiserNumber"] == advertiser and r["timeStepIndex"] == tick
        ]

    def mean(name, advertiser, ticks):
        return np.mean([np.mean([r[name] for r in of(advertiser, t)]) for t in ticks])

    for row in table:
        advertiser, tick = row["advertiserNumber"], row["timeStepIndex"]
        here = of(advertiser, tick)
        state = np.array(eval(row["state"]))
        assert row["action"] == pytest.approx(30.0, rel=1e-3)
        assert row["reward"] == sum(r["conversionAction"] * r["isExposed"] for r in here)
        assert row["reward_continuous"] == pytest.approx(
            sum(r["pValue"] * r["isExposed"] for r in here)
        )
        assert row["done"] == int(advertiser == 5 and tick >= 3)
        assert state[0] == (48 - tick) / 48
        assert state[1] == pytest.approx(here[0]["remainingBudget"] / 900)
        np.testing.assert_allclose(state[[12, 13, 14, 15]], [
            np.mean([r["pValue"] for r in here]), 4, 4 * min(tick, 3), 4 * tick,
        ])  # fmt: skip
        if tick:
            for place, name, ticks in (
                (2, "bid", range(tick)),
                (3, "bid", range(max(0, tick - 3), tick)),
                (4, "leastWinningCost", range(tick)),
                (5, "pValue", range(tick)),
                (6, "conversionAction", range(tick)),
                (7, "xi", range(tick)),
                (8, "leastWinningCost", range(max(0, tick - 3), tick)),
                (9, "pValue", range(max(0, tick - 3), tick)),
                (10, "conversionAction", range(max(0, tick - 3), tick)),
                (11, "xi", range(max(0, tick - 3), tick)),
            ):
                assert state[place] == pytest.approx(mean(name, advertiser, ticks)), name
        else:
            np.testing.assert_array_equal(state[2:12], 0)
        assert bool(row["next_state"]) == (not row["done"] and tick < 4)


@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
def test_pieces_and_the_order_of_rows_change_nothing(tmp_path, chunk_rows):
    path = write(tmp_path / "period-7.csv")
    whole = auction_traffic.training_rows([path])
    pieces = auction_traffic.training_rows([path], chunk_rows)
    by_impression = sorted(traffic(), key=lambda row: (row[7], row[1]))
    shuffled = auction_traffic.training_rows([write(tmp_path / "other.csv", by_impression)])
    for one in (pieces, shuffled):
        for row, wanted in zip(one, whole, strict=True):
            assert row[:5] == wanted[:5] and row[7] == wanted[7] and row[12] == wanted[12]
            np.testing.assert_allclose(eval(row[8]), eval(wanted[8]), rtol=1e-12)
            np.testing.assert_allclose(row[9:12], wanted[9:12], rtol=1e-12)


def test_the_program_writes_what_loads_and_what_replays(tmp_path, capsys):
    source = write(tmp_path / "period-7.csv.gz", opener=gzip.open)
    folder = tmp_path / "out"
    auction_traffic.main(["train", str(source), "--output", str(folder)])
    raw = data.load(f"auctionnet/{folder}")
    assert len(raw.rewards) == 5 + 4 and raw.ends.sum() == 2
    full = traffic(num_ticks=48)
    auction_traffic.main(
        ["replay", str(write(tmp_path / "period-8.csv", full)), "--output", str(folder)]
    )
    assert capsys.readouterr().out.splitlines()[1] == str(folder / "period-8.npz")
    env = envs.make(f"auctionnet/{folder}")
    np.testing.assert_array_equal(env.period.advertisers, [2, 5])
    np.testing.assert_array_equal(env.period.cpa_limit, [40, 100])
    values = np.float32([row[8] for row in full if row[1] == 5])
    np.testing.assert_array_equal(env.period.values[1], values)
    assert env.period.tick(0, 3)[0].shape == (4,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(), "different numbers of impressions"),
        (lambda rows: rows[3].__setitem__(16, 9.0), "differ in 'timeStepIndex' or 'leastWinn"),
    ],
)
def test_impressions_must_be_shared_to_be_replayed(tmp_path, change, message):
    rows = traffic(num_ticks=48)
    change(rows)
    with pytest.raises(InputError, match=message):
        auction_traffic.period_arrays(write(tmp_path / "period-7.csv", rows))


def test_broken_files_are_named(tmp_path, capsys):
    rows = traffic()
    rows[4][8] = "much"
    path = write(tmp_path / "broken.csv", rows)
    with pytest.raises(InputError, match=r"broken.csv: cannot be read: could not convert"):
        auction_traffic.training_rows([path])
    with pytest.raises(SystemExit, match="2"):
        auction_traffic.main(["train", str(path), "--output", str(tmp_path)])
    assert "error: " in capsys.readouterr().err
    short = write(tmp_path / "short.csv", [row[:-1] for row in traffic()], COLUMNS[:-1])
    with pytest.raises(InputError, match="missing the columns isEnd"):
        auction_traffic.training_rows([short])
