# Everything one does with a checkout. `make demo` and `make test` set themselves up.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Of tests, side by side. One thread each, as on the box: several would wait for each other.
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: image wheelhouse wheel stick sbom audit dashboards install demo test lint bench soak servers lock clean help

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## Make .venv from the lock

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Forewarn needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: install  ## Four simulated machines over real protocols, one going wrong
	$(BIN)/forewarn demo

servers:  # The real servers that tests talk to; only root on Debian can have them installed
	@bash tests/install_servers.sh

test: install servers  ## Prove that it works
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

lint: install  ## ruff, mypy strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install  ## What each stage costs on this machine
	$(BIN)/forewarn bench

soak: install servers  ## The long loops: hours
	$(BIN)/python -m pytest -m soak

lock:  ## Resolve the dependencies anew
	uv pip compile --universal --generate-hashes --all-extras --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links --upgrade pyproject.toml -o requirements.lock

# Of which image, and of what machine: `make stick MACHINE=aarch64` on a PC serves an ARM box. Up to
# glibc 2.36 and with Python 3.11, which Debian 12 and the image's base have.
TARGET ?= gateway
MACHINE ?= $(shell uname -m)
WHEELS := docker/wheelhouse
STICK := dist/stick
DOWNLOAD = $(BIN)/python -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
  --implementation cp --python-version 3.11 --platform manylinux2014_$(MACHINE) \
  $(foreach minor,$(shell seq 17 36),--platform manylinux_2_$(minor)_$(MACHINE))

wheelhouse: install  ## Wheels of an image, for building it without Internet
	rm -rf $(WHEELS)
	$(DOWNLOAD) -r docker/$(TARGET).lock -d $(WHEELS)
	$(DOWNLOAD) -r docker/build.lock -d $(WHEELS)

wheel: install  ## Forewarn itself as a wheel, in dist
	rm -f dist/forewarn-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

stick: wheel  ## All that a box without Internet needs to install Forewarn, in dist/stick
	rm -rf $(STICK)
	$(DOWNLOAD) -r docker/$(TARGET).lock -d $(STICK)/wheels
	cp dist/forewarn-*.whl docker/systemd/* $(STICK)
	cp docker/$(TARGET).lock $(STICK)/forewarn.lock

image:  ## The gateway's image, by the Docker that is there
	docker build -f docker/Dockerfile --target gateway -t forewarn:0.1.0 .

sbom: install  ## What each image holds, as CycloneDX, beside its lock
	for lock in docker/gateway*.lock; do \
	  $(BIN)/python docker/sbom.py $$lock > $${lock%.lock}.cdx.json; done

audit:  ## Known holes in every locked version; what cannot be looked up is a failure
	test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && \
	  build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	for lock in requirements.lock docker/*.lock; do \
	  build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock; done

dashboards: install  ## Grafana's dashboards and the images' locks, anew
	$(BIN)/python docker/locks.py
	$(BIN)/python docker/grafana/build.py

clean:  ## Remove what make made
	rm -rf $(VENV) build dist out docker/wheelhouse docker/*.cdx.json .mypy_cache .pytest_cache .ruff_cache .hypothesis
