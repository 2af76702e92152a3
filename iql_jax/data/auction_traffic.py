"""AuctionNet's raw traffic, tens of GB of auctions, as training rows and as a period to replay.

    python -m iql_jax.data.auction_traffic train period-*.csv --output DIR
    python -m iql_jax.data.auction_traffic replay period-27.csv --output DIR

Both read a file once, a piece at a time. `train` keeps sums by advertiser and tick, so its memory
does not grow with the file; what it writes, `training_data_all-rlData.csv`, is what AuctionNet's
own generator writes from the same files, and loads as `auctionnet/DIR`. `replay` writes the period
that policies are evaluated in.
"""

import argparse
import contextlib
import csv
import gzip
import pathlib
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from iql_jax.envs.auction_period import NUM_TICKS
from iql_jax.errors import InputError

_CHUNK_ROWS = 500_000
_WHO = ("deliveryPeriodIndex", "advertiserNumber", "timeStepIndex")
_SAME = ("advertiserCategoryIndex", "budget", "CPAConstraint", "remainingBudget", "isEnd")
_MEANS = ("bid", "leastWinningCost", "conversionAction", "xi", "pValue")
_EXPOSED = ("cost", "conversionAction", "pValue")
_TRAINING = (*_WHO, *_SAME, *_MEANS, "cost", "isExposed")
_REPLAY = (
    "advertiserNumber",
    "budget",
    "CPAConstraint",
    "timeStepIndex",
    "pvIndex",
    "pValue",
    "pValueSigma",
    "leastWinningCost",
)
HEADER = (
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


def read_columns(
    path: pathlib.Path, names: Sequence[str], chunk_rows: int = _CHUNK_ROWS
) -> Iterator[dict[str, np.ndarray]]:
    """Return the columns `names` of a traffic CSV, f64[n] by name, a piece of the file at a time.

    Raises:
      InputError: naming the file and the reason.
    """
    try:
        with _opened(path) as file:
            header = file.readline().strip().split(",")
            missing = [name for name in names if name not in header]
            if missing:
                raise InputError(
                    f"{path}: missing the columns {', '.join(missing)}; AuctionNet's traffic has "
                    f"{', '.join(names)}, this file {', '.join(header)}"
                )
            places = [header.index(name) for name in names]
            while True:
                lines = [line for _, line in zip(range(chunk_rows), file, strict=False)]
                if not lines:
                    return
                rows = np.loadtxt(lines, delimiter=",", usecols=places, ndmin=2)
                yield dict(zip(names, rows.T, strict=True))
    except InputError:
        raise
    except (OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read: {reason}") from error


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[IO[str]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", newline="") as file:
            yield file
    else:
        with path.open(newline="") as file:
            yield file


class _Sums:
    """Sums by period, advertiser and tick, in whatever order the rows come."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[int, int, int], np.ndarray] = {}

    def add(self, columns: dict[str, np.ndarray]) -> None:
        keys = np.stack([columns[name] for name in _WHO], axis=1).astype(np.int64)
        unique, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        group = group.reshape(-1)
        exposed = columns["isExposed"] == 1
        summed = [np.ones(len(keys)), *(columns[name] for name in _MEANS)]
        summed += [columns[name] * exposed for name in _EXPOSED]
        sums = np.stack([np.bincount(group, values) for values in summed], axis=1)
        for i, key in enumerate(map(tuple, unique.tolist())):
            known = self.by_key.get(key)
            if known is None:
                same = [columns[name][first[i]] for name in _SAME]
                self.by_key[key] = np.concatenate([same, sums[i]])
            else:
                known[len(_SAME) :] += sums[i]


def training_rows(paths: Sequence[pathlib.Path], chunk_rows: int = _CHUNK_ROWS) -> list[list]:
    """Return the rows of AuctionNet's training CSV, as `HEADER` names them.

    Raises:
      InputError: a file cannot be read.
    """
    sums = _Sums()
    for path in paths:
        for columns in read_columns(path, _TRAINING, chunk_rows):
            sums.add(columns)
    episodes: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
    for period, advertiser, tick in sorted(sums.by_key):
        episode = episodes.setdefault((period, advertiser), [])
        episode.append((tick, sums.by_key[period, advertiser, tick]))
    rows: list[list] = []
    for key, episode in episodes.items():
        rows += _episode_rows(key, episode)
    return rows


def _episode_rows(key: tuple[int, int], episode: list[tuple[int, np.ndarray]]) -> list[list]:
    ticks = [tick for tick, _ in episode]
    table = np.stack([values for _, values in episode])
    category, budget, limit, remaining, is_end = table[:, : len(_SAME)].T
    counts, bids, _, conversions, _, values = table[:, len(_SAME) : len(_SAME) + 6].T
    means = table[:, len(_SAME) + 1 : len(_SAME) + 6] / counts[:, None]
    costs, won_conversions, won_values = table[:, -3:].T
    done = (np.array(ticks) == NUM_TICKS - 1) | (is_end == 1)
    states = [
        str(tuple(_state(tick, i, budget[0], remaining[i], means, counts).tolist()))
        for i, tick in enumerate(ticks)
    ]
    rows = []
    for i, tick in enumerate(ticks):
        following = "" if done[i] or i + 1 == len(ticks) else states[i + 1]
        action = bids[i] / values[i] if values[i] > 0 else 0.0
        about = (*key, int(category[0]), budget[0], limit[0], costs.sum(), conversions.sum(), tick)
        outcome = (action, won_conversions[i], won_values[i], int(done[i]), following)
        rows.append([*about, states[i], *outcome])
    return rows


def _state(
    tick: int, i: int, budget: float, remaining: float, means: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return f64[16], the state before the i-th tick that has auctions."""
    nothing = np.zeros((1, means.shape[1]))
    before, lately = means[:i], means[max(0, i - 3) : i]
    ever, last = ((part if len(part) else nothing).mean(axis=0) for part in (before, lately))
    bid, cost, conversion, won, value = range(len(_MEANS))
    return np.array(
        [
            (NUM_TICKS - tick) / NUM_TICKS,
            remaining / budget if budget > 0 else 0.0,
            ever[bid],
            last[bid],
            *ever[[cost, value, conversion, won]],
            *last[[cost, value, conversion, won]],
            means[i, value],
            counts[i],
            counts[max(0, i - 3) : i].sum(),
            counts[:i].sum(),
        ]
    )


def period_arrays(path: pathlib.Path, chunk_rows: int = _CHUNK_ROWS) -> dict[str, np.ndarray]:
    """Return the arrays of a period to replay, as `envs.auction_period` reads them.

    Raises:
      InputError: the file cannot be read, or advertisers do not share impressions and costs.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _REPLAY}
    for columns in read_columns(path, _REPLAY, chunk_rows):
        for name in _REPLAY:
            whole = name in ("advertiserNumber", "timeStepIndex", "pvIndex")
            parts[name].append(columns[name].astype(np.int32 if whole else np.float32))
    whole_file = {name: np.concatenate(pieces) for name, pieces in parts.items()}
    keys = [whole_file[name] for name in ("pvIndex", "timeStepIndex", "advertiserNumber")]
    order = np.lexsort(keys)
    table = {name: values[order] for name, values in whole_file.items()}
    advertisers, starts = np.unique(table["advertiserNumber"], return_index=True)
    num_impressions = len(order) // len(advertisers)
    shape = (len(advertisers), num_impressions)
    if len(order) != shape[0] * shape[1] or not (np.diff(starts) == num_impressions).all():
        raise InputError(
            f"{path}: advertisers have different numbers of impressions; a period to replay has "
            "the same impressions for all"
        )
    ticks = table["timeStepIndex"].reshape(shape)
    costs = table["leastWinningCost"].reshape(shape)
    if (ticks != ticks[0]).any() or (costs != costs[0]).any():
        raise InputError(f"{path}: advertisers differ in 'timeStepIndex' or 'leastWinningCost'")
    return {
        "advertisers": advertisers.astype(np.int64),
        "budget": table["budget"][starts].astype(np.float64),
        "CPAConstraint": table["CPAConstraint"][starts].astype(np.float64),
        "pValue": table["pValue"].reshape(shape).T,
        "pValueSigma": table["pValueSigma"].reshape(shape).T,
        "leastWinningCost": costs[0],
        "tick_offsets": np.searchsorted(ticks[0], np.arange(NUM_TICKS + 1)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert the files named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.data.auction_traffic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("train", "replay"))
    parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path())
    parsed = parser.parse_args(arguments)
    parsed.output.mkdir(parents=True, exist_ok=True)
    try:
        if parsed.what == "train":
            print(_write_training(parsed.files, parsed.output))
        else:
            for file in parsed.files:
                path = parsed.output / f"{file.name.split('.')[0]}.npz"
                np.savez(path, **period_arrays(file))  # type: ignore[arg-type]
                print(path)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


def _write_training(files: Sequence[pathlib.Path], folder: pathlib.Path) -> pathlib.Path:
    path = folder / "training_data_all-rlData.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(training_rows(files))
    return path


if __name__ == "__main__":
    main()
