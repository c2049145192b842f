# `make help` lists the commands. Everything runs in .venv, which make builds, or in PYTHON=<an interpreter>, used as it is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup setup-dev table1 table check test lab benchmark export portable equivalent readme course slides paper poster site clean

# Given on the command line only (make table1 SEEDS=5): variables of the same name in the environment are not ours.
PYTHON :=
TORCH_INDEX :=
PRESET := laptop
SEEDS := 1
CORPUS := standin
REAL :=
DEVICE := auto
OUT :=
WORKERS :=
SHEET :=
ONLY :=
REDRAW :=
SCHEDULER :=
ROWS :=
FIRST_SEED :=
ARITHMETIC :=
YOURS :=
EPOCHS :=
LR :=
BATCH :=
TEACHER :=
REMEDY :=
FULL :=
CONTINUE :=

# A misspelt option would be swallowed, and the command run with its defaults: refused before anything starts.
options.table1 := PRESET SEEDS CORPUS REAL DEVICE OUT WORKERS REDRAW SCHEDULER ROWS FIRST_SEED YOURS EPOCHS LR BATCH REMEDY
options.table := SHEET $(options.table1) TEACHER CONTINUE
options.benchmark := SHEET OUT FULL
options.test := ARITHMETIC
options.portable := SHEET ONLY
careful := $(filter setup setup-dev table1 table check benchmark test portable lab equivalent readme course slides paper poster site,$(MAKECMDGOALS))
ifneq ($(careful),)
known := PYTHON TORCH_INDEX $(foreach goal,$(MAKECMDGOALS),$(options.$(goal)))
unknown := $(filter-out $(known),$(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $(v))),$(v))))
ifneq ($(unknown),)
$(error make $(careful) takes no option $(unknown). It takes $(known))
endif
endif
farmed = $(if $(SCHEDULER), --scheduler "$(SCHEDULER)")$(if $(ROWS), --rows "$(ROWS)")$(if $(FIRST_SEED), --first-seed "$(FIRST_SEED)")
ifneq ($(filter table,$(MAKECMDGOALS)),)
ifeq ($(SHEET),)
$(error SHEET is missing: make table SHEET=<one of $(shell sed -n 's/^    Sheet."\([a-z0-9_]*\)".*/\1/p' mkdcls/results/sheets.py)>)
endif
endif

MIN_PYTHON := $(shell sed -n 's/^min_python *= *//p' settings.ini)
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

ifeq ($(PYTHON),)
PY := .venv/bin/python
run-ready := .venv/.ready-run
dev-ready := .venv/.ready-dev
site-ready := .venv/.ready-site
else
PY := $(PYTHON)
run-ready := ask-run
dev-ready := ask-dev
site-ready := ask-site
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
endif
PIP = "$(PY)" -m pip install -qq --disable-pip-version-check

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo
	@echo "Sheets of make table:"
	@sed -n 's/^    Sheet("\([a-z0-9_]*\)", "[^"]*", "\([^"]*\)".*/  SHEET=\1|\2/p' mkdcls/results/sheets.py | awk -F'|' '{printf "%-22s %s\n", $$1, $$2}'
	@echo
	@echo "Options, after any of them:"
	@echo "  PYTHON=<interpreter>   use this one as it is: no .venv, nothing installed"
	@echo "  TORCH_INDEX=<address>  where pip finds torch, e.g. the CPU index in PyTorch's own installation guide"
	@echo "Options of table1 and table:"
	@echo "  PRESET=smoke|laptop|gpu|paper   SEEDS=<n>   DEVICE=auto|cpu|cuda|cuda:1   OUT=<folder>   WORKERS=<rows at a time>"
	@echo "  EPOCHS=<n>   LR=<rate>   BATCH=<n>: in place of the preset's (table1, ablations)"
	@echo "  REMEDY=line: every student hears everybody over the telephone (table1; others on page 16)"
	@echo "  YOURS=<mine.py>: a file of your own; its rows stand beside Table 1's (table1)"
	@echo "  REDRAW=1: train nothing, make tables, pictures and page from the records that are there (table1, ablations, sensitivity, decisive, regime, remedies, real)"
	@echo "  CONTINUE=1: what OUT records counts as done, wherever it was run; only the rest is run, and joins it (decisive, regime)"
	@echo "  TEACHER=campplus|dvector: the public encoder that plays K, fetched if need be (real; page 18)"
	@echo "  SCHEDULER=tcp://host:8786: a Dask cluster makes the runs (page 13b)   ROWS=3,6   FIRST_SEED=<n>: these runs alone, no tables"
	@echo "  CORPUS=standin|real|<prepared folder, corpora file, or file of lists for seo_kim, imu_elevoc>   REAL=<folder of real speech, with CORPUS=real>"

