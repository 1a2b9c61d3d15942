# `make run` and `make test` are all the set-up there is. They need Python 3.11-3.13 with venv, and nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test fast check test-lowest clean

run: $(VENV)/.installed
	$(BIN)/companysim run sample

# One thread a process: two processes of two threads on two cores wait for each other.
test: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Without the slow tests: what one runs while working.
fast: $(VENV)/.tested
	$(BIN)/python -m pytest -m "not slow" -x -q

check: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/mypy

# The oldest dependencies pyproject.toml admits, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable . \
		pytest pytest-xdist hypothesis networkx psutil eai-sparsify sentence-transformers "ray[data]"
	$(VENV)-lowest/bin/python -m pytest

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) runs
