# The two commands a newcomer needs are `make demo` and `make test`. Each makes .venv by itself.
#
#   make PYTHON=python3.12 test     with another Python (3.11 or later)
#   make JOBS=5 test                more tests at a time: two more than there are cores, for many wait
#   make bench SCALE=0.1            a smaller comparison; BENCH="--help" shows what else it can do

PYTHON ?= python3
JOBS   ?= 4
SCALE  ?= 1
SEED   ?= 0
BENCH  ?=
PROFILE ?=
PYTEST ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Each process of tests compiles all of them anew where nothing compiled is kept.
export PYTHONDONTWRITEBYTECODE =

.DELETE_ON_ERROR:
.PHONY: demo test quick coverage soak differential flips tamper fuzz faults kills check lint format bench bench-dry bench-short profile resume shape schemas docs bundle bundle-inputs bundle-twice deb deb-twice clean

demo: $(STAMP)
	@$(BIN)/python -m docs.demo

RUN = $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

test: $(STAMP)
	$(RUN) $(PYTEST)

# The loop of daily work: every room by itself, without what takes seconds.
quick: $(STAMP)
	$(RUN) -m 'not slow' tests/unit $(PYTEST)

# Every test, and which lines and branches none of them reaches. Python takes twice as long when it is measured.
coverage: $(STAMP)
	$(RUN) --cov --cov-report=term $(PYTEST)

# The long targets print a line for each test that ends: what was found is there, also where the run is cut.
# A test that is one long loop says once a minute how far it is, and each failure at once (tests/support/soak.py).
# Hours of invented sessions, losses, kills and power cuts. A failure names its seed: make soak SEED=177 PYTEST='-k "[177]"'
soak: $(STAMP)
	SOAK=1 SEED=$(SEED) $(BIN)/python -m pytest -v --tb=short tests/property/test_session_properties.py tests/faults/test_any_links_lost.py \
	  tests/faults/test_power_cuts.py tests/integration/test_killed_anywhere.py tests/security/test_memory_of_the_vault.py \
	  tests/integration/test_watching_for_long.py tests/integration/test_changes_since.py \
	  tests/unit/verify/test_read_beside_writers.py tests/unit/verify/test_what_the_disk_does_not_give.py \
	  tests/integration/test_ssh_configurations.py $(PYTEST)
	SOAK=1 $(BIN)/python -m pytest -v --tb=short -m hypothesis tests/unit tests/property $(PYTEST)

# Odd signatures before ssh-keygen and before us; prints who accepts what. make differential COUNT=50000 SEED=3
differential: $(STAMP)
	DIFFERENTIAL=$(or $(COUNT),10000) SEED=$(SEED) $(BIN)/python -m pytest -v -s --tb=short -o faulthandler_timeout=0 tests/security/test_signatures_against_ssh_keygen.py $(PYTEST)

# Every byte of a small vault changed, every bit of its documents; about 20 minutes of one core.
flips: $(STAMP)
	FLIPS=all FLIP_JOBS=$(JOBS) $(BIN)/python -m pytest -v --tb=short -o faulthandler_timeout=0 tests/faults/test_verify_flipped_bits.py \
	  tests/unit/verify/test_timestamps.py $(PYTEST)

# All commands about every row of the tamper corpus; some ten minutes of one core.
tamper: $(STAMP)
	TAMPER=all $(BIN)/python -m pytest -v --tb=short -n $(JOBS) tests/tamper $(PYTEST)

# Sessions spoilt on their way, to the vault and from it. make fuzz COUNT=1 SEED=77 does one again.
fuzz: $(STAMP)
	FUZZ=$(or $(COUNT),20000) SEED=$(SEED) $(BIN)/python -m pytest -v -s --tb=short -o faulthandler_timeout=0 tests/faults/test_fuzzed_sessions.py $(PYTEST)

# Every system call of every command fails with every error, or is where its process is killed. COUNT=500 SEED=3: a sample.
faults: $(STAMP)
	FAULTS=$(or $(COUNT),0) SEED=$(SEED) $(BIN)/python -m pytest -v -s --tb=short -o faulthandler_timeout=0 tests/faults/test_failing_calls.py $(PYTEST)

# Either end killed at any moment, over a real SSH server.
kills: $(STAMP)
	SOAK=1 SEED=$(SEED) $(BIN)/python -m pytest -v --tb=short -n $(JOBS) tests/integration/test_killed_anywhere.py $(PYTEST)

# What CI runs: everything that can refuse a change.
check: lint coverage

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP)
	@$(BIN)/python -m tests.bench --scale $(SCALE) $(BENCH)

# Every row once, as small as it gets: shows that all of it runs, and nothing about speed.
bench-dry: $(STAMP)
	@$(BIN)/python -m tests.bench --scale 0.01 --repeat 1 --rows 'A-*,B-*,F-*,V-*,M-*' $(BENCH)

# What a push costs by thread and step, and its system calls; FOLDER needs some 4 GiB. PROFILE="--help" shows what else it can do.
profile: $(STAMP)
	@$(BIN)/python -m tests.bench.profile --dir $(or $(FOLDER),/dev/shm) $(PROFILE)

# The rows that say most, in about five minutes: a quarter of A and of B, each once, printed as they finish.
bench-short: $(STAMP)
	@$(BIN)/python -m tests.bench --scale 0.25 --repeat 1 --only rsync,hashdeep,evidencesync \
	  --rows A-fresh,A-edits,A-insert,B-fresh,B-unchanged,tiny --dir $(or $(FOLDER),/dev/shm) $(BENCH)

# The package's modules, lines, importers and longest functions.
shape: $(STAMP)
	@$(BIN)/python -m tests.shape

# What it costs to go on with a large file whose push was killed; FOLDER needs room for two of them.
resume: $(STAMP)
	@$(BIN)/python -m tests.bench.resume $(or $(FOLDER),/dev/shm) $(or $(GIB),4)

# Both write files that are committed; a test fails when they no longer say what the code says.
schemas: $(STAMP)
	$(BIN)/python -m docs.generate.schemas schemas

docs: $(STAMP)
	$(BIN)/python -m docs.generate.reference docs
	$(BIN)/python -m docs.generate.manual docs/man

# A package for the Debian or Ubuntu of this machine; it needs dpkg-deb, strip and PyPI. DEBFULLNAME and DEBEMAIL: who maintains it.
deb: $(STAMP)
	@packaging/deb/build dist

# Builds it twice, and has lintian look at it; some minutes.
deb-twice: $(STAMP)
	DEB=all $(BIN)/python -m pytest -q tests/integration/test_debian_package.py $(PYTEST)

# One folder that runs on any x86-64 Linux, packed: make bundle KEY=~/.ssh/builder. What it is made of is fetched once, on Debian 12;
# `packaging/bundle/fetch.py FOLDER --renew` takes today's versions.
BUNDLE_INPUTS ?= build/bundle/inputs
bundle: bundle-inputs
	@$(BIN)/python packaging/bundle/build.py $(BUNDLE_INPUTS) dist $(if $(KEY),--key $(KEY))

bundle-inputs: $(STAMP)
	@$(BIN)/python packaging/bundle/fetch.py $(BUNDLE_INPUTS)

# Builds it in two places, and compares the bytes; two minutes of one core.
bundle-twice: bundle-inputs
	BUNDLE=all $(BIN)/python -m pytest -q tests/integration/test_bundle.py $(PYTEST)

# Removes what make and the tools made. The folders of `make demo` stay: they may be what you are looking at.
clean:
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find evidencesync tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "evidencesync needs Python 3.11 or later, and $(PYTHON) is not one. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet -e '.[all,test]'
	@touch $@
