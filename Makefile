# make demo    a small dataset from synthesised videos, and a small generator trained on it, end to end
# make test    the tests, in about six minutes; make test-all adds the long ones
# make test-world   by hand, for hours: other random draws, other processors, other numbers of threads
# make setup   the virtual environment alone; the others call it by themselves
# make check   lint, format, types, and which room may import which
# make bench   the benchmarks, in about ten minutes; each takes larger sizes: python -m benchmarks.NAME --help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo demo-captioner test test-long test-all test-world check rooms format bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "autorecap needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): 2.5 GB, minutes on a slow line"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: setup
	@rm -rf demo-data
	@$(BIN)/python -m autorecap.demo demo-data
	@echo 'autorecap lies in $(BIN): source $(BIN)/activate'

demo-captioner: setup
	$(BIN)/python -m autorecap.demo.train_captioner --out models/autocap/demo_weights

# two processes of one thread each; tests that start a Ray share one of them
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST) -m "not slow"

# kills, full disks, released sizes
test-long: setup
	$(PYTEST) -m slow

test-all: test test-long

# what oneDNN takes of the processor, and the number of threads, decide how sums are rounded
test-world: setup
	HYPOTHESIS_PROFILE=random $(PYTEST)
	@for isa in SSE41 AVX2; do for threads in 1 2; do \
		echo "== tests/models and tests/training with $$isa and $$threads threads"; \
		ONEDNN_MAX_CPU_ISA=$$isa OMP_NUM_THREADS=$$threads $(BIN)/python -m pytest -m "not slow" \
			tests/models tests/training || exit 1; \
	done; done

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/rooms.py --check

# the map of rooms in docs/architecture.md
rooms: setup
	$(BIN)/python docs/rooms.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

BENCHMARKS := $(basename $(notdir $(filter-out %/__init__.py,$(wildcard benchmarks/*.py))))

bench: setup
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf $(VENV) demo-data
