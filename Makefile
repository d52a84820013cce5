# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ADDRESS ?= .demo-address

.PHONY: demo run test lint prove prove-short bench bench-peers clean

demo: $(VENV)/.base
	exec $(BIN)/gateway demo --address-file $(ADDRESS) $(DEMO)

run: $(VENV)/.base
	exec $(BIN)/gateway run $(RUN)

test: $(VENV)/.dev test-packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST)

# The long proofs: kills, disconnects, fuzz, the denoiser's judge, a real model server, benches against peers.
prove: $(VENV)/.dev $(VENV)/.profiler bench-packages bench-peers
	$(BIN)/python tests/prove/kill.py
	$(BIN)/python tests/prove/disconnect.py
	$(BIN)/python tests/prove/fuzz.py --seconds 120
	$(BIN)/python tests/prove/denoise.py
	TRUECLOCK_THOROUGH=1 $(BIN)/pytest -n 2 --dist loadfile
	$(BIN)/python tests/bench/gateway/start_memory.py
	$(BIN)/python tests/bench/stream/bench.py
	$(BIN)/python tests/bench/profiler/bench.py
	$(BIN)/python tests/bench/page/bench.py
	$(BIN)/python tests/bench/gateway/bench.py

prove-short: $(VENV)/.dev $(VENV)/.profiler bench-packages
	$(BIN)/python tests/prove/kill.py --short
	$(BIN)/python tests/prove/disconnect.py --short
	$(BIN)/python tests/prove/fuzz.py --short
	$(BIN)/python tests/prove/denoise.py --short
	$(BIN)/python tests/bench/gateway/start_memory.py --short
	$(BIN)/python tests/bench/stream/bench.py --short
	$(BIN)/python tests/bench/profiler/bench.py --short
	$(BIN)/python tests/bench/page/bench.py --short
	$(BIN)/python tests/bench/gateway/bench.py --short

bench: $(VENV)/.dev bench-packages bench-peers
	$(BIN)/python tests/bench/gateway/bench.py

bench-peers: tests/bench/gateway/build/litellm/.made

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trueclock needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# Editable, so that a change is seen at once; the stamp follows the dependencies.
$(VENV)/.base: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,litellm]'
	touch $(VENV)/.base $@

# torch and transformers, for the proofs with a real model server. `make test` never installs them.
$(VENV)/.profiler: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[profiler]'
	touch $@

tests/bench/gateway/build/litellm/.made:
	$(PYTHON) -m venv tests/bench/gateway/build/litellm
	tests/bench/gateway/build/litellm/bin/python -m pip install --quiet 'litellm[proxy]==1.106.2'
	touch $@

.PHONY: test-packages bench-packages
test-packages:
	@tests/install-debian-packages curl=curl chromium=chromium
bench-packages:
	@tests/install-debian-packages curl=curl chromium=chromium nginx=nginx-light go=golang-go ss=iproute2 wrk=wrk

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) tests/bench/gateway/build .pytest_cache .mypy_cache .ruff_cache
