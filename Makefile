# Every command of the project; `make help` lists them. They need python3 (3.11 to 3.13; from 3.8 on, the network), git and make.
PYTHON ?= python3
EXTRAS ?=
FORMAT ?= html
SETUP = $(PYTHON) -I tools/run/setup.py
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONWARNINGS  # DVC and the tools use what .venv has, and UTF-8 in every locale
export PYTHONUTF8 := 1

# A variable that nothing reads is an error: `make gate base=x` would compare with main. One with an underscore is left to the
# programs (KERAS_BACKEND, HTTPS_PROXY), and those of an outer make are none of ours.
VARIABLES = BASE ENGINE EXTRAS FORMAT JOBS K KEY PARTS PYTHON REMOTE REV VERIFY WHO
given = $(foreach each,$(.VARIABLES),$(if $(findstring command,$(origin $(each))),$(if $(findstring _,$(each)),,$(each))))
unknown := $(filter-out $(VARIABLES) SETUP SHELL MAKEFLAGS,$(given))
$(if $(and $(unknown),$(filter 0,$(MAKELEVEL))),$(error no such variable: $(unknown); there are $(VARIABLES)))

# What a variable holds goes to the shell as it is: as words in quotes, or as an option that is left out where there is nothing.
quote = '$(subst ','\'',$1)'
quoted = $(foreach each,$(value $1),$(call quote,$(each)))
option = $(if $(value $2),--$1 $(call quote,$(value $2)))

.PHONY: repro merge test test-all roots setup setup-ray setup-bench setup-tests help lint lock verify sign trust readme replicates bench faults
.PHONY: push pull check-cache gate report screenshot experiments ci-repro ci-recorded ci-report
.DELETE_ON_ERROR:
.NOTPARALLEL:  # `make -j repro gate` would compare before there are results

repro: setup            ## run the pipeline to the end; JOBS=2: so many stages at a time (JOBS=auto: as cores and memory allow)
	.venv/bin/python -m tools.run.repro $(call option,jobs,JOBS)

merge: setup            ## after `git merge`, rebase or cherry-pick: resolve what the pipeline makes, run the rest
	.venv/bin/python -m tools.run.merge $(call option,jobs,JOBS)

replicates: setup $(and $(filter ray,$(value ENGINE)),setup-ray)  ## train every version with several seeds (JOBS=2: two versions at a time); ENGINE=ray: at once, on a Ray cluster
	$(if $(filter-out local ray,$(value ENGINE)),$(error ENGINE=$(value ENGINE): allowed: ray, or local))
	.venv/bin/python -m $(if $(filter ray,$(value ENGINE)),tools.run.replicates_on_ray,tools.run.repro $(call option,jobs,JOBS) replicates/dvc.yaml)

verify: setup           ## rerun a revision (REV=..., default HEAD) from nothing, compare it with its dvc.lock and state what came out
	.venv/bin/python -m tools.verify $(call option,rev,REV) $(call option,who,WHO)

sign: setup             ## sign your statement about a revision (REV=...) with your SSH key (KEY=...)
	.venv/bin/python -m tools.verify.trust sign $(call option,rev,REV) $(call option,who,WHO) $(call option,key,KEY)

trust: setup            ## count the signers who saw the same bytes of a revision (REV=...); fails below K (default 2)
	@.venv/bin/python -m tools.verify.trust count $(call option,rev,REV) $(call option,least,K)

gate: setup             ## compare the metrics with a revision (BASE=..., default main); fails where one got too much worse
	@.venv/bin/python -m tools.compare.gate $(call option,base,BASE)

report: setup           ## the report; with BASE=revision, that one's figures beside today's; FORMAT=text (for a terminal), markdown (for a pull request)
	$(if $(filter-out html text markdown,$(value FORMAT)),$(error FORMAT=$(value FORMAT): allowed: html, text, or markdown))
	@.venv/bin/python -m tools.compare.$(if $(filter html,$(value FORMAT)),report,summary $(call option,format,FORMAT)) $(call option,base,BASE)

