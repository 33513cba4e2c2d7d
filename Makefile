# `make` builds a gated release, `make test` runs the tests; both set up .venv first.
# The first of these that runs; committed builds come from 3.11. Another: make PYTHON=/path/to/python
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13,$(shell $(name) --version >/dev/null 2>&1 && echo $(name))))
# Which build of torch comes from PyTorch's own index if pip's find-links have no CPU build, or if you set it: cpu, auto
# (what fits the GPU), cu130, …; empty: the one that your package index has.
TORCH_BACKEND ?= cpu
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# uv does not read pip's configuration: pass it pip's find-links, where some hosts offer a CPU build of torch.
export UV_FIND_LINKS ?= $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
# Torch alone comes from PyTorch's index: what else it has, such as torchao, has other hashes there than in the lock.
unexport UV_TORCH_BACKEND
UV_VERSION = $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)
TORCH = $(shell sed -n 's/.*"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)

.PHONY: build test lint lock clean
build: $(VENV)/.ready
	embed-foundry build
	@cat report/verdict.txt
	@embed-foundry verify release  # DVC compares sizes and times; this reads every byte

test: $(VENV)/.ready
	pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow and not gpu and not quiet'
	pytest -m quiet

lint: $(VENV)/.ready
	ruff check . && ruff format --check . && mypy

$(VENV)/.ready: pyproject.toml requirements.lock
	@[ -n "$(PYTHON)" ] || { echo "no Python 3.11, 3.12 or 3.13 runs here: install one, or name one by make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet "uv==$(UV_VERSION)"
	[ "$(origin TORCH_BACKEND)" = file ] && uv pip install --dry-run --no-deps "$(TORCH)" 2>&1 | grep -q '$(TORCH)+cpu' || \
		uv pip install --quiet --compile-bytecode $(addprefix --torch-backend ,$(TORCH_BACKEND)) "$(TORCH)"
	uv pip install --quiet --compile-bytecode --requirements requirements.lock --editable '.[build,dev]'
	touch $@

lock:
	UV_FIND_LINKS= uv pip compile --quiet --upgrade --python-version 3.11 --all-extras pyproject.toml -o requirements.lock
	UV_FIND_LINKS= uv pip compile --quiet --upgrade --no-deps --python-version 3.11 stages/convert/graph/optimum.in -o stages/convert/graph/optimum.lock

clean:
	rm -rf $(VENV)
