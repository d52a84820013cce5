# For a newcomer: `make demo`, `make cluster` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ADDRESS ?= .demo-address

.PHONY: demo run cluster example test lint dashboards prove prove-short bench bench-cluster bench-peers clean

demo: $(VENV)/.base
	exec $(BIN)/gateway demo --address-file $(ADDRESS) $(DEMO)

run: $(VENV)/.base
	exec $(BIN)/gateway run $(RUN)

# Kafka, two gateway workers and two stream workers on this machine, with the demo's traffic.
cluster: $(VENV)/.cluster cluster-packages
	exec $(BIN)/python deploy/cluster.py $(CLUSTER)

# What a right answer costs by several strategies, on two tiny models that run here.
example: $(VENV)/.base
	exec $(BIN)/python -m examples.strategies.run $(EXAMPLE)

test: $(VENV)/.dev test-packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST)

# The long proofs: kills, disconnects, fuzz, the denoiser's judge, a real model server, benches against peers.
prove: $(VENV)/.dev $(VENV)/.profiler prove-packages bench-peers
	$(BIN)/python tests/prove/kill.py
	$(BIN)/python tests/prove/disconnect.py
	$(BIN)/python tests/prove/fuzz.py --seconds 120
	$(BIN)/python tests/prove/denoise.py
	$(BIN)/python tests/prove/flops.py
	$(BIN)/python tests/prove/shapes.py
	$(BIN)/python tests/prove/measure.py
	$(BIN)/python tests/prove/probe.py
	$(BIN)/python tests/prove/cluster.py
	$(BIN)/python tests/prove/image.py
	TRUECLOCK_THOROUGH=1 $(BIN)/pytest -n 2 --dist loadfile
	$(BIN)/python tests/bench/gateway/start_memory.py
	$(BIN)/python tests/bench/stream/bench.py
	$(BIN)/python tests/bench/profiler/bench.py
	$(BIN)/python tests/bench/page/bench.py
	$(BIN)/python tests/bench/gateway/bench.py
	$(BIN)/python tests/bench/cluster/bench.py

prove-short: $(VENV)/.dev $(VENV)/.profiler bench-packages
	$(BIN)/python tests/prove/kill.py --short
	$(BIN)/python tests/prove/disconnect.py --short
	$(BIN)/python tests/prove/fuzz.py --short
	$(BIN)/python tests/prove/denoise.py --short
	$(BIN)/python tests/prove/flops.py --short
	$(BIN)/python tests/prove/shapes.py --short
	$(BIN)/python tests/prove/measure.py --short
	$(BIN)/python tests/prove/probe.py --short
	$(BIN)/python tests/prove/cluster.py --short
	$(BIN)/python tests/bench/gateway/start_memory.py --short
	$(BIN)/python tests/bench/stream/bench.py --short
	$(BIN)/python tests/bench/profiler/bench.py --short
	$(BIN)/python tests/bench/page/bench.py --short
	$(BIN)/python tests/bench/gateway/bench.py --short
	$(BIN)/python tests/bench/cluster/bench.py --short

bench: $(VENV)/.dev bench-packages bench-peers
	$(BIN)/python tests/bench/gateway/bench.py

bench-cluster: $(VENV)/.dev bench-packages bench-peers
	$(BIN)/python tests/bench/cluster/bench.py

bench-peers: tests/bench/gateway/build/litellm/.made tests/bench/cluster/build/quixstreams/.made

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trueclock needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# Editable, so that a change is seen at once; the stamp follows the dependencies.
$(VENV)/.base: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.cluster: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[cluster]'
	touch $(VENV)/.base $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,litellm,cluster,report]'
	touch $(VENV)/.base $(VENV)/.cluster $@

# torch and transformers, for the proofs with a real model server. `make test` never installs them.
$(VENV)/.profiler: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[profiler]'
	touch $@

tests/bench/gateway/build/litellm/.made:
	$(PYTHON) -m venv tests/bench/gateway/build/litellm
	tests/bench/gateway/build/litellm/bin/python -m pip install --quiet 'litellm[proxy]==1.106.2'
	touch $@

SYSTEMD := systemd-analyze=systemd nsenter=util-linux
KAFKA := java=default-jre-headless mvn=maven

tests/bench/cluster/build/quixstreams/.made:
	$(PYTHON) -m venv tests/bench/cluster/build/quixstreams
	tests/bench/cluster/build/quixstreams/bin/python -m pip install --quiet 'quixstreams==3.28.1' msgspec
	touch $@

.PHONY: cluster-packages test-packages bench-packages prove-packages
cluster-packages:
	@tests/install-debian-packages $(KAFKA)
test-packages:
	@tests/install-debian-packages curl=curl chromium=chromium gcc=gcc nginx=nginx-light openssl=openssl prometheus=prometheus $(SYSTEMD) $(KAFKA)
bench-packages:
	@tests/install-debian-packages curl=curl chromium=chromium g++=g++ nginx=nginx-light go=golang-go ss=iproute2 wrk=wrk $(KAFKA)
prove-packages: bench-packages
	@tests/install-debian-packages buildah=buildah mmdebstrap=mmdebstrap

# What lies in grafana/dashboards and grafana/rules is written by this, and compared by the tests.
dashboards: $(VENV)/.dev
	$(BIN)/python -m grafana.generate $(DASHBOARDS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build/example tests/bench/gateway/build tests/bench/cluster/build deploy/.kafka deploy/.cluster .pytest_cache .mypy_cache .ruff_cache
