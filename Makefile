# Needs make, a POSIX shell and Python 3.10 to 3.13; everything else goes into $(VENV).
PYTHON ?=
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 7860
ARGS ?=

IN_VENV := $(VENV)/bin/python
PIP := $(IN_VENV) -m pip --disable-pip-version-check
# pip compiles one file after the other, which takes as long as all the rest of it; this does it on all cores. Some
# packages come with files that are no Python.
COMPILE := $(IN_VENV) -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
# Nothing that runs from here asks a hub or reports its use.
OFFLINE := HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 GRADIO_ANALYTICS_ENABLED=False

.DEFAULT_GOAL := help
.PHONY: help app test fuzz test-wheel test-services audit lint api architecture deployment attack bundle clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

app: $(VENV)/.app ## install what is missing and serve the page (HOST, PORT; ARGS goes to app.py)
	@$(IN_VENV) app.py --host $(HOST) --port $(PORT) $(ARGS)

# One process for each core with one thread each; a file's tests stay together, since they share a server or a model.
# Style and types are checked meanwhile, on one core, and told at the end.
test: $(VENV)/.test $(VENV)/.bits ## install what is missing and run every check (ARGS goes to pytest)
	@browser="$$(.ci/chromium $(IN_VENV))" || exit; said="$$(mktemp)"; \
	$(MAKE) --no-print-directory lint >"$$said" 2>&1 & linting=$$!; \
	$(OFFLINE) CHROMIUM="$$browser" OMP_NUM_THREADS=1 A3TUNE_BITS=$(VENV)/bits \
		$(IN_VENV) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS); tested=$$?; \
	wait $$linting; linted=$$?; cat "$$said"; rm -f "$$said"; [ $$tested -eq 0 ] && [ $$linted -eq 0 ]

fuzz: $(VENV)/.test ## read 20,000 spoilt files of every kind and print what came of them (ARGS: --inputs, --seed, --keep)
	@$(OFFLINE) OMP_NUM_THREADS=1 $(IN_VENV) -m tests.fuzz $(ARGS)

test-wheel: $(VENV)/.test ## install the wheel with all that it needs into an environment of its own, and use it
	@rm -rf $(VENV)-wheel && $(IN_VENV) -m venv $(VENV)-wheel
	@$(VENV)-wheel/bin/python -m pip --disable-pip-version-check install --quiet . -c constraints.txt
	@$(OFFLINE) A3TUNE_WHEEL_ENVIRONMENT=$(VENV)-wheel $(IN_VENV) -m pytest tests/test_wheel.py

test-services: $(VENV)/.test ## install a real nginx, Orthanc and identity provider, and use the page with them
	@.ci/services $(abspath $(VENV)/services) && browser="$$(.ci/chromium $(IN_VENV))" && $(OFFLINE) CHROMIUM="$$browser" \
		A3TUNE_SERVICES=$(abspath $(VENV)/services) $(IN_VENV) -m pytest tests/app/test_services.py $(ARGS)

audit: $(VENV)/.app ## list the licences of what is installed, and look its known holes up where that can be reached
	@.ci/audit $(IN_VENV) $(VENV)-audit

lint: $(VENV)/.test ## check style, formatting and types
	@$(IN_VENV) -m ruff check . && $(IN_VENV) -m ruff format --check .
	@$(IN_VENV) -m mypy
	@$(VENV)/bin/oxlint --deny-warnings app && $(VENV)/bin/oxfmt --check 'app/**/*.js'

api: $(VENV)/.test ## write docs/api.md from the docstrings
	@$(IN_VENV) docs/make_api.py

architecture: $(VENV)/bin/python ## draw the picture in docs/architecture.md from the imports
	@$(IN_VENV) docs/make_architecture.py

attack: $(VENV)/.test ## attack a started server as strangers would, and print what held
	@$(OFFLINE) $(IN_VENV) tests/attack/attack.py

deployment: $(VENV)/.app ## write the tables of limits and routes in docs/deployment.md from the code
	@$(IN_VENV) docs/make_deployment.py

bundle: $(VENV)/.app ## train the demo model again (about 25 minutes on 2 cores)
	@$(OFFLINE) $(IN_VENV) -m a3tune demo build $(ARGS)

clean: ## remove the environment and the caches
	rm -rf $(VENV) $(VENV)-wheel $(VENV)-audit .pytest_cache .ruff_cache .mypy_cache .gradio .cache

# A half-made environment would look finished to the next run, so a failure takes it away again.
$(VENV)/bin/python:
	@python="$$(.ci/python $(PYTHON))" && { "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }

# The stamp files say which requirements the environment holds.
$(VENV)/.app: requirements.txt constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV); the first time takes a few minutes."
	@$(PIP) install --quiet --no-compile -r requirements.txt -c constraints.txt
	@$(COMPILE)
	@touch $@

$(VENV)/.test: requirements-test.txt $(VENV)/.app
	@$(PIP) install --quiet --no-compile -r requirements-test.txt -c constraints.txt
	@$(COMPILE)
	@touch $@

# In a folder of its own: where PEFT finds it, PEFT loads it with every start, which takes seconds.
$(VENV)/.bits: constraints.txt $(VENV)/.test
	@$(PIP) install --quiet --no-deps --upgrade --target $(VENV)/bits bitsandbytes -c constraints.txt
	@touch $@
