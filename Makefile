# Set-up is a virtual environment in .venv; it happens by itself. Only Python >= 3.11 and make are needed.
PYTHON ?= python3
BIN := .venv/bin

# One process more than cores, since some tests mostly wait; at most four, since each loads torch. A process takes over
# waiting tests of one that lags.
PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')
SIDE_BY_SIDE := -n $(PROCESSES) --dist worksteal

# Images of containers often forbid compiled files. Each of a hundred processes would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: search test test-fast soak check setup clean

search: .venv/.run
	$(BIN)/nas search search_spaces/tiny_lm.toml

test: .venv/.dev
	$(BIN)/pytest $(SIDE_BY_SIDE)

test-fast: .venv/.dev
	$(BIN)/pytest $(SIDE_BY_SIDE) -m 'not slow' --ignore=tests/parity

soak: .venv/.dev
	$(BIN)/pytest $(SIDE_BY_SIDE) -m soak

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: .venv/.dev

.venv/bin/python:
	$(PYTHON) -m venv .venv

# What a user needs; the stamp is renewed when the dependencies change.
.venv/.run: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# What a developer needs besides.
.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/.run

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
