"""Runs an entry point as a user does, and tells on a pipe what the process is about to do.

python -m tests.training.fault_driver PIPE SCRIPT FLAGS...
"""

import functools
import os
import runpy
import sys


def main() -> None:
    """Wraps what marks a phase, then becomes the script."""
    pipe, script = int(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))

    def announce(owner: object, name: str, phase: str) -> None:
        wrapped = getattr(owner, name)

        @functools.wraps(wrapped)
        def announcing(*arguments, **kwargs):
            os.write(pipe, f"{phase}\n".encode())
            return wrapped(*arguments, **kwargs)

        setattr(owner, name, announcing)

    from iql_jax.training import checkpoint, evaluation, finetune, loop, session

    announce(session, "load_problem", "data")
    announce(loop, "add_metrics", "training")  # of the first chunk: it is compiled by then
    announce(finetune, "_write_row", "acting")
    announce(evaluation.Evaluator, "__call__", "evaluation")
    announce(checkpoint.Checkpoints, "_write", "checkpointing")
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
