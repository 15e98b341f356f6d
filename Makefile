# Everything runs in .venv, made from requirements.lock; nothing else of the machine is used.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro up down deploy worker test pytest test-team chaos zoo check lint docs format lock benchmark clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## make .venv and install the locked packages

$(READY): requirements.lock installer.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement installer.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(READY)

repro: $(READY) ## run the stale stages, from the labelled images to a registered champion
	segpipe check
	@segpipe unlock --quiet
	dvc repro
	segpipe publish

PREFECT_PORT ?= 4200
MLFLOW_PORT ?= 5000
SERVE_PORT ?= 8000
up: $(READY) ## start Prefect, MLflow and workers on this machine (PREFECT_PORT=, MLFLOW_PORT=, GPUS=, SERVE=1, SERVE_PORT=)
	@python -m pipelines.services up --prefect-port $(PREFECT_PORT) --mlflow-port $(MLFLOW_PORT) $(GPUS:%=--gpus %) \
		$(if $(filter 1,$(SERVE)),--serve-port $(SERVE_PORT))

down: $(READY) ## stop them; a training writes its checkpoint
	@python -m pipelines.services down

deploy: $(READY) ## create pools, deployments, automations on the server in PREFECT_API_URL (NOTIFY=slack-webhook/team)
	. pipelines/login.sh && python -m pipelines.deploy $(NOTIFY:%=--notify %)

worker: $(READY) ## start a worker for the server in PREFECT_API_URL (POOL=cpu or POOL=gpu DEVICE=0)
	pipelines/worker.sh $(POOL) $(DEVICE)

test: $(READY) ## check, and run the tests, which build the documentation (without test-team, chaos and zoo)
	@$(MAKE) --no-print-directory --jobs 2 lint pytest

# After the end of a worker xdist waits for ever; so the first one that ends, or hangs, ends the run with the test's name.
WORKERS := --dist loadfile --max-worker-restart 0
pytest: $(READY)
	pytest -n 4 $(WORKERS) --no-loadscope-reorder -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

test-team: $(READY) ## test a team's set-up: PostgreSQL behind both servers, a DVC remote by ssh
	pytest -m team tests/team

chaos: $(READY) ## run the slow tests: killed workers, servers, registrations; rebuilds, fuzzed files, huge images
	pytest -m slow -n 2 $(WORKERS)

zoo: $(READY) ## test that every model can overfit four crops and export to ONNX, and that every recipe starts
	pytest -m zoo

check: lint docs ## check lint, format, types, the imports between rooms; build the documentation without a warning

lint: $(READY)
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo

docs: $(READY) ## build the documentation into build/site, to be read from files: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict  # --quiet would hide the warnings from --strict

format: $(READY) ## format the sources, update the schema of params.yaml
	ruff check --fix .
	ruff format .
	segpipe schema > params.schema.json

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"
# Without triton, 0.9 GB: torch needs it for what its compiler makes, which segpipe does not use.
lock: $(READY) ## update requirements.lock and installer.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement installer.lock
	$(COMPILE) --extra cloud --extra dev --extra openvino --extra orchestration --extra serve --no-emit-package triton \
		--output-file requirements.lock pyproject.toml
	echo "uv" | $(COMPILE) --output-file installer.lock -

benchmark: $(READY) ## measure the figures in the documents (minutes)
	python benchmarks/colour_classifier.py
	python benchmarks/training_speed.py
	python benchmarks/checkpoint_cost.py
	python benchmarks/loader.py
	python benchmarks/store_formats.py
	python benchmarks/preprocess.py growth
	python benchmarks/losses.py
	python benchmarks/border_weights.py
	python benchmarks/near_duplicates.py
	python benchmarks/split_proposal.py

clean: ## remove outs and checkpoints of the stages and clones of revisions, but neither MLflow's store nor DVC's cache
	rm -rf build checkpoints clones .cache/dataset
