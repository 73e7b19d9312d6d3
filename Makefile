# Two commands do everything on a machine with Python and make: `make demo` and `make test`.
# Beside `make test`: `make test-benchmarks` runs the benchmarks at tiny sizes, `make quick` tests the
# core in a minute, `make slow` tests it compiled with all of XLA's optimisations, `make fuzz` tries
# random inputs for $(MINUTES) minutes, `make mutations` breaks the code in many places and looks for a
# failing test, and `make test-newest` runs the type checker and all tests on the newest releases.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# A file is one worker's: it compiles what its tests share once.
PYTEST := MALLOC_ARENA_MAX=2 $(BIN)/python -m pytest -n 2 --dist loadfile
CORE := tests/taps tests/metrics tests/test_moments.py tests/test_gradients.py \
	tests/test_jacobian_probes.py tests/test_measure.py tests/test_measure_options.py
QUICK := tests/taps tests/metrics/test_linearity.py tests/metrics/test_virtual.py \
	tests/test_moments.py tests/test_measure.py

MINUTES ?= 2
# The newest interpreter that is installed, and an environment of it without constraints.
NEWEST ?= $(shell .ci/newest-python)
NEW := .venv-newest/bin

.PHONY: demo test test-benchmarks test-newest quick slow fuzz mutations lint bench clean

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

fuzz: $(INSTALLED)
	PYTHONPATH=. MINUTES=$(MINUTES) $(BIN)/python tests/fuzz

mutations: $(INSTALLED)
	$(BIN)/python tests/mutations

test-newest: .venv-newest
	$(NEW)/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[data,dev]'
	$(NEW)/mypy --python-version $$($(NEW)/python -c 'import sys; print("3.%d" % sys.version_info[1])')
	MALLOC_ARENA_MAX=2 $(NEW)/python -m pytest -n 2 --dist loadfile -m "not benchmark"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[data,dev]'
	touch $@

.venv-newest:
	$(NEWEST) -m venv $@

clean:
	rm -rf .venv .venv-newest .mypy_cache .pytest_cache .ruff_cache .hypothesis .mutations.json
