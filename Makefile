# Everything here works where only Python 3.11, pip and make exist: each target makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types bench clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,plot,jieba]"
	touch $@

demo: $(VENV)/installed  ## train a small classifier on the bundled sample, score it, predict
	$(BIN)/python scripts/demo.py

test: $(VENV)/installed  ## the first ring: no torch, no TensorFlow
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 -m "not peers and not slow"

lint: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt mypy
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-* runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
