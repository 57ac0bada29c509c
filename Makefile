# Every target makes the environment that it needs in .venv, which belongs to make.
# PYTHON, 3.11 or newer, is all that has to be there before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The stamp is named after the requirements, so it exists only once exactly these are installed:
# file times would not do, as a checkout changes them without changing the files.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')

.DEFAULT_GOAL := help
.PHONY: help demo docs looks test zoo bench fuzz faults native fuzz-kernels sanitize sanitize-threads check format clean

help:
	@echo "make demo    train, gate and evaluate a small network; writes demo/ (about 4 minutes)"
	@echo "make docs    build the site into site/, with warnings as errors"
	@echo "make looks   screenshots of the site and the demo's page into looks/, by headless Chromium"
	@echo "make test    run the tests, without those marked slow or gpu"
	@echo "make zoo     check all networks of torchvision and timm; writes docs/zoo.md (about 10 minutes)"
	@echo "make fuzz    check random networks as people write them; N=10000 SEED=0 for a long run"
	@echo "make bench   time skipping and training steps; writes docs/bench.md (about 50 minutes, alone)"
	@echo "make native  compile the native kernels again, after a change of their sources"
	@echo "make fuzz-kernels  compare random convolutions with torch's, on each instruction set (EXAMPLES=, SEED=)"
	@echo "make sanitize  run the native kernels' tests with the address and undefined sanitizers"
	@echo "make sanitize-threads  run many threads in one network under ThreadSanitizer"
	@echo "make faults  damage files, kill processes, call often; writes docs/trust.md's figures (N=, SEED=)"
	@echo "make check   format, lint and type checks"
	@echo "make format  format the code and mend what the linter can mend"
	@echo "make clean   remove .venv, caches and build products; results stay"
	@echo "Each installs what it needs into .venv first; PYTHON=... picks the interpreter (3.11+)."

demo: $(STAMP)
	$(BIN)/ftwt demo

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(STAMP)
	$(BIN)/python -m mkdocs build --strict --quiet

# Pages as a reader sees them; PAGES names others, such as demo/index.html.
CHROMIUM ?= chromium
PAGES ?= $(wildcard site/index.html site/concepts/mask.html demo/index.html)
looks:
	CHROMIUM=$(CHROMIUM) docs/looks.sh looks $(PAGES)

# Each test has one thread, so several run at once.
test: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup

zoo: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.zoo

native: $(STAMP)
	FTWT_REQUIRE_NATIVE=1 FTWT_WERROR=1 $(BIN)/python setup.py -q build_ext --inplace

# Examples of each law on each instruction set, and the seed that they are drawn from.
SEED ?= 0
fuzz-kernels: EXAMPLES ?= 5000
fuzz-kernels: $(STAMP)
	FTWT_EXAMPLES=$(EXAMPLES) $(BIN)/python -m benchmarks.watched $@ -- \
		$(BIN)/python -m pytest tests/native/test_convolution.py --hypothesis-seed=$(SEED)

# A build of its own; Python itself and torch are not built for leak checks.
SANITIZED := build/sanitized
SANITIZERS := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined
sanitize: EXAMPLES ?= 40
sanitize: $(STAMP)
	CFLAGS="$(SANITIZERS)" FTWT_REQUIRE_NATIVE=1 $(BIN)/python setup.py -q build_ext \
		--build-lib $(SANITIZED) --build-temp $(SANITIZED)
	FTWT_EXAMPLES=$(EXAMPLES) $(BIN)/python -m benchmarks.watched $@ -- env \
		LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8 FTWT_NATIVE_FOLDER=$(SANITIZED)/ftwt/runtime/native \
		FTWT_REQUIRE_NATIVE=1 \
		$(BIN)/python -m pytest -s tests/native --hypothesis-seed=$(SEED) -k 'not leak and not memory_back'

# Python threads in one network are threads in its kernels.
sanitize-threads: $(STAMP)
	$(BIN)/python -m benchmarks.watched $@ -- $(BIN)/python -m tests.native.threads

# Damaged files of every kind, killed processes and many calls; a sample is among the tests.
faults: N = 200
faults: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults --count $(N) --seed $(SEED)

# Random networks as people write them; a sample is among the tests.
N ?= 1000
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --count $(N) --seed $(SEED) \
		--record build/fuzz/record.json

bench: $(STAMP)
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.runtime run
	$(BIN)/python -m benchmarks.runtime write

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist site looks *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# Without any stamp the environment is new, or its installation was interrupted: start from nothing.
# With the stamp of other requirements it is sound, and pip changes only what differs.
$(STAMP):
	ls $(VENV)/.installed-* >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	rm -f $(VENV)/.installed-*
	$(BIN)/python -m pip install --quiet -e '.[test,dev,docs,plots]' -c constraints.txt
	touch $@
