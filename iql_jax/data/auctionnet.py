"""AuctionNet's training data: its CSV of one row for each advertiser, period and tick.

`auctionnet/PATH` is a CSV (also `.csv.gz`), or a folder with one. Rewards are the predicted value
of the impressions won (`reward_continuous`, what AuctionNet trains on), with `@sparse` at the end
of the name the conversions (`reward`). Actions are bid factors, total bid / total value of a tick;
with `@relative` in units of the advertiser's CPA limit, which the state does not tell.

States are as stored: the scaling of dimensions 13 to 15 is the observation transform `auctionnet`,
the scaling of rewards the reward transform `unit_range`, so that they act in evaluation too. A CSV
goes on after an advertiser's budget is spent, with rows that are all terminal: those are left out.
"""

import contextlib
import csv
import gzip
import pathlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from iql_jax.data.raw import RawDataset
from iql_jax.envs.auction_period import NUM_TICKS, parse_name, period_files
from iql_jax.envs.auctionnet import score
from iql_jax.errors import InputError

STATE_DIM = 16
_NUMBERS = (
    "deliveryPeriodIndex",
    "advertiserNumber",
    "budget",
    "CPAConstraint",
    "timeStepIndex",
    "action",
    "reward",
    "reward_continuous",
    "done",
)
_STATES = ("state", "next_state")
_OUTCOME = ("realAllCost", "realAllConversion")  # of an advertiser's period, in its every row
_SUFFIXES = (".csv", ".csv.gz")


def load_auctionnet(name: str) -> RawDataset:
    """Return the transitions of `auctionnet/PATH[@sparse][@relative]`.

    The environment for evaluation is the one period to replay in the same folder, where the name
    is a folder's and there is one.

    Raises:
      InputError: naming the file, the row, the column and the reason.
    """
    path, options = parse_name(name)
    file = _csv_file(path)
    columns = _read(file)
    keep = _visited(file, columns)
    states, following = columns["state"], columns["next_state"]
    actions = columns["action"]
    if "relative" in options:
        actions = actions / columns["CPAConstraint"]
    rewards = columns["reward" if "sparse" in options else "reward_continuous"]
    done = columns["done"] == 1
    num_ends = int(done[keep].sum())
    has_period = path.is_dir() and len(period_files(path)) == 1
    return RawDataset(
        name=name,
        source=_source(file, options),
        observations=states[keep].astype(np.float32),
        actions=actions[keep, None].astype(np.float32),
        rewards=rewards[keep].astype(np.float32),
        masks=1.0 - done[keep].astype(np.float32),
        next_observations=following[keep].astype(np.float32),
        ends=_ends(columns, keep),
        env_name=name if has_period else None,
        extras={
            "path": str(file.absolute()),
            "rows_after_the_end": int(len(keep) - keep.sum()),
            "episodes": num_ends,
            "behaviour_return": _logged_score(columns),
            "budget": columns["budget"][keep],
            "cpa_limit": columns["CPAConstraint"][keep],
            "advertiser": columns["advertiserNumber"][keep].astype(np.int64),
        },
    )


def logged_factors(name: str) -> dict[int, np.ndarray]:
    """Return the bid factors in the log `auctionnet/PATH`, f64[S, 48] of S periods by advertiser.

    They are in the units of the name's actions, and 0 in ticks without a row.

    Raises:
      InputError: see `load_auctionnet`.
    """
    path, options = parse_name(name)
    columns = _read(_csv_file(path))
    episode, tick = _episode(columns), columns["timeStepIndex"].astype(np.int64)
    factors = np.zeros((episode[-1] + 1, NUM_TICKS))
    unit = columns["CPAConstraint"] if "relative" in options else 1.0
    factors[episode, tick] = columns["action"] / unit
    owners = columns["advertiserNumber"][np.flatnonzero(np.diff(episode, prepend=-1))]
    return {int(owner): factors[owners == owner] for owner in np.unique(owners)}


def _source(file: pathlib.Path, options: frozenset[str]) -> str:
    reward = "conversions" if "sparse" in options else "predicted value won"
    unit = ", bid factors relative to the CPA limit" if "relative" in options else ""
    return f"AuctionNet (Su et al. 2024), {file.name}: rewards are {reward}{unit}"


