# Each target sets up what it needs: on a fresh machine `make demo` and `make test` are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE := .venv-node
# Each process on one thread: threads of several would wait for one another. One more process than
# cores, since tests of servers and browsers wait much of their time. A file stays on one worker, and
# so do the studio, the browser and the trained network that its tests share.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
RUN_TESTS := -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -p no:cacheprovider
PIP := -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Hundreds of processes start; without bytecode, each would compile the modules anew. conftest.py
# lets no process write any that a test starts.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-docs test-ray test-all pytest browser node azurite lint bench docs site pictures wheel tutorials clean

# Trains on Fashion-MNIST, writes the report, and classifies an image of its own.
demo: $(VENV)/ready
	$(BIN)/python -m opsin data fashion-mnist --out demo/data
	$(BIN)/python -m opsin train fashion-mnist --epochs 3 --runs demo/runs --name demo
	$(BIN)/python scripts/demo_photo.py demo/boot.jpg
	$(BIN)/python -m opsin predict "$$(ls -td demo/runs/*-demo* | head -n 1)" demo/boot.jpg --plot demo/boot-answer.png

# Lint and types beside the tests; what they say comes after these.
test: browser node site $(VENV)/ready $(VENV)-runtime/ready
	@said=$$(mktemp); $(MAKE) --no-print-directory lint >$$said 2>&1 & beside=$$!; \
	trap 'kill $$beside 2>/dev/null; rm -f $$said' EXIT; \
	$(MAKE) --no-print-directory pytest; tests=$$?; \
	wait $$beside; lint=$$?; cat $$said; \
	echo "make test: lint and types $$([ $$lint = 0 ] && echo passed || echo FAILED)," \
		"tests $$([ $$tests = 0 ] && echo passed || echo FAILED)"; \
	[ $$lint = 0 ] && [ $$tests = 0 ]

# Each test runs once: what needs no PyTorch, in an environment where it is not installed.
pytest: browser node site $(VENV)/ready $(VENV)-runtime/ready
	$(VENV)-runtime/bin/python -m compileall -q src
	OMP_NUM_THREADS=1 $(VENV)-runtime/bin/python $(RUN_TESTS) -m "not slow and not docs and not torch and not ray"
	OMP_NUM_THREADS=1 $(BIN)/python $(RUN_TESTS) -m "not slow and not docs and torch"

# Follows every page of the documentation: each command, each block of Python, each tutorial.
test-docs: browser node site $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python $(RUN_TESTS) -m docs

# A Ray cluster of several nodes on this machine, in a network of its own (which needs root).
test-ray: $(VENV)-ray/ready
	OMP_NUM_THREADS=1 $(VENV)-ray/bin/python -m pytest -p no:cacheprovider -m "ray and not slow" tests/flows

# Everything, with more examples of each law.
test-all: RUN_TESTS += --hypothesis-profile thorough
test-all: lint browser azurite site $(VENV)-runtime/ready $(VENV)-keras/ready $(VENV)-ray/ready
	OMP_NUM_THREADS=1 $(VENV)-runtime/bin/python $(RUN_TESTS) -m "not torch and not ray"
	OMP_NUM_THREADS=1 $(BIN)/python $(RUN_TESTS) -m torch
	OMP_NUM_THREADS=1 $(VENV)-ray/bin/python -m pytest -p no:cacheprovider -m ray tests/flows tests/benchmarks

# Chromium, for the tests that open pages in it; where it cannot be installed, they are skipped, but in CI.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends chromium chromium-driver >/dev/null; \
	fi || { echo "no Chromium: the tests that need it are skipped"; [ -z "$$CI" ]; }
	@[ -z "$$CI" ] || { command -v chromium && command -v chromedriver; } >/dev/null

# onnxruntime-node and sharp, for the tests that run a bundle in Node, and axe-core, which judges
# whether everybody can use a page; likewise.
node:
	@command -v npm >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends nodejs npm >/dev/null; \
	fi || true
	@[ -d $(NODE)/node_modules/onnxruntime-node ] && [ -d $(NODE)/node_modules/sharp ] && \
	[ -d $(NODE)/node_modules/axe-core ] || \
	{ command -v npm >/dev/null && mkdir -p $(NODE) && npm install --silent --no-audit --no-fund \
		--ignore-scripts --prefix $(NODE) onnxruntime-node@1.30.0 sharp@0.35.5 axe-core@4.14.1 >/dev/null; } || \
	{ echo "no Node with onnxruntime-node, sharp and axe-core: the tests that need them are skipped"; [ -z "$$CI" ]; }

# Microsoft's emulator of its store, 365 MB, for a test of az://; likewise.
azurite: node
	@[ -d $(NODE)/node_modules/azurite ] || \
	{ command -v npm >/dev/null && npm install --silent --no-audit --no-fund --ignore-scripts \
		--prefix $(NODE) azurite@3.37.0 >/dev/null; } || \
	{ echo "no Azurite: the test of az:// is skipped"; [ -z "$$CI" ]; }

lint: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks

# The documentation as a site, in src/opsin/site: the studio serves it, and wheels hold it.
site: $(VENV)/ready
	$(BIN)/zensical build --clean --strict
	$(BIN)/python scripts/tutorials.py --notebooks src/opsin/site/learn

# What `pip install` takes, with the site.
wheel: site
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# Runs the tutorials whole, and writes their pages anew; DATA="--data cifar10=FOLDER" reads a folder.
tutorials: $(VENV)/ready
	$(BIN)/python scripts/tutorials.py $(DATA)

# Writes the generated parts of the documentation anew.
docs: $(VENV)/ready
	$(BIN)/python scripts/generate.py

# Makes the pictures of the documentation anew: trains, starts the studio and the server, and looks
# at them in Chromium. PHOTOS=FOLDER gives the studio other photographs, such as TrashNet.
pictures: browser $(VENV)/ready
	$(BIN)/python scripts/terminal_recording.py docs/images/terminal.svg
	$(BIN)/python scripts/pictures.py docs/images $(if $(PHOTOS),--photos $(PHOTOS))

clean:
	rm -rf $(VENV) $(VENV)-runtime $(VENV)-keras $(VENV)-ray $(NODE) demo dist src/opsin/site .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) torch==2.13.0
	$(BIN)/python $(PIP) -e '.[dev]'
	touch $@

# Keras, skops and the implementation of EfficientNet-Lite, which judge what is read, and Keras's side of docs/how-to/coming-from-keras.md; Opsin
# is not in there.
$(VENV)-keras/ready: constraints.txt
	$(PYTHON) -m venv $(VENV)-keras
	$(VENV)-keras/bin/python $(PIP) torch==2.13.0 efficientnet-lite-pytorch keras h5py matplotlib pillow scikit-learn skops
	touch $@

# Ray is large, and part of nothing else. Its Data and Serve are for docs/how-to/ray.md.
$(VENV)-ray/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/python $(PIP) torch==2.13.0
	$(VENV)-ray/bin/python $(PIP) -e '.[train,parquet,ray,serve,test]' 'ray[data,serve,train]'
	touch $@

$(VENV)-runtime/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-runtime
	$(VENV)-runtime/bin/python $(PIP) -e '.[evaluate,serve,studio,parquet,test]'
	! $(VENV)-runtime/bin/python -c "import torch" 2>/dev/null
	touch $@
