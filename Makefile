# The one door: `make help`. Everything lives in .venv; Python 3.11 and make are all that is assumed.

CONFIG ?= configs/simple_pendulum_rl2.yaml
ROBOT  ?= simple_pendulum
RUN    ?=
FILE   ?=
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin
DONE := $(VENV)/.done
LOCK := requirements/train.txt

# Candidates for a new .venv, each tried by running it: a name on the PATH may be a shim with nothing behind it.
PYTHON ?=
PYTHONS = $(PYTHON) python3.11 python3 python /usr/bin/python3.11 /usr/local/bin/python3.11 \
	/opt/homebrew/bin/python3.11 $(wildcard $(HOME)/.pyenv/versions/3.11.*/bin/python3.11)
# Trained in this order: the second acrobot begins with the weights of the first, which does not ship.
DOUBLE_PENDULUM := pendubot_robust pendubot_lab acrobot_lab acrobot_robust
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check train evaluate export adapt run twin report bench reproduce compare double-pendulum \
	double-pendulum-train clean

help: ## show this text
	@echo "make TARGET [CONFIG=file.yaml] [RUN=runs/name] [FILE=file.onnx] [ROBOT=name] [ARGS='--more options']"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-22s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Options and units of a command: make run ARGS=--help, or $(BIN)/acclimate run --help"

setup: $(DONE) ## create .venv with everything pinned (all other targets do this themselves)

$(DONE): pyproject.toml $(LOCK)
	@rm -f $@
	@if ! $(BIN)/python -c '$(SUITABLE)' 2>/dev/null; then \
		for candidate in $(PYTHONS); do \
			if $$candidate -c '$(SUITABLE)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "error: no Python 3.11 with venv found (PyBullet has no wheels for newer ones)."; \
			echo "  Debian, Ubuntu:  apt install python3.11 python3.11-venv"; \
			echo "  macOS:           brew install python@3.11"; \
			echo "  anywhere:        pyenv install 3.11, or uv python install 3.11"; \
			echo "  then:            make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; \
			exit 1; \
		fi; \
		echo "creating $(VENV) with $$found"; \
		$$found -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(DONE) ## meta-train, export, adapt and run a pendulum; ends with runs/demo/report.html
	$(BIN)/acclimate demo $(ARGS)

test: $(DONE) ## run the tests; ARGS="-k name"
	$(BIN)/python -m pytest $(ARGS)

check: $(DONE) ## lint, format, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

train: $(DONE) ## meta-train: CONFIG=configs/x.yaml
	$(BIN)/acclimate train $(CONFIG) $(ARGS)

evaluate: $(DONE) ## return and success against rollouts on held-out dynamics: RUN=runs/x
	$(BIN)/acclimate evaluate $(call needs,RUN,runs/x) $(ARGS)

export: $(DONE) ## write one ONNX file: RUN=runs/x
	$(BIN)/acclimate export $(call needs,RUN,runs/x) $(ARGS)

adapt: $(DONE) ## adapt a file to one robot: FILE=x.onnx
	$(BIN)/acclimate adapt $(call needs,FILE,x.onnx) $(ARGS)

run: $(DONE) ## run a file on a robot: FILE=x.onnx
	$(BIN)/acclimate run $(call needs,FILE,x.onnx) $(ARGS)

twin: $(DONE) ## play a robot on a bus: ROBOT=name
	$(BIN)/acclimate twin --robot $(ROBOT) $(ARGS)

report: $(DONE) ## draw a run as one HTML page: RUN=runs/x
	$(BIN)/acclimate report $(call needs,RUN,runs/x) $(ARGS)

bench: $(DONE) ## speed beside Stable-Baselines3, Gymnasium and bare Bullet
	$(BIN)/python -m benchmarks.run $(ARGS)

reproduce: $(DONE) ## published results beside their references; ARGS="--list", "bandits --seeds 3", "--page"
	$(BIN)/python -m benchmarks.reproduce $(ARGS)

compare: $(DONE) ## all meta-learners beside each other; writes docs/meta-learners.md; ARGS="rl2 maml --seeds 1", "--measured"
	$(BIN)/python -m benchmarks.compare $(ARGS)

double-pendulum: $(DONE) ## the double pendulum's published benchmarks and twins, with a report; some 20 minutes; ARGS="--logs FOLDER" for real logs
	$(BIN)/python -m benchmarks.double_pendulum twins
	$(BIN)/python -m benchmarks.double_pendulum page $(ARGS)

double-pendulum-train: $(DONE) ## train the files that it scores anew, from scratch: about an hour on two cores
	$(BIN)/acclimate train configs/acrobot_robust_first.yaml $(ARGS)
	set -e; for name in $(DOUBLE_PENDULUM); do \
		$(BIN)/acclimate train configs/$$name.yaml $(ARGS); \
		$(BIN)/acclimate export runs/$$name --out zoo/$$name.onnx; \
	done

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +

# The value of a variable, or an error that shows how to give it; --help needs none.
needs = $(or $($(1)),$(if $(filter --help -h,$(ARGS)),,$(error say which: make $@ $(1)=$(2))))
