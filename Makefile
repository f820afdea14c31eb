# Two commands: `make demo` (APP=0 stops after the table) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= runs
APP ?= 1
PYTEST ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check language lock clean

$(VENV)/.installed: requirements.lock pyproject.toml
	@VENV=$(VENV) $(PYTHON) .ci/install
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/steer demo --runs $(RUNS)
ifneq ($(APP),0)
	$(BIN)/steer app --runs $(RUNS)
endif

# A small language model (SmolLM2-135M-Instruct, Apache-2.0, 93 MB) for the tests marked `language`.
language: $(VENV)/.installed
	$(BIN)/steer get smollm2

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not browser" $(PYTEST)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser $(PYTEST)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
