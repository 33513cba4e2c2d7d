# `make` builds a gated release, `make test` runs the tests; both set up .venv first.
PYTHON ?= python3.11
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# uv does not read pip's configuration: pass it pip's find-links, where some hosts offer a CPU build of torch.
export UV_FIND_LINKS ?= $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
UV_VERSION = $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)

.PHONY: build test lint lock clean
build: $(VENV)/.ready
	python -m stages.machine --refresh
	dvc repro
	@cat report/verdict.txt
	@embed-foundry verify release

test: $(VENV)/.ready
	pytest -n 2 --dist loadfile --ignore-glob='*/test_latency*'
	pytest tests/test_latency*  # these measure time, so they run alone

lint: $(VENV)/.ready
	ruff check . && ruff format --check . && mypy

$(VENV)/.ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet "uv==$(UV_VERSION)"
	uv pip install --quiet --compile-bytecode --requirements requirements.lock --editable '.[build,dev]'
	touch $@

lock:
	UV_FIND_LINKS= uv pip compile --quiet --upgrade --all-extras pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV)
