# Two commands on a fresh machine: `make demo` shows the main job, `make test` checks everything.
# Both set up a virtual environment first; nothing outside this folder is touched.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: demo serve test fuzz soak check lint types audit clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@# torch first: on a machine with a CPU build at hand, the rest must not bring in another one.
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## two engines, a streamed answer, a real trace, two policies side by side
	$(BIN)/python examples/demo.py

serve: $(STAMP)  ## a fleet that stays, and a curl line that works
	$(BIN)/fairlead serve examples/laptop.toml

test: $(STAMP)  ## two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

fuzz: $(STAMP)  ## N=1000: looks for seeds that break an invariant; SEED=7: one, told at length
	$(BIN)/python -m fairlead.cli.fuzz --seed $(or $(SEED),0) $(if $(N),--n $(N),$(if $(SEED),,--n 1000))

soak: $(STAMP)  ## MINUTES=30: a fleet whose workers and gateways die, and nothing may be lost
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),30)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

audit: $(STAMP)  ## known vulnerabilities of what is installed; says so where nobody can be asked
	$(BIN)/python scripts/audit.py

check: lint types test  ## what CI does

clean:
	rm -rf $(VENV) out
