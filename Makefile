# `make help` lists the targets. Each installs what it needs; nothing outside this folder is touched.

PYTHON ?= python3
PORT := 5000
BIN := .venv/bin
# DVC starts the stages as `python`, which has to be the environment's. The recipes below name their
# programs in full, since macOS's make 3.81 ignores this PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# DVC needs a home directory and a user name, matplotlib a writable folder. A service may lack the
# home, a container's user (docker run --user 1000) also the name.
export MPLCONFIGDIR ?= $(CURDIR)/.cache/matplotlib
ifndef LOGNAME
export LOGNAME := $(firstword $(USER) $(shell id -un 2>/dev/null) $(shell id -u))
endif
ifneq ($(shell $(PYTHON) -c 'import os; print(os.path.isdir(os.path.expanduser("~")))'),True)
export HOME := $(CURDIR)/.cache/home
endif
# With pip's progress bars in a terminal only.
PIP = $(BIN)/python -m pip install --disable-pip-version-check $(if $(MAKE_TERMOUT),,--quiet)
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --no-header --no-annotate \
  --no-emit-index-url
PYTEST = $(BIN)/python -m pytest --dist loadgroup --no-loadscope-reorder
# The columns of `make experiments`, out of about a hundred.
SHOWN := ^(Experiment|noise_schedule|blur_threshold|train\.epochs|val_loss|fid
SHOWN := $(SHOWN)|random_feature_distance|face_rate\.generated|(params\.yaml:)?infer_steps)$$

.DEFAULT_GOAL := help
.PHONY: help repro update report experiments history ui site test test-unit torture check format docs lock gpu heic cluster clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

repro: .venv/installed .git ## install everything and run the pipeline (dvc repro)
	$(BIN)/dvc repro
	@$(BIN)/pttfaces report
	@echo
	@echo "Look at   metrics/pictures/samples.png   samples of the model"
	@echo "Read      report.html                    data, curves, samples and scores on one page"
	@echo "Browse    make ui                        all runs in the MLflow UI"

update: .venv/installed ## retry failed links, look for new articles, then run what has changed
	$(BIN)/dvc repro --force download
	$(BIN)/dvc repro

report: .venv/installed ## write report.html: data, curves, samples and the scores of all experiments
	@$(BIN)/pttfaces report

experiments: .venv/installed ## compare all experiments in a few columns (dvc exp show)
	@$(BIN)/dvc exp show --md --drop '.*' --keep '$(SHOWN)'

history: .venv/installed ## list all runs; `pttfaces history NAME` shows one with its data and model
	@$(BIN)/pttfaces history

ui: .venv/installed ## start the MLflow UI on this machine (PORT=5000)
	@$(BIN)/pttfaces ui --port $(PORT)

site: .venv/installed ## serve the embedded board for a browser
	$(BIN)/pttfaces site

test: .venv/installed-dev ## run all tests, in four processes
	$(PYTEST) -n 4

test-unit: .venv/installed-dev ## run the fast tests, those of single modules
	$(PYTEST) -n 2 tests/unit

torture: .venv/installed-dev ## disturb 60 small pipelines five times each at random moments (hours)
	PYTHONPATH=src:tests:tests/support $(BIN)/python -m torture.campaign --lines 60 --disturbances 5

check: .venv/installed-dev ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src/pttfaces $(wildcard src/*.py benchmarks/*.py) tests

format: .venv/installed-dev ## fix and format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed ## write the table of docs/parameters.md from config.py
	$(BIN)/python -m pttfaces.config >docs/table.tmp
	awk 'FNR == NR { table = table $$0 "\n"; next } /^<!-- end of/ { inside = 0 } !inside; \
	  /^<!-- begin of/ { printf "%s", table; inside = 1 }' docs/table.tmp docs/parameters.md \
	  >docs/page.tmp
	mv docs/page.tmp docs/parameters.md
	rm docs/table.tmp

lock: .venv/installed ## resolve pyproject.toml into requirements*.lock
	$(PIP) uv
	$(LOCK) -o requirements.lock pyproject.toml
	$(LOCK) -o requirements-dev.lock -c requirements.lock --group dev pyproject.toml
	$(LOCK) -o requirements-gpu.lock -c requirements.lock --group gpu
	$(LOCK) -o requirements-heic.lock -c requirements.lock --group heic
	$(LOCK) -o requirements-cluster.lock -c requirements.lock --group cluster

gpu: .venv/installed ## install what only a machine with an NVIDIA GPU needs
	$(PIP) -r requirements-gpu.lock

heic: .venv/installed ## install what only photographs in HEIC need
	$(PIP) -r requirements-heic.lock

cluster: .venv/installed ## install what only a Ray cluster needs
	$(PIP) -r requirements-cluster.lock

clean: ## remove the environment and the tools' caches; keep data, models and runs
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "PTT Faces needs Python 3.11 to 3.13; choose one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	@echo "Installing $$(grep -c == requirements.lock) packages into .venv: about 3 GB to download," \
	  "2 to 5 minutes on a fast network. This happens once."
	$(PIP) -r requirements.lock
	$(PIP) --constraint requirements.lock --editable .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	@touch $@

# DVC stores experiments as git commits, and a downloaded archive has no repository. Inside another
# repository, that one serves.
.PHONY: .git
.git:
	@git rev-parse --is-inside-work-tree >/dev/null 2>&1 || { \
	  git init --quiet && git add --all && \
	  git -c user.name=pttfaces -c user.email=pttfaces@localhost commit -q -m "As downloaded"; }