setup: $(run-ready) ## build .venv with the exact versions of constraints.txt (other targets do this by themselves)

setup-dev: $(dev-ready) ## the same with what the tests and the peers' comparisons need

own-options = $(if $(YOURS), --yours "$(YOURS)")$(if $(EPOCHS), --epochs "$(EPOCHS)")$(if $(LR), --lr "$(LR)")$(if $(BATCH), --batch "$(BATCH)")$(if $(REMEDY), --remedy "$(REMEDY)")

table1: $(run-ready) ## regenerate Table 1 of the paper (PRESET=laptop SEEDS=1 CORPUS=standin)
	"$(PY)" -m mkdcls.results.cli table1 --preset "$(PRESET)" --seeds "$(SEEDS)" --corpus "$(CORPUS)" --real "$(REAL)" --device "$(DEVICE)" --out "$(OUT)" --workers "$(WORKERS)"$(if $(REDRAW), --redraw)$(own-options)$(farmed)

table: export MKDCLS_TEACHER := $(TEACHER)
table: $(run-ready) ## regenerate a sheet, SHEET=<one of those below>; options as for table1
	"$(PY)" -m mkdcls.results.cli table --sheet "$(SHEET)" --preset "$(PRESET)" --seeds "$(SEEDS)" --corpus "$(CORPUS)" --real "$(REAL)" --device "$(DEVICE)" --out "$(OUT)" --workers "$(WORKERS)"$(if $(REDRAW), --redraw)$(if $(CONTINUE), --continue)$(own-options)$(farmed)

# Fail fast, cheap first. As many notebooks or tests at a time as there are cores, one thread each.
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
LOOK = "$(PY)" -m ruff check mkdcls tests
PYTEST = "$(PY)" -m pytest -q -n $(CORES) --dist worksteal
HOUSE := tests/test_house.py tests/test_makefile.py

check: export OMP_NUM_THREADS := 1
check: $(dev-ready) ## what needs no training, in two minutes: lint, no-ops, lists, and the quick tests
	@echo "== 1/2 ruff"
	@$(LOOK)
	@echo "== 2/2 house and quick tests"
	@MPLBACKEND=Agg $(PYTEST) -m "not slow" tests --ignore=tests/test_notebooks.py
	@echo "== all passed"

test: export OMP_NUM_THREADS := 1
test: $(dev-ready) ## run every check: lint, no-ops, all notebooks (as another processor would compute them: ARITHMETIC=), all tests
	@echo "== 1/4 ruff"
	@$(LOOK)
	@echo "== 2/4 house: export, clean and README are no-ops; lists agree; every notebook is in shape"
	@$(PYTEST) $(HOUSE)
	@echo "== 3/4 notebooks, top to bottom"
	@"$(PY)" -m mkdcls.engine.portable --under "$(ARITHMETIC)" $(PYTEST) tests/test_notebooks.py --durations=5 --durations-min=5
	@echo "== 4/4 tests"
	@MPLBACKEND=Agg $(PYTEST) tests $(HOUSE:%=--ignore=%) --ignore=tests/test_notebooks.py --durations=10 --durations-min=3
	@echo "== all passed"

# root_dir: pages link to paper/ and mkdcls/, beside nbs/.
lab: $(run-ready) ## open JupyterLab on the tour; imports and cells on errors come folded, a click on a bar unfolds one
	"$(PY)" -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir=. --ServerApp.contents_manager_class=mkdcls.engine.lab.FoldedContents nbs/00_tour.ipynb

benchmark: sheet := benchmark$(if $(SHEET),_$(SHEET))
benchmark: $(dev-ready) ## measure speed and memory beside SpeechBrain and torchaudio; SHEET=corpora: millions of rows, audio; verification: trials (OUT= keeps the executed notebook elsewhere; FULL=1: at full size, into paper/benchmarks)
ifeq ($(FULL),)
	@mkdir -p runs
	"$(PY)" -m papermill "nbs/results/$(sheet).ipynb" "$(or $(OUT),runs/$(sheet).ipynb)" --cwd nbs/results
