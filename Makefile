# make help lists the targets. Everything is kept in .venv/ and .squadron/, below this folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export AIRFLOW__CORE__DAGS_FOLDER = $(CURDIR)/dags
export AIRFLOW__CORE__PLUGINS_FOLDER = $(CURDIR)/plugins
export AIRFLOW__CORE__LOAD_EXAMPLES = False
PORT ?= 8080
# Set, as in many containers, it would have each process compile anew whatever it imports, which doubles its start.
unexport PYTHONDONTWRITEBYTECODE

# What is given on the command line reaches the programs by the environment, as it is: neither make nor a shell reads it.
GIVEN := SOURCE LIMIT COLLECTION EMBEDDING STORE SET Q
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)
# What it means as settings: make ingest SOURCE=path.parquet LIMIT=500
settings = $${SOURCE:+--set source.name=files --set "source.path=$$SOURCE"} \
	$${LIMIT:+--set "source.limit=$$LIMIT"} \
	$${COLLECTION:+--set "collection=$$COLLECTION"} \
	$${EMBEDDING:+--set "embedding.service=$$EMBEDDING"} \
	$${STORE:+--set "store.name=$${STORE%-local}"} $(local_settings) \
	$${SET:+--set "$$SET"}

# STORE=pinecone-local and STORE=weaviate-local: a server of the tests' own on loopback, for the one run.
ifeq ($(STORE),pinecone-local)
local_server := $(BIN)/python -m tests.wire.pinecone_server --port 5081
local_settings := --set store.pinecone.host=http://127.0.0.1:5081
export PINECONE_API_KEY ?= local
else ifeq ($(STORE),weaviate-local)
local_server := $(BIN)/python -m tests.wire.weaviate_server --port 8081 --grpc-port 50052
local_settings := --set store.weaviate.uri=http://127.0.0.1:8081 --set store.weaviate.grpc_port=50052
endif

.DEFAULT_GOAL := help
.PHONY: help install ingest search airflow test test-rest test-all lint docs lock audit clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo
	@echo "make ingest and make search take SOURCE=path LIMIT=n COLLECTION=name EMBEDDING=service STORE=name[-local]"
	@echo "and SET='key=value key=value ...': a value ends where the name of the next setting begins, and may have spaces;"
	@echo "a list is a,b or [\"a\",\"b\"]. Quote for your shell as usual; make passes all of it on as it is."

install: $(INSTALLED) ## Create the virtual environment with everything in requirements.txt

ingest: $(INSTALLED) ## Run the DAG once in this process: SQuAD (or SOURCE=...) into the vector store
	@mkdir -p .squadron
	@$(if $(local_server),$(local_server) > .squadron/local_store.log & trap "kill $$!" EXIT;) $(BIN)/python dags $(settings)

search: $(INSTALLED) ## Ask the live generation: make search Q="your question"
	@$(BIN)/python -m squadron search $(settings) -- "$$Q"

airflow: export AIRFLOW_HOME ?= $(CURDIR)/.squadron/airflow
airflow: $(INSTALLED) ## Start a local Airflow with its UI and the DAG; Ctrl-C stops it (PORT=8080)
	@PATH="$(CURDIR)/$(BIN):$$PATH" BIN=$(BIN) PORT=$(PORT) sh .ci/airflow # it starts its parts by name

test: $(INSTALLED) ## Run the tests that take five minutes together on two cores
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-rest: $(INSTALLED) ## Run the tests that make test leaves out
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

test-all: $(INSTALLED) ## Run all tests
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(INSTALLED) ## Check style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo

docs: $(INSTALLED) ## Write the pages of docs/ that come from the code
	@$(BIN)/python docs

lock: $(INSTALLED) ## Make requirements.txt anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --extra airflow --extra dev pyproject.toml \
		--no-header --output-file requirements.txt $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))
	@sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/; /^--find-links/d' requirements.txt

audit: $(INSTALLED) ## Look requirements.txt up among known vulnerabilities (asks PyPI, or OSV)
	@$(BIN)/uv pip check --python $(BIN)/python
	@BIN=$(BIN) sh .ci/audit

clean: ## Remove the virtual environment; indexes and runs in .squadron/ stay
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Squadron needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Say: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "The venv module is missing: apt-get install python3-venv"; exit 1; }
	@echo "Installing requirements.txt into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.txt)"
	@# uv takes seconds where pip takes minutes; where uv cannot reach an index that pip is set up for, pip does it.
	@UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip install --quiet --python $(BIN)/python --requirement requirements.txt || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
