"""How fast this project is, measured: one module per question, each run with `python -m`."""
