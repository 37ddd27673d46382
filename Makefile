# `make help` lists the targets. Each sets up what it needs; nothing outside this folder is touched.

PYTHON ?= python3
PORT := 5000
BIN := .venv/bin
# The stages, which dvc starts as `python`, need this; the recipes below do not: make 3.81, macOS's
# own, looks commands up on the PATH that it was started with.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# dvc asks for a home and a name, matplotlib for a folder of its own; a service may have no home, a
# container's user (docker run --user 1000) not even a name.
export MPLCONFIGDIR ?= $(CURDIR)/.cache/matplotlib
ifndef LOGNAME
export LOGNAME := $(firstword $(USER) $(shell id -un 2>/dev/null) $(shell id -u))
endif
ifneq ($(shell $(PYTHON) -c 'import os; print(os.path.isdir(os.path.expanduser("~")))'),True)
export HOME := $(CURDIR)/.cache/home
endif
# pip's own progress bars, where somebody watches.
PIP = $(BIN)/python -m pip install --disable-pip-version-check $(if $(MAKE_TERMOUT),,--quiet)
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --no-header --no-annotate \
  --no-emit-index-url
# What one compares between experiments, out of some hundred figures.
SHOWN := ^(Experiment|noise_schedule|blur_threshold|train\.epochs|val_loss|fid
SHOWN := $(SHOWN)|random_feature_distance|face_rate\.generated|(params\.yaml:)?infer_steps)$$

.DEFAULT_GOAL := help
.PHONY: help repro update report experiments history ui site test torture check format lock gpu clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

repro: .venv/installed .git ## from an empty folder to a scored model (dvc repro)
	$(BIN)/dvc repro
	@$(BIN)/pttfaces report
	@echo
	@echo "Look at   metrics/pictures/samples.png   the pictures that the model makes"
	@echo "Read      report.html                    funnel, curves, samples and scores on one page"
	@echo "Browse    make ui                        the history of runs in the MLflow UI"

update: .venv/installed ## ask again for what is new or has failed, then bring all up to date
	$(BIN)/dvc repro --force download
	$(BIN)/dvc repro

report: .venv/installed ## one page with funnel, curves, samples and the scores of all experiments
	@$(BIN)/pttfaces report

experiments: .venv/installed ## all experiments side by side, in a few columns (dvc exp show)
	@$(BIN)/dvc exp show --md --drop '.*' --keep '$(SHOWN)'

history: .venv/installed ## all runs; pttfaces history NAME leads from one to its data and model
	@$(BIN)/pttfaces history

ui: .venv/installed ## the history of runs in the MLflow UI, on this machine only
	@case "$$MLFLOW_TRACKING_URI" in \
	  http://*|https://*) echo "The history is on the server that MLFLOW_TRACKING_URI names: open that"; exit;; \
	esac; \
	$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT))).close()' 2>&- || \
	  { echo "Port $(PORT) is taken by another program; name one: make ui PORT=5001"; exit 2; }; \
	echo "Open http://127.0.0.1:$(PORT)/#/experiments/1/runs?workflowType=machine_learning"; \
	$(BIN)/mlflow ui --host 127.0.0.1 --port $(PORT) \
	  --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

site: .venv/installed ## the embedded board, for a look in a browser
	$(BIN)/pttfaces site

test: .venv/installed-dev ## the tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

torture: .venv/installed-dev ## 60 lines, each disturbed five times at random moments: hours
	PYTHONPATH=src:tests $(BIN)/python -m torture.campaign --lines 60 --disturbances 5

check: .venv/installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src/pttfaces $(wildcard src/*.py benchmarks/*.py)

format: .venv/installed-dev ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/installed ## resolve pyproject.toml into the three requirements*.lock anew
	$(PIP) uv
	$(LOCK) -o requirements.lock pyproject.toml
	$(LOCK) -o requirements-dev.lock -c requirements.lock --group dev pyproject.toml
	$(LOCK) -o requirements-gpu.lock -c requirements.lock --group gpu

gpu: .venv/installed ## what only a machine with an NVIDIA GPU has a use for
	$(PIP) -r requirements-gpu.lock

clean: ## remove the virtual environment and tools' caches; data, models and history stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	@echo "Installing $$(grep -c == requirements.lock) packages into .venv: some 3 GB to fetch," \
	  "about 3 minutes on a fast network. This happens once."
	$(PIP) -r requirements.lock
	$(PIP) --constraint requirements.lock --editable .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	@touch $@

# DVC keeps experiments as git commits; a downloaded archive of the project has no repository.
.git:
	git init --quiet && git add --all && \
	  git -c user.name=pttfaces -c user.email=pttfaces@localhost commit -q -m "As downloaded"
