# Every target works on a bare Debian 12 as root, and installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/installed
# What the target `local` and the demo need on this machine itself.
ON_THIS_MACHINE := bpftrace bpftool faketime nginx-light curl iproute2 util-linux

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(STAMP) ## the command, at .venv/bin/kubectl-trace

$(STAMP): pyproject.toml requirements-dev.lock
	@hack/apt-install python3 python3-venv ca-certificates
	@python3 -m venv $(VENV)
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: venv ## the main job on this machine, with no cluster
	@hack/apt-install $(ON_THIS_MACHINE)
	@$(PYTHON) -m testbed.demo

# The cluster of the end-to-end tests: the testbed, or the user's own (testbed/README.md).
export KUBECTL_TRACE_E2E_KUBECONFIG
ifneq ($(KUBECTL_TRACE_E2E_KUBECONFIG),)
cluster: venv
else
cluster: cluster-up
endif

.PHONY: test
test: cluster ## all tests: unit, then end to end on the real cluster
	@hack/apt-install $(ON_THIS_MACHINE)
	@$(VENV)/bin/pytest tests/unit tests/e2e

.PHONY: test-unit
test-unit: venv ## seconds, no root
	@$(VENV)/bin/pytest tests/unit

.PHONY: test-e2e cluster
test-e2e: cluster ## the installed command against the real cluster
	@hack/apt-install $(ON_THIS_MACHINE)
	@$(VENV)/bin/pytest tests/e2e

.PHONY: bench
bench: venv ## what is fast and how fast; needs the cluster (benchmarks/README.md)
	@hack/apt-install bpftrace gcc libc6-dev util-linux wrk
	@$(PYTHON) -m benchmarks

.PHONY: lint
lint: venv ## ruff, mypy --strict, import contracts
	@$(VENV)/bin/ruff format --check src tests testbed benchmarks
	@$(VENV)/bin/ruff check src tests testbed benchmarks
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache

.PHONY: format
format: venv ## ruff format, and what ruff can mend
	@$(VENV)/bin/ruff format src tests testbed benchmarks
	@$(VENV)/bin/ruff check --fix src tests testbed benchmarks

.PHONY: image
image: venv ## the runner image, as an archive; its path on stdout
	@$(PYTHON) -m testbed image

.PHONY: cluster-up
cluster-up: venv ## a real two-node Kubernetes on this machine (testbed/README.md)
	@$(PYTHON) -m testbed up

.PHONY: cluster-down
cluster-down: venv ## take it away, whole
	@$(PYTHON) -m testbed down

.PHONY: cluster-status
cluster-status: venv ## its components, a line each
	@$(PYTHON) -m testbed status

.PHONY: lock
lock: venv ## pin the newest dependencies anew
	@$(PYTHON) -m pip install --quiet uv
	@for name in requirements requirements-dev; do \
	  group=; [ $$name = requirements ] || group="--group dev --extra runner"; \
	  $(VENV)/bin/uv pip compile pyproject.toml $$group --generate-hashes --universal --python-version 3.11 \
	    --no-header --no-emit-index-url --no-annotate --quiet --output-file $$name.lock; \
	done
	@$(VENV)/bin/uv pip compile deploy/requirements.in --generate-hashes --universal --python-version 3.11 \
	  --no-header --no-emit-index-url --no-annotate --quiet --output-file deploy/requirements.lock
