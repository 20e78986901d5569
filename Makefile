# make demo   see a page that a WSGI application serves behind a web server
# make test   everything: lint, types, contracts, unit tests, every web server
# make check  the quick part of it, in under two minutes
# make budget  instructions of a request in codec and core, against what is on record
# make bench  Portico and its peers in one run of 25 minutes; BENCH=--quick for a first look
# make bench-scale  how cost grows with workers, connections, heads and bodies: five minutes
# make soak   reloads and stops under load for SOAK_SECONDS=600
# make fuzz   coverage-guided fuzzing: FUZZ_SECONDS=60 a target, FUZZ_TARGET=ajp-server for one
.POSIX:

VENV = .venv
BIN = $(VENV)/bin
BENCH = --publish
FUZZ_SECONDS = 60
FUZZ_TARGET =
SOAK_SECONDS = 600

demo:
	@tools/environment.sh $(VENV)
	@exec $(BIN)/portico up $(APP)

check: environment
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q -n 4 --dist loadfile -m "not frontend and not peer and not slow"

test: environment
	@tools/servers.sh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest

soak: environment
	@tools/servers.sh
	# without the stacks that pytest dumps of a test of a minute: CPython can crash of that where
	# other threads run
	SOAK_SECONDS="$(SOAK_SECONDS)" $(BIN)/pytest -o faulthandler_timeout=0 \
	    tests/supervisor/test_no_request_is_lost.py

budget: environment
	$(BIN)/python bench/core.py

bench:
	@tools/bench-servers.sh
	@tools/environment.sh .venv-bench
	@.venv-bench/bin/python bench/peers.py
	.venv-bench/bin/python bench/serve.py $(BENCH)

bench-scale: environment
	$(BIN)/python bench/scale.py
	$(BIN)/python bench/scale.py --write-docs

fuzz:
	@mkdir -p build/fuzz
	@tools/environment.sh .venv-fuzz fuzz 2>build/fuzz/environment.log || { \
	    echo "The fuzzer, atheris, cannot be installed for this Python:" \
	        "build/fuzz/environment.log says why; name another: make fuzz PYTHON=..." >&2; \
	    exit 2; }
	@exec .venv-fuzz/bin/python tests/fuzz/run.py --seconds "$(FUZZ_SECONDS)" \
	    --target "$(FUZZ_TARGET)"

environment:
	@tools/environment.sh $(VENV) check

clean:
	rm -rf $(VENV) .venv-bench .venv-fuzz build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache \
	    .hypothesis .coverage

.PHONY: demo check test soak budget bench bench-scale fuzz environment clean
