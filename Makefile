PYTHON ?= python3
PODMAN ?= podman
VENV = .venv

check: $(VENV)/done # what CI runs
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy krm_sops bench
	$(VENV)/bin/pytest --numprocesses auto

fix: $(VENV)/done
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

test: $(VENV)/done # without other programs
	$(VENV)/bin/pytest --ignore tests/interop --ignore tests/e2e

interop: $(VENV)/done # against real sops, age, gpg, Vault; moto and fakes of clouds
	KRM_SOPS_INTEROP_DOCUMENTS=6000 $(VENV)/bin/pytest tests/interop

e2e: $(VENV)/done # under kpt and kustomize, installed, as an image
	$(VENV)/bin/pytest tests/e2e

image:
	$(PODMAN) build --tag krm-sops $(IMAGE_FLAGS) .

bench: # of what pip installs: an editable start is slower
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/pip install --quiet .
	.venv-bench/bin/python -m bench .venv-bench
	.venv-bench/bin/python -m bench.services .venv-bench/bin/krm-sops
	.venv-bench/bin/python -m bench.stages .venv-bench/bin/krm-sops

fuzz: # each part for a minute, or FUZZ='TARGET... --seconds N' (docs/fuzzing.md)
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/pip install --quiet --editable '.[test,fuzz]'
	.venv-fuzz/bin/python -m fuzz $(FUZZ)

$(VENV)/done: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[dev]'
	touch $@

.PHONY: check fix test interop e2e image bench fuzz
