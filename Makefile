# Everything a newcomer needs: `make run` and `make test`.
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := core state_repos policies hooks reconcilers gateway mcp sandbox_images cli

.PHONY: help run test test-platforms test-parts lint format bench docs lock clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

$(VENV)/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "UHLP needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	@echo "Installing into $(VENV) (once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock 2>&1 | grep -v '^WARNING: Location' || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable . 2>&1 | grep -v '^WARNING: Location' || true
	@$(BIN)/uhlp --version && touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	@echo "Installing what tests and checks need (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock 2>&1 | grep -v '^WARNING: Location' || true
	@$(BIN)/pytest --version && touch $@

run: $(VENV)/installed  ## install, then run the whole platform with example apps; Ctrl-C stops it
	@$(BIN)/uhlp up

test: $(VENV)/installed-dev  ## run every test
ifdef TESTS
	@$(BIN)/pytest $(TESTS)
else
	@echo "Two halves of the tests run side by side, for some minutes."
	@$(MAKE) --no-print-directory --jobs=2 test-platforms test-parts
endif

# About as long as each other. Every line says which half it is of.
test-platforms: $(VENV)/installed-dev
	@set -o pipefail; $(BIN)/pytest tests/e2e 2>&1 | sed --unbuffered 's/^/platforms │ /'

test-parts: $(VENV)/installed-dev
	@set -o pipefail; $(BIN)/pytest tests --ignore=tests/e2e 2>&1 | sed --unbuffered 's/^/parts     │ /'

lint: $(VENV)/installed-dev  ## format, lint, types, and who may import whom
	@$(BIN)/ruff format --check --quiet $(SOURCES) tests benchmarks || (echo "run: make format"; exit 1)
	@$(BIN)/ruff check --quiet $(SOURCES) tests benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

format: $(VENV)/installed-dev  ## bring the sources into their format
	@$(BIN)/ruff format --quiet $(SOURCES) tests benchmarks
	@$(BIN)/ruff check --quiet --fix $(SOURCES) tests benchmarks

bench: $(VENV)/installed-dev  ## measure, and print one table of ratios
	@$(BIN)/python -m benchmarks

docs: $(VENV)/installed-dev  ## write the pages that are generated from the code
	@$(BIN)/python -m uhlp_cli.reference

lock: $(VENV)/installed-dev  ## pin the newest allowed versions with their hashes
	@$(BIN)/python -m pip install --quiet pip-tools
	@$(BIN)/pip-compile --quiet --upgrade --strip-extras --extra build --extra dev --generate-hashes --allow-unsafe \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements-dev.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --strip-extras --extra build --generate-hashes --allow-unsafe -c requirements-dev.lock \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements.lock pyproject.toml

clean:  ## remove the environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
