# The menu of commands; `make help` prints it. Needs Python 3.11 or newer with venv, and pip.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

SCENARIO ?= scenarios/moe_vs_dense.toml

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv dev run test check bench validate docs format clean
.DELETE_ON_ERROR:

help:  ## Print this menu
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: install Python 3.11 or newer, or run 'make PYTHON=/path/to/python ...'"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: 3.11 or newer is needed; run 'make PYTHON=/path/to/python ...'"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu run 'apt-get install python3-venv' and try again"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(VENV)/.installed $@

venv: $(VENV)/.installed  ## Make .venv with the project in it
dev: $(VENV)/.installed-dev  ## Make .venv with the project and its checks

run: $(VENV)/.installed  ## Run the main scenario (SCENARIO=... for another)
	$(BIN)/python -m sim run $(SCENARIO)

test: $(VENV)/.installed-dev  ## Lint, types, import contracts and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict sim analysis
	$(BIN)/lint-imports --no-logo
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --ignore=tests/validation --cov
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup tests/validation

check: $(VENV)/.installed-dev  ## The fast part of `make test`
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict sim analysis
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m 'not slow' -q

bench: $(VENV)/.installed-dev  ## Time the simulator (every script of bench/)
	@for script in bench/*.py; do echo "$$script"; $(BIN)/python "$$script" || exit 1; done

MEASURED ?= tests/validation/data
validate: $(VENV)/.installed  ## Predict measured tables (MEASURED=...), write docs/how_far_to_trust_it.md
	$(BIN)/python -m analysis.validate.trust $(MEASURED)

docs: $(VENV)/.installed-dev  ## Run every example of the documentation
	$(BIN)/python -m pytest -q README.md CONTRIBUTING.md docs

format: $(VENV)/.installed-dev  ## Sort imports and format the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean:  ## Remove .venv, builds and caches; results stay
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find sim analysis tests -name __pycache__ -type d -prune -exec rm -rf {} +
