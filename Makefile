# `make demo` and `make test` need nothing but Python 3.10 or newer: they make a .venv first.
PYTHON ?= python3
BIN = .venv/bin
READY = .venv/.ready

FUZZ_SECONDS ?= 3600
KILLS ?= 200

.PHONY: demo test lint fuzz kill bench reproduce docs readme clean

demo: $(READY)
	$(BIN)/tbft demo

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Broken files of every kind for an hour, and kills at 200 instants of all commands that write.
fuzz: $(READY)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest -q -s tests/test_fuzz.py

kill: $(READY)
	KILLS=$(KILLS) $(BIN)/pytest -q -s tests/test_kill.py

# Needs TBFT_DATA, the folder of checkpoints and sets that docs/data.md describes.
bench: $(READY)
	$(BIN)/python benchmarks/tuning_cost.py --json benchmarks/results/tuning_cost.json
	$(BIN)/python benchmarks/scaling.py --json benchmarks/results/scaling.json
	$(BIN)/python benchmarks/selector_regret.py --json benchmarks/results/selector_regret.json --plot docs/selector_regret.png
	$(BIN)/python benchmarks/paper_arms.py --json benchmarks/results/paper_arms.json
	$(BIN)/python benchmarks/meter_overhead.py --json benchmarks/results/meter_overhead.json
	$(BIN)/python benchmarks/corruptions.py --json benchmarks/results/corruptions.json
	$(BIN)/python benchmarks/cost_prediction.py --json benchmarks/results/cost_prediction.json
	$(BIN)/python benchmarks/system_cost.py --json benchmarks/results/system_cost.json
	$(BIN)/python benchmarks/acceptance.py --json benchmarks/results/acceptance.json

# A small version of every experiment of the paper, in minutes; the last line names the page. Needs TBFT_DATA, too.
QUICK = --quick --engine pool --out build/quick --methods none adabn front layer2 layer3 rear full ours tent
reproduce: $(READY)
	for name in noise-motivation cifar10-c cifar-flip tiny17 living17-photos; do \
		$(BIN)/python -m paper run $$name $(QUICK) || exit; done
	$(BIN)/python -m paper run system-cost --quick --out build/quick
	$(BIN)/python -m paper report --records build/quick --out build/quick

# The site, in build/site: pages, tutorials and the reference from docstrings; a dead link is an error.
docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python tools/site.py
	$(BIN)/mkdocs build --quiet

readme: $(READY)
	$(BIN)/python tools/readme.py
	$(BIN)/python tools/readme_picture.py
	$(BIN)/python tools/results.py

clean:
	rm -rf .venv build dist tbft-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -o -name '*.egg-info' | xargs rm -rf

$(READY): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[corruptions,demo,dev,paper,parquet,plots,report,sign]'
	touch $@
