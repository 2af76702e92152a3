"""Evaluations in a thread of their own, while training goes on in the main one."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self

from iql_jax.errors import InputError
from iql_jax.training import maze_view
from iql_jax.training.evaluation import Evaluation
from iql_jax.training.population import Layout

CHOICES = ("auto", "always", "never")


class Pending(NamedTuple):
    """An evaluation under way.

    Attributes:
      states: a copy of the members' states, which training cannot change.
      paths: what it sees of one member's episodes.
      evaluations: what it will find: evaluations by way to act, or None if it was abandoned.
    """

    states: Any
    paths: maze_view.Paths
    evaluations: Future[dict[str, Evaluation] | None]


class Beside:
    """While open, runs functions in a thread; on the way out the last one is asked to give up."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluation")
        self._closing = threading.Event()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Returns what the function will return or raise."""
        return self._thread.submit(function, *arguments)

    def closing(self) -> bool:
        """Returns whether nobody will ask for the result any more."""
        return self._closing.is_set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closing.set()
        self._thread.shutdown(wait=True)


def chosen(choice: str, layout: Layout, acting: Layout, num_members: int) -> bool:
    """Returns whether to evaluate beside training.

    `auto` does where members act on the host while they train on accelerators: one device runs
    one program at a time, and a policy that waits for every call of the training program gains
    nothing.

    Args:
      choice: one of `CHOICES`.
      layout: where members train.
      acting: where they act.
      num_members: P.

    Raises:
      InputError: the programs of training and evaluation could wait for each other.
    """
    if choice not in CHOICES:
        raise InputError(f"evaluate_beside is {choice!r}, but must be one of {', '.join(CHOICES)}")
    on_host = acting.platform == "cpu" and layout.platform != "cpu"
    if choice == "always" and not on_host and num_members % layout.mesh.size:
        raise InputError(
            f"--evaluate_beside=always: {num_members} members on {layout.mesh.size} devices "
            "exchange arrays, which two programs at a time may not; use --evaluate_beside=auto, "
            "or a number of members that the devices share evenly"
        )
    return choice == "always" or (choice == "auto" and on_host)
