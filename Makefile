# `make help` lists the targets. Each sets up what it needs; nothing outside this folder is touched.

PYTHON ?= python3
BIN := .venv/bin
# The stages, which dvc starts as `python`, need this; the recipes below do not: make 3.81, macOS's
# own, looks commands up on the PATH that it was started with.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help repro update test check format ui site lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

repro: .venv/installed .git ## from an empty folder to a scored model (dvc repro)
	@$(BIN)/python src/inputs.py
	$(BIN)/dvc repro
	@echo
	@echo "Look at   metrics/pictures/samples.png   the pictures that the model makes"
	@echo "Browse    make ui                        the history of runs"
	@echo "Compare   README.md, \"Change one number, compare\""

update: .venv/installed ## ask again for what is new or has failed, then bring all up to date
	$(BIN)/dvc repro --force download
	$(BIN)/dvc repro

test: .venv/installed ## the tests
	$(BIN)/python -m pytest

check: .venv/installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src/pttfaces $(wildcard src/*.py benchmarks/*.py)

format: .venv/installed ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: .venv/installed ## the history of runs in the MLflow UI, on this machine only
	@echo "Open http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
	$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 \
	  --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

site: .venv/installed ## the embedded board, for a look in a browser
	$(BIN)/python src/demo_site.py

lock: .venv/installed ## resolve pyproject.toml into requirements.lock anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-header --no-annotate \
	  --no-emit-index-url --group dev pyproject.toml -o requirements.lock

clean: ## remove the virtual environment and tools' caches; data, models and history stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

# DVC keeps experiments as git commits; a downloaded archive of the project has no repository.
.git:
	git init --quiet && git add --all && \
	  git -c user.name=pttfaces -c user.email=pttfaces@localhost commit -q -m "As downloaded"
