# Two commands from nothing, on a bare Debian or Ubuntu with Python >= 3.11:
#   make train    installs into .venv and trains IQL on a maze; ARGS="..." adds flags
#   make test     installs into .venv and runs the tests;       ARGS="..." adds pytest options
# Neither installs anything a second time, until the requirements change.

VENV := .venv
# The newest interpreter that runs here; name another with PYTHON=...
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: train test lint check slow fault clean

train: $(VENV)/.installed
	$(VENV)/bin/python train_offline.py $(ARGS)

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

slow: $(VENV)/.installed-dev
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(VENV)/bin/python -m pytest -m slow $(ARGS)

fault: $(VENV)/.installed-dev
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(VENV)/bin/python -m pytest -m fault $(ARGS)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

check: lint test

$(VENV)/.installed: requirements.txt | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(VENV)/bin/pip:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; install one (apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments; apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
