# `make demo` first, `make test` second; each sets itself up in .venv.
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that runs and is of a supported version.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)

.PHONY: install demo test test-slow test-portable lint type smoke test-kills test-ranks test-slurm bench clean \
	constraints

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml .ci/constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; name it with PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/emseg demo

# Tests share two processes; WORKERS=0 for one.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --durations 20
test: install
	$(PYTEST) --dist worksteal -m "not slow"

# Runs of many processes, kills and faults, whole chains of commands. Files stay together, as their tests share runs.
test-slow: install
	$(PYTEST) --dist loadfile -m slow

# Arithmetic as processors without AVX do it: sums in another order, other kernels for other batch sizes. Tests of numbers
# and of ranks, of which slow ones too; PORTABLE=tests for all.
PORTABLE ?= tests/integration/test_ranks.py \
	$(addprefix tests/lightning_emseg/,attribution inference losses metrics modules networks)
test-portable: install
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE $(PYTEST) --dist loadfile \
		-m "not slow or ddp" $(PORTABLE)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install
	$(BIN)/mypy

smoke: install
	$(BIN)/lightning fit --config experiments/smoke.yaml

# Twenty fits killed at random and resumed, which takes ten minutes.
test-kills: install
	EMSEG_KILLS=20 $(BIN)/python -m pytest -s tests/integration/test_resumed_runs.py

# Prints how far 1, 2 and 3 ranks are apart in every file that they write.
test-ranks: install
	$(BIN)/python -m pytest -s tests/integration/test_ranks.py

test-slurm: install
	PATH="$(abspath $(BIN)):$$PATH" tests/slurm/run.sh

bench: install
	$(BIN)/python -m tests.bench.run $(if $(ONLY),--only $(ONLY))

clean:
	rm -rf $(VENV) runs/demo runs/smoke data/smoke.zarr build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Renews the pinned versions; needs uv.
constraints:
	(echo "# Exact versions that CI and make install use, for Python 3.11 and 3.12. Renew with: make constraints"; \
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-header --no-annotate) > .ci/constraints.txt
