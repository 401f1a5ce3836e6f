# Needs only Python 3.11 or later, pip and make: each target creates .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# jax 0.11 and later need Python 3.12, so there are two sets of versions. The newer XLA no longer has the flag below and
# ends the process at one that it does not know.
NEWER := $(shell $(PYTHON) -c "import sys; print('yes' if sys.version_info >= (3, 12) else '')")
CONSTRAINTS := $(if $(NEWER),constraints-python312.txt,constraints.txt)
XLA := $(if $(NEWER),,XLA_FLAGS=--xla_cpu_use_fusion_emitters=false)

.PHONY: demo test slow lint types bench clean

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[test,plot,jieba]"
	touch $@

demo: $(VENV)/installed  ## train a small classifier on the bundled sample, score it, predict
	$(BIN)/python scripts/demo.py

# Tests compile thousands of small programs and run each once. Without optimisation and with a cache they take half the
# time. The comparison with peer libraries in .ci/run compiles with the default settings, as users do.
PLAIN := JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(XLA) \
	JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.pytest_cache/compiled \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

test: $(VENV)/installed  ## fast tests; need neither torch nor TensorFlow
	KERAS_BACKEND=jax $(PLAIN) $(BIN)/python -m pytest -n 2 -m "not peers and not slow" $(TESTS)

slow: $(VENV)/installed  ## slow tests that need no peer library; `test` has fast ones like them
	KERAS_BACKEND=jax $(PLAIN) $(BIN)/python -m pytest -n 2 -m "slow and not peers"

lint: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) mypy
	$(BIN)/mypy
	$(BIN)/mypy --strict --follow-imports=silent tests/typing/user_script.py

clean:
	rm -rf $(VENV) .venv-* runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
