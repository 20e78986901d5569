# make demo   see a page that a WSGI application serves behind a web server
# make test   everything: lint, types, contracts, unit tests, every web server
# make check  the quick part of it, in under two minutes
.POSIX:

VENV = .venv
BIN = $(VENV)/bin

demo:
	@tools/environment.sh $(VENV)
	@exec $(BIN)/portico up $(APP)

check: environment
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q -m "not frontend and not peer and not slow"

test: environment
	@tools/servers.sh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest

bench:
	@tools/environment.sh .venv-bench bench
	.venv-bench/bin/python bench/serve.py
	.venv-bench/bin/python bench/cgi_start.py

environment:
	@tools/environment.sh $(VENV) check

clean:
	rm -rf $(VENV) .venv-bench build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache \
	    .hypothesis .coverage

.PHONY: demo check test bench environment clean
