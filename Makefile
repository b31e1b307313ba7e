# Needs Python >= 3.11 and make; everything else goes into .venv.
# Another interpreter: make test PYTHON=/path/to/python

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Made last, so that an interrupted installation is done again.
STAMP := $(VENV)/.installed
# What tests need besides is several times as large.
TOOLS := $(VENV)/.tools
# Processes of `make test` and `make soak`, at most one a core. Each takes up to 1 GiB.
WORKERS ?= 4
PYTHON ?=
CANDIDATES := $(PYTHON) python3.13 python3.12 python3.11 python3

.PHONY: help venv demo test services lint format bench soak clean

help: ## List the targets
	@sed -n 's/^\([a-z][a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '  %-8s %s\n' "$$target" "$$text"; \
	done

venv: $(TOOLS) ## Create .venv with everything the other targets need

demo: $(STAMP) ## Run the quickstart recipe
	@$(BIN)/ledger run recipes/quickstart.toml
	@echo 'To have the command `ledger` in this shell: export PATH="$$PWD/$(BIN):$$PATH"'

test: lint ## Lint, check types and layers, then run all tests but soak
	@$(BIN)/python -m pytest -n auto --maxprocesses $(WORKERS) --dist worksteal

services: $(TOOLS) ## Start real servers (SERVERS: only these), run the tests of stores on them
	@$(BIN)/python -m tests.services $(SERVERS)

lint: $(TOOLS) ## Check style, types and import layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(TOOLS) ## Format the code and sort the imports
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(TOOLS) ## Run the benchmarks
	@$(BIN)/python -m tests.benchmarks

soak: $(TOOLS) ## Run the long tests
	@$(BIN)/python -m pytest -m soak -n auto --maxprocesses $(WORKERS) --dist worksteal

clean: ## Remove .venv, caches and builds
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	python=; novenv=; \
	for candidate in $(CANDIDATES); do \
		"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
		novenv=$${novenv:-$$candidate}; \
	done; \
	if [ -z "$(PYTHON)" ] && $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "Updating $(VENV) ..."; \
	elif [ -n "$$python" ]; then \
		echo "Installing into $(VENV) with $$("$$python" --version) (only once, a minute or two) ..."; \
		"$$python" -m venv --clear $(VENV); \
	elif [ -n "$$novenv" ]; then \
		echo "error: $$novenv has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; \
	else \
		echo "error: Python 3.11 or newer is needed; none of these is: $(strip $(CANDIDATES))" >&2; exit 1; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[render]'; \
	touch $@

$(TOOLS): $(STAMP)
	@echo 'Adding what the tests need (only once, some minutes) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,render]'
	@touch $@
