"""Scores others published, for the tables: only beside the very data they were obtained on."""

import dataclasses
import functools
import importlib.resources
import json
from typing import Any

PREFIX = "d4rl/"


@dataclasses.dataclass(frozen=True)
class Published:
    """One published score.

    Attributes:
      recipe: whose configuration, e.g. "IQL paper".
      source: where it was published.
      protocol: what is known of how it was obtained.
      score: normalised score x 100, after finetuning where that is the phase.
      start: before finetuning, None if offline.
      checked: False if the number was not compared with the publication again.
    """

    recipe: str
    source: str
    protocol: str
    score: float
    start: float | None
    checked: bool


@functools.cache
def entries() -> list[dict[str, Any]]:
    """Return every published table: recipe, source, protocol, phase, scores, unchecked."""
    text = importlib.resources.files(__package__).joinpath("published.json").read_text()
    return json.loads(text)


def lookup(dataset: str, phase: str = "offline") -> list[Published]:
    """Return what was published for `dataset`, empty where it is not D4RL's own data.

    Args:
      dataset: the full name, e.g. `d4rl/hopper-medium-v2`; generated data and own files have no
        published scores, whatever they are called.
      phase: "offline" or "finetune".
    """
    if not dataset.startswith(PREFIX):
        return []
    name = dataset.removeprefix(PREFIX)
    found = []
    for entry in entries():
        if entry["phase"] != phase or name not in entry["scores"]:
            continue
        value = entry["scores"][name]
        start, score = value if isinstance(value, list) else (None, value)
        found.append(
            Published(
                recipe=entry["recipe"],
                source=entry["source"],
                protocol=entry["protocol"],
                score=score,
                start=start,
                checked=name not in entry["unchecked"],
            )
        )
    return found
