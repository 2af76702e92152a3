"""`python -m iql_jax.sweep` with the stand-in for the entry points: the same flags."""

import sys
from pathlib import Path

from iql_jax.sweep import grid
from iql_jax.sweep.__main__ import main

if __name__ == "__main__":
    grid._script = lambda config: Path(__file__).with_name("stand_in.py")
    sys.exit(main())