def _csv_file(path: pathlib.Path) -> pathlib.Path:
    if path.is_file():
        if not path.name.endswith(_SUFFIXES):
            raise InputError(
                f"{path}: AuctionNet's training data ends in {' or '.join(_SUFFIXES)}; name that "
                "file, or its folder"
            )
        return path
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder (looked for at {path.absolute()})")
    files = sorted(file for suffix in _SUFFIXES for file in path.glob(f"*rlData{suffix}"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise InputError(
            f"{path}: a folder has one CSV of training data, *rlData.csv or *rlData.csv.gz; found "
            f"{found}; name the file itself"
        )
    return files[0]


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[IO[str]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", newline="") as file:
            yield file
    else:
        with path.open(newline="") as file:
            yield file


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Return f64 columns by name; states f64[N, 16], the next state zeros where there is none."""
    numbers: dict[str, list[float]] = {name: [] for name in (*_NUMBERS, *_OUTCOME)}
    states: dict[str, list[Any]] = {name: [] for name in _STATES}
    nothing = np.zeros(STATE_DIM)
    line = 1
    try:
        with _opened(path) as file:
            rows = csv.DictReader(file)
            missing = sorted({*_NUMBERS, *_OUTCOME, *_STATES} - set(rows.fieldnames or ()))
            if missing:
                raise InputError(
                    f"{path}: missing the columns {', '.join(missing)}; found "
                    f"{', '.join(rows.fieldnames or ['none'])}"
                )
            for row in rows:
                line = rows.line_num
                for column in numbers:
                    numbers[column].append(float(row[column]))
                states["state"].append(_state(row["state"]))
                text = row["next_state"]
                states["next_state"].append(_state(text) if text else nothing)
    except (OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read: {reason}") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: line {line}: {error}; repair or remove it") from error
    if not states["state"]:
        raise InputError(f"{path}: has no rows; nothing can be learned from it")
    columns = {column: np.array(values) for column, values in numbers.items()}
    return columns | {column: np.stack(values) for column, values in states.items()}


def _state(text: str) -> np.ndarray:
    values = np.array([float(part) for part in text.strip("()").split(",")])
    if len(values) != STATE_DIM:
        raise ValueError(f"a state has {len(values)} numbers, but must have {STATE_DIM}")
    return values


def _episode(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return i64[N], the number of each row's episode: an advertiser's period."""
    keys = np.stack([columns["deliveryPeriodIndex"], columns["advertiserNumber"]])
    changed = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    return np.concatenate([[0], np.cumsum(changed)])


def _logged_score(columns: dict[str, np.ndarray]) -> float:
    """Return AuctionNet's score of the logged bids, its mean over advertisers and periods."""
    first = np.flatnonzero(np.diff(_episode(columns), prepend=-1))
    of_each = ("realAllConversion", "realAllCost", "CPAConstraint")
    outcomes = zip(*(columns[name][first].tolist() for name in of_each), strict=True)
    return float(np.mean([score(*outcome) for outcome in outcomes]))


def _visited(path: pathlib.Path, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return bool[N]: the rows up to the first `done` of each episode.

    Raises:
      InputError: the rows of an episode are not in order.
    """
    episode, tick = _episode(columns), columns["timeStepIndex"]
    disordered = (np.diff(episode) == 0) & (np.diff(tick) <= 0)
    if disordered.any():
        row = int(np.argmax(disordered)) + 3  # one for the header, one for counting from 1
        raise InputError(
            f"{path}: line {row}: 'timeStepIndex' does not rise within an advertiser's period; "
            "sort by deliveryPeriodIndex, advertiserNumber, timeStepIndex"
        )
    done = columns["done"] == 1
    before = np.cumsum(done) - done  # ends before this row
    first = np.flatnonzero(np.concatenate([[True], np.diff(episode) != 0]))
    return before == before[first][episode]


def _ends(columns: dict[str, np.ndarray], keep: np.ndarray) -> np.ndarray:
    """Return bool[M]: the last kept row of each episode."""
    episode = _episode(columns)[keep]
    return np.concatenate([episode[1:] != episode[:-1], [True]])
