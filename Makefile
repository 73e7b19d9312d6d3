# Two commands do everything on a machine with Python and make: `make demo` and `make test`.
# Beside `make test`: `make test-benchmarks` runs the benchmarks at tiny sizes, `make quick` tests the
# core in a minute, `make slow` tests it compiled with all of XLA's optimisations, `make mutations`
# breaks the code in many places and looks for a failing test.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# A file is one worker's: it compiles what its tests share once.
PYTEST := MALLOC_ARENA_MAX=2 $(BIN)/python -m pytest -n 2 --dist loadfile
CORE := tests/taps tests/metrics tests/test_moments.py tests/test_gradients.py \
	tests/test_jacobian_probes.py tests/test_measure.py tests/test_measure_options.py
QUICK := tests/taps tests/metrics/test_linearity.py tests/metrics/test_virtual.py \
	tests/test_moments.py tests/test_measure.py

.PHONY: demo test test-benchmarks quick slow mutations lint bench clean

demo: $(INSTALLED)
	$(BIN)/python -m experiments run fig04 --preset default

test: $(INSTALLED)
	$(PYTEST) -m "not benchmark"

test-benchmarks: $(INSTALLED)
	$(PYTEST) --dist load -m benchmark

quick: $(INSTALLED)
	$(PYTEST) -m "not long" $(QUICK)

slow: $(INSTALLED)
	GRAMLIN_TEST_OPTIMIZED=1 $(PYTEST) $(CORE)

mutations: $(INSTALLED)
	$(BIN)/python tests/mutations

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[data,loggers,dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .mutations.json
