# make demo          a first look: builds, fetches a model, writes text, prints one table
# make test          the test suite; make test-slow runs the tests that need real models or more time
# make lint          formatting, lint, the direction of imports, and types
# make sanitize      the native module watched for errors of memory and races: its tests, 5 minutes of fuzzing
# make test-arm      the kernels for ARM processors, cross-compiled and emulated, beside the portable ones
# make bench         shortlist against the engines that people use, on SmolLM2 (BENCH="MODEL ..." for others)
# make constraints   resolves the dependencies anew and writes constraints.txt
#
# Everything lives in .venv and build/; `make clean` removes both. Needs Python 3.11+, make and a C++17 compiler.

PYTHON ?= python3
BENCH ?= smollm2-135m --peer llama.cpp --peer ik_llama.cpp
BIN := .venv/bin
# The first setting is for what is installed and, before pip 25.3, for what building it needs; newer pips read
# the second for the latter.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip --disable-pip-version-check --quiet
NATIVE := CMakeLists.txt pyproject.toml constraints.txt $(wildcard src/shortlist/native/*/*)

.PHONY: demo test test-slow test-arm lint sanitize sanitize-smoke bench constraints clean
.DELETE_ON_ERROR:

demo: .venv/runtime.stamp
	$(BIN)/python scripts/demo.py

test: .venv/dev.stamp
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: .venv/dev.stamp
	$(BIN)/python -m pytest -m slow

lint: .venv/dev.stamp
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright

sanitize: .venv/dev.stamp
	$(BIN)/python scripts/sanitize.py address --seconds 300
	$(BIN)/python scripts/sanitize.py thread --seconds 30

sanitize-smoke: .venv/dev.stamp
	$(BIN)/python scripts/sanitize.py address --smoke

test-arm:
	@bash scripts/check_kernels.sh aarch64-linux-gnu-g++ qemu-aarch64

bench: .venv/bench.stamp
	$(BIN)/shortlist bench $(BENCH) --fit

# The build tools are installed rather than isolated, so that a rebuild compiles only what changed.
.venv/tools.stamp: scripts/preflight.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) found: install Python 3.11 or newer, or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) scripts/preflight.py
	$(PYTHON) -m venv --clear .venv
	$(PIP) install scikit-build-core nanobind cmake ninja setuptools
	@touch $@

.venv/runtime.stamp: .venv/tools.stamp $(NATIVE)
	$(PIP) install --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: .venv/runtime.stamp
	$(PIP) install --no-build-isolation --editable '.[dev]'
	@touch $@

# llama.cpp is compiled here, for this machine's own processor, as its users are told to.
.venv/bench.stamp: .venv/runtime.stamp
	CMAKE_ARGS=-DGGML_NATIVE=ON $(PIP) install --no-build-isolation --editable '.[bench]'
	@touch $@

constraints:
	@$(PYTHON) scripts/preflight.py
	$(PYTHON) scripts/constraints.py

clean:
	rm -rf .venv build src/shortlist/_native.pyi