# Neither the times nor the hashes of files.
experiments: NOT_SHOWN = Created|[^:]*/[^:]*$$|assets.yaml$$
experiments: setup      ## table of the experiments: what was changed, and the metrics
	@.venv/bin/python -m dvc exp show --only-changed --drop '$(NOT_SHOWN)'

ci-repro: setup         ## fetch what a remote or the run-cache has, and run the other stages
	.venv/bin/python -m tools.run.repro --pull

ci-recorded: setup      ## fail if dvc.lock and metrics/ in Git are not what the pipeline gives
	@changed=$$(git status --porcelain --untracked-files=all --ignored=matching -- dvc.lock metrics) || exit 1; \
		changed=$$(echo "$$changed" | grep -vE '[.](part|DS_Store)$$'); test -z "$$changed" || \
		{ echo "error: commit what \`dvc repro\` gives; not in Git as it is here:"; echo "$$changed"; exit 1; } >&2

ci-report: setup        ## write the report to report.md and to the summary of GitHub's job
	@.venv/bin/python -m tools.compare.summary --format markdown $(call option,base,BASE) > report.md.part
	@mv report.md.part report.md
	@cat report.md >> "$${GITHUB_STEP_SUMMARY:-/dev/null}"

screenshot: setup       ## take the README's image of the report; needs chromium and chromium-driver
	.venv/bin/python -m tools.docs.screenshot

faults: setup           ## break runs on purpose, many times, and write what happened to docs/faults.md
	.venv/bin/python -m tools.faults --write docs/faults.md

push: setup             ## send results and run-cache to the remote (REMOTE=..., default DVC's; VERIFY=1 mends wrong bytes there)
	.venv/bin/python -m tools.run.sharing push $(call option,remote,REMOTE) $(if $(VERIFY),--verify)

pull: setup             ## fetch them, check every byte and put them in place (REMOTE=...)
	.venv/bin/python -m tools.run.sharing pull $(call option,remote,REMOTE)

check-cache: setup      ## compare the cache with its hashes, remove what is wrong, mend it from the remote (REMOTE=...)
	.venv/bin/python -m tools.run.sharing cache $(call option,remote,REMOTE)

readme: setup           ## write the tables of README.md and docs/ anew
	.venv/bin/python -m tools.docs.readme

bench: setup setup-bench  ## measure everything side by side; nothing else may run meanwhile; PARTS="networks ray scaling": these, which take longer
	.venv/bin/python -m benchmarks $(call quoted,PARTS)
	.venv/bin/python -m tools.docs.readme

# Two at a time: three gained nothing on two cores.
PYTEST = .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: setup             ## the tests that take minutes in all
	$(PYTEST) -m "not slow"

test-all: setup setup-tests  ## these and the tests marked `slow`, with all extras that they need; what CI runs
	$(PYTEST)

roots: setup            ## the steps of the Dockerfile in a fresh Debian, and Arm64 where qemu is; needs root and debootstrap
	ROOTS=1 .venv/bin/python -m pytest --capture no --durations 0 tests/pipeline/test_roots.py

lint: setup             ## check the code style
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

help:                   ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

setup:                  ## build .venv from the locks, or mend it; with extras: EXTRAS="ray s3 ssh jax gpu"
	@test -d .venv || $(PYTHON) -S -c 'import sys; sys.version_info < (3, 8) and sys.exit("error: %s is older than Python 3.8; name a later one with `make PYTHON=...`" % sys.executable)'
	@$(SETUP) $(call quoted,EXTRAS)

setup-ray setup-bench: setup
	@$(SETUP) $(@:setup-%=%)

setup-tests: setup
	@$(SETUP) s3 ssh ray jax

# Resolve requirements/*.in anew, each with the versions of those before it. Hashes, no addresses; one resolution for
# all promised Pythons.
LOCKS = compute report pipeline setup dev s3 ssh ray jax gpu bench
LOCK = .uv/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:                   ## resolve requirements/*.in anew into the hashed locks
	@$(SETUP) --uv
	@before=; for name in $(LOCKS); do \
		$(LOCK) $$before requirements/$$name.in -o requirements/$$name.txt || exit 1; \
		before="$$before -c requirements/$$name.txt"; \
	done
