# make demo: set-up, then train and evaluate a PST and its twin without time on generated videos.
# make test: set-up, then lint and tests. Both keep to this folder; set-up runs once.
#
# PYTHON=python3.12   the interpreter to make the environment from (3.11 or newer)
# JOBS=2              processes that run the tests
# JAX=cuda13 | tpu    installs jax for an NVIDIA GPU (CUDA 13) or a TPU, instead of the CPU's

PYTHON ?= python3
VENV ?= .venv
# What the environment was made for, or the CPU's.
JAX ?= $(or $(patsubst $(VENV)/.installed-%,%,$(wildcard $(VENV)/.installed-*)),cpu)
RUNS ?= runs
JOBS ?= 2

BIN := $(VENV)/bin
EXTRA_cpu :=
EXTRA_cuda13 := 'jax[cuda13]'
EXTRA_tpu := 'jax[tpu]'
ifeq ($(filter $(JAX),cpu cuda13 tpu),)
$(error JAX=$(JAX) is unknown: use cpu, cuda13 or tpu)
endif
# Says what the environment was made for: another JAX or other requirements make it anew.
STAMP := $(VENV)/.installed-$(JAX)

.PHONY: demo seeds test test-slow lint setup clean

demo: setup
	$(BIN)/python train.py --config configs/motion.py --workdir $(RUNS)/pst
	$(BIN)/python train.py --config configs/motion.py:twin --workdir $(RUNS)/twin
	$(BIN)/python eval.py --config configs/motion.py:twin --workdir $(RUNS)/twin
	$(BIN)/python eval.py --config configs/motion.py --workdir $(RUNS)/pst --against $(RUNS)/twin
	$(BIN)/python -m pst_jax.evaluation.report $(RUNS)/pst $(RUNS)/twin
	rm -rf $(RUNS)/model
	$(BIN)/python -m pst_jax.convert $(RUNS)/pst $(RUNS)/model
	$(BIN)/python -m pst_jax.predict 'data/motion/test/*/00000.mp4' --model $(RUNS)/model --topk 1
	@echo "Look at $(RUNS)/pst/report.html"

# The demo's PST with three other training seeds, on the demo's data: about 12 minutes.
seeds: setup
	for seed in 1 2 3; do for script in train eval; do \
		$(BIN)/python $$script.py --config configs/motion.py --config.seed=$$seed \
			--workdir $(RUNS)/seed$$seed || exit 1; \
	done; done
	$(BIN)/python -m pst_jax.evaluation.report $(RUNS)/seed1 $(RUNS)/seed2 $(RUNS)/seed3

# A file of tests at a time in each of JOBS processes: most of their time is compiling, on one core.
test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist load -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt --group test $(EXTRA_$(JAX))
	touch $@

clean:
	rm -rf $(VENV) $(RUNS) data build