else
	"$(PY)" -m mkdcls.results.benchmarks "$(sheet)"$(if $(OUT), --out "$(OUT)")
endif

export: $(dev-ready) ## after editing notebooks: write the modules, README.md, and clean the notebooks
	@env -u IN_TEST "$(PY)" -c "from nbdev.doclinks import nbdev_export as f; f.__wrapped__()"
	@"$(PY)" -m mkdcls.results.readme
	@"$(PY)" -c "from nbdev.clean import nbdev_clean as f; f.__wrapped__()"

portable: $(dev-ready) ## statements about trained networks under the arithmetics of other processors, into paper/portable.csv (ONLY="oneDNN AVX" for one); SHEET=table1: rows of Table 1, into paper/arithmetic.csv
	@"$(PY)" -m $(if $(filter table1,$(SHEET)),mkdcls.results.arithmetic,mkdcls.engine.portable --only "$(ONLY)")

equivalent: $(dev-ready) ## after changing what training imports: train the recorded code and today's at smoke size; where both agree bit for bit, recorded runs stay valid
	@"$(PY)" -m mkdcls.engine.equivalence

readme: $(dev-ready) ## write README.md and paper/results/README.md from their pages and the committed results
	@"$(PY)" -m mkdcls.results.readme

paper: $(dev-ready) ## typeset the article from the committed results: paper/mkdcls.pdf and paper/article/values.json
	@"$(PY)" -m mkdcls.publish.article article

poster: $(dev-ready) ## typeset the poster, one page A1, from the same values: paper/poster.pdf
	@"$(PY)" -m mkdcls.publish.article poster

course: $(run-ready) ## the course: students' and instructor's files and the keys of `check`, from nbs/course/source
	@"$(PY)" -m mkdcls.course.twins

slides: $(run-ready) ## slides of the course in _course/slides, HTML that needs no network
	@"$(PY)" -m mkdcls.course.slides

site: $(site-ready) ## build the site from the executed notebooks into _docs/, to be read from disk or served; no network, nothing is run
	@"$(PY)" -m mkdcls.publish.site

clean: ## remove caches and build products; results, runs/ and .venv stay
	rm -rf build dist _docs _proc _course .pytest_cache .ruff_cache .hypothesis
	find mkdcls nbs tests \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# torch first and alone, so that its build can be chosen; a stamp is written only after everything before it worked.
.venv/.ready-run: constraints.txt settings.ini pyproject.toml
	@found=; for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] < tuple(map(int, "$(MIN_PYTHON)".split("."))))' 2>/dev/null; then found=$$p; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "No Python that can build .venv: wanted is $(MIN_PYTHON) or newer, with its venv and ensurepip modules (Debian: python3-venv)."; \
	  echo "python3 here is: $$(python3 --version 2>&1 || true). With another interpreter that holds the packages: make ... PYTHON=<path>"; exit 1; fi >&2; \
	echo "Setting up .venv with $$("$$found" --version). Some minutes the first time; nothing is installed elsewhere."; \
	"$$found" -m venv .venv
	@$(PIP) --upgrade pip
	@echo "  $(TORCH) ..."
	@$(PIP) -c constraints.txt $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch
	@echo "  the rest, as pinned in constraints.txt ..."
	@$(PIP) -c constraints.txt -e .
	@touch $@

.venv/.ready-dev: .venv/.ready-run
	@echo "  what the tests and the peers' comparisons need ..."
	@$(PIP) -c constraints.txt -e ".[dev,peers,use,export,cluster,paper,site]"
	@touch $@

.venv/.ready-site: .venv/.ready-run
	@echo "  what builds the site ..."
	@$(PIP) -c constraints.txt -e ".[site]"
	@touch $@

.PHONY: ask-run ask-dev ask-site
ask-run ask-dev ask-site: ask-%:
	@command -v "$(PY)" >/dev/null || { echo "PYTHON=$(PY): there is no such program. Give the path of an interpreter, or leave PYTHON out: make then builds .venv." >&2; exit 1; }
	@"$(PY)" -m mkdcls.engine.needs $*
