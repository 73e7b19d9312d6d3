# Two commands do everything on a machine with Python and make: `make demo` and `make test`.
# `make test` leaves to others what takes long: `make test-runs` tests training, optimisers and
# experiments, `make test-derivatives` those of every metric, `make test-devices` uses meshes and
# several processes and lowers for accelerators, `make test-models` measures published models,
# `make test-benchmarks` runs the benchmarks at tiny sizes, `make test-docs` runs the documentation
# and opens it in Chromium, `make test-wheel` installs the wheel into an empty environment, and
# `make fuzz` tries random inputs for $(MINUTES) minutes. `.ci/run` runs all of these.
# Beside them, `make docs` builds the documentation, `make notebooks` executes the notebooks again,
# `make quick` tests the core in a minute, `make slow` tests it compiled with all of XLA's
# optimisations, `make mutations` breaks the code in many places and looks for a failing test,
# `make test-newest` runs the type checker and all tests on the newest releases, and `make test-matrix`
# the core tests on the oldest and the newest ones with every Python that is installed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
MODELS := .venv/.models
DOCS := .venv/.docs
# What sets formulas, from the npm registry: the built site loads nothing from elsewhere.
KATEX := 0.19.1
MINUTES ?= 2
# The newest interpreter that is installed, and an environment of it without constraints.
NEWEST ?= $(shell .ci/newest-python)
NEW := .venv-newest/bin
# A file is one worker's: it compiles what its tests share once.
PARALLEL := -n 2 --dist loadfile
PYTEST := MALLOC_ARENA_MAX=2 $(BIN)/python -m pytest $(PARALLEL)
CORE := tests/taps tests/metrics tests/test_moments.py tests/test_gradients.py \
	tests/test_jacobian_probes.py tests/test_measure.py tests/test_measure_options.py
QUICK := tests/taps tests/metrics/test_linearity.py tests/metrics/test_virtual.py \
	tests/test_moments.py tests/test_measure.py

.PHONY: demo test test-runs test-derivatives test-devices test-models test-benchmarks test-docs test-wheel \
	test-newest test-matrix quick slow fuzz mutations lint bench docs notebooks clean

demo: $(INSTALLED)
	$(BIN)/python -m experiments run fig04 --preset default

test: $(INSTALLED)
	$(PYTEST) --dist worksteal -m "not runs and not derivatives and not devices and not models and not benchmark and not docs and not site and not wheel"

test-runs: $(INSTALLED)
	$(PYTEST) -m "runs and not devices"

test-derivatives: $(INSTALLED)
	$(PYTEST) --dist worksteal -m derivatives

test-devices: $(INSTALLED)
	$(PYTEST) -m devices

test-models: $(MODELS)
	GRAMLIN_TEST_MODELS=1 $(PYTEST) --dist loadgroup -m models tests/published

test-benchmarks: $(INSTALLED)
	$(PYTEST) --dist load -m benchmark

test-wheel: $(INSTALLED)
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

test-matrix:
	.ci/test-matrix

test-newest: .venv-newest
	$(NEW)/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[all,dev]'
	$(NEW)/mypy --python-version $$($(NEW)/python -c 'import sys; print("3.%d" % sys.version_info[1])')
	MALLOC_ARENA_MAX=2 $(NEW)/python -m pytest $(PARALLEL) -m "not models and not benchmark and not site and not wheel"

quick: $(INSTALLED)
	$(PYTEST) -m "not long and not devices" $(QUICK)

slow: $(INSTALLED)
	GRAMLIN_TEST_OPTIMIZED=1 $(PYTEST) $(CORE)

fuzz: $(INSTALLED)
	PYTHONPATH=. MINUTES=$(MINUTES) $(BIN)/python tests/fuzz

mutations: $(INSTALLED)
	$(BIN)/python tests/mutations

docs: $(DOCS) build/theme/katex
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo build/site/index.html

test-docs: docs
	$(PYTEST) -m "docs or site"

notebooks: $(INSTALLED)
	$(BIN)/python tests/executing.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

$(MODELS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[models,equivalence]'
	touch $@

$(DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

build/theme/katex: Makefile
	mkdir -p build/theme
	cd build && npm pack --silent katex@$(KATEX) && tar -xzf katex-$(KATEX).tgz
	rm -rf $@ && mv build/package/dist $@ && rm -r build/package
	touch $@

.venv-newest:
	$(NEWEST) -m venv $@

clean:
	rm -rf .venv .venv-newest .venv-matrix .mypy_cache .pytest_cache .ruff_cache .hypothesis .mutations.json
