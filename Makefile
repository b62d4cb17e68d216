PYTHON ?= python3
BIN := .venv/bin

# What the demo practises: enough for a gain that its interval sets apart from none. The adapter of the
# top third alone is changed: a quarter less work.
DEMO := --iterations 5 --ppo.layers 0.34

.DEFAULT_GOAL := help
.PHONY: help chat demo proof starters studies matrix coverage games reference models test test-long lint type bench bench-growth bench-peers clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

chat: .venv/.run  ## talk to a trained agent that comes with the package
	$(BIN)/rlchat chat starter

# Warm-started already, so that all of its time is practice.
demo: .venv/.run  ## let an agent practise for some minutes, and show what it learned
	$(BIN)/rlchat train --policy starter:warm-start --run runs/demo $(DEMO) \
		$(if $(wildcard runs/demo/config.json),--resume)

proof: .venv/.stamp  ## run the learning benchmark on held-out users, with intervals
	$(BIN)/python benchmarks/proof.py

studies: .venv/.stamp  ## train and test in every world, over families of users, with and without look-ups
	for study in worlds families facts; do $(BIN)/python benchmarks/worlds.py $$study || exit; done

matrix: .venv/.stamp  ## measure all agents in all scenarios with all users, and write docs/start/results.md
	$(BIN)/python benchmarks/matrix.py

coverage: .venv/.stamp  ## simulate how often intervals hold and alarms ring, and write that into docs/method
	$(BIN)/python benchmarks/interval_coverage.py
	$(BIN)/python benchmarks/sweep_coverage.py
	$(BIN)/python benchmarks/alarm_rates.py

games: .venv/.stamp  ## install games and exercises of others, whose tests are skipped without them
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[exercises,games]'

reference: .venv/.stamp  ## write docs/reference anew from the docstrings of the public API
	$(BIN)/python scripts/reference.py

models: .venv/.stamp  ## try every kind of model that transformers has, and write docs/method/models.md anew
	mkdir -p runs && rm -f runs/models.jsonl
	RLCHAT_MODELS=$(CURDIR)/runs/models.jsonl $(BIN)/pytest -q -n auto --dist worksteal \
		tests/rlchat/models/test_architectures.py -k any_kind
	$(BIN)/python scripts/models.py runs/models.jsonl

test: .venv/.stamp  ## run the tests, as many at a time as there are cores
	$(BIN)/pytest -n auto --dist worksteal -m "not long"

test-long: .venv/.stamp  ## run the proofs of learning and the marathons that `make test` leaves out
	$(BIN)/pytest -n auto --dist worksteal -m long

lint: .venv/.stamp  ## check style and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: .venv/.stamp  ## check types
	$(BIN)/mypy

bench: .venv/.stamp  ## time rollouts and updates against the usual way, the machine's limit and earlier runs
	$(BIN)/python benchmarks/speed/speed.py

bench-growth: .venv/.stamp  ## time a turn as turns, episodes and the model grow
	$(BIN)/python benchmarks/speed/speed.py --parts growth

bench-peers: .venv/.stamp  ## time whole iterations beside other trainers, in environments of their own
	$(BIN)/python benchmarks/peers.py

clean:  ## remove the environment, builds and caches; runs/ stays
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

starters: .venv/.stamp  ## train the agents that come with the package anew, and compare
	$(BIN)/python benchmarks/starters.py

# Stamps are touched last, so that an interrupted install is done again. What it takes to run is
# there sooner than what it takes to develop: Python compiles the modules that are used as they are.
.venv/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e .
	touch $@

.venv/.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,inspect,llm,people,scorers,serve,track,turtle]'
	touch $@
