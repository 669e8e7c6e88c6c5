# Every command of the project. `make repro` and `make test` need python3 (3.11 to 3.13), git and make.
PYTHON ?= python3
EXTRAS ?=
FORMAT ?= html
USER ?= $(shell id -u)
export USER  # DVC asks for it; a container's user may have no name
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation

.PHONY: repro test setup lint lock verify sign trust readme replicates bench faults push pull check-cache
.PHONY: gate report screenshot experiments ci-repro ci-recorded ci-report
.DELETE_ON_ERROR:

repro: setup            ## run the pipeline to the end
	.venv/bin/python -m stages.common.params params.yaml
	.venv/bin/python -m tools.run.repro

replicates: setup $(and $(filter ray,$(ENGINE)),.venv/requirements-ray.done)  ## train every version with several seeds; ENGINE=ray: at once, on a Ray cluster
	.venv/bin/python -m $(if $(filter ray,$(ENGINE)),tools.run.replicates_on_ray,tools.run.repro replicates/dvc.yaml)

verify: setup           ## rerun a revision (REV=..., default HEAD) from nothing, compare it with its dvc.lock and state what came out
	.venv/bin/python -m tools.verify $(if $(REV),--rev $(REV)) $(if $(WHO),--who $(WHO))

sign: setup             ## sign your statement about a revision (REV=...) with your SSH key (KEY=...)
	.venv/bin/python -m tools.verify.trust sign $(if $(REV),--rev $(REV)) $(if $(WHO),--who $(WHO)) $(if $(KEY),--key $(KEY))

trust: setup            ## count the signers who saw the same bytes of a revision (REV=...); fails below K (default 2)
	@.venv/bin/python -m tools.verify.trust count $(if $(REV),--rev $(REV)) $(if $(K),--least $(K))

gate: setup             ## compare the metrics with a revision (BASE=..., default main); fails where one got too much worse
	@.venv/bin/python -m tools.compare.gate --base $(or $(BASE),main)

report: setup           ## the report; with BASE=revision, that one's figures beside today's; FORMAT=text (for a terminal), markdown (for a pull request)
	@$(if $(filter html,$(FORMAT)),.venv/bin/python -m tools.compare.report $(if $(BASE),--base $(BASE)),.venv/bin/python -m tools.compare.summary --base $(or $(BASE),main) --format $(FORMAT))

# Neither the times nor the hashes of files.
experiments: NOT_SHOWN = Created|(data|metrics|models)/[^:]+$$|.*\.(py|txt|yaml)$$
experiments: setup      ## table of the experiments: what was changed, and the metrics
	@.venv/bin/dvc exp show --only-changed --drop '$(NOT_SHOWN)'

ci-repro: setup         ## fetch what a remote or the run-cache has, and run the other stages
	.venv/bin/python -m stages.common.params params.yaml
	.venv/bin/dvc repro --pull

ci-recorded: setup      ## fail if dvc.lock and metrics/ in Git are not what the pipeline gives
	@changed=$$(git status --porcelain -- dvc.lock metrics); test -z "$$changed" || \
		{ echo "error: commit what \`dvc repro\` gives; not in Git as it is here:"; echo "$$changed"; exit 1; } >&2

ci-report: setup        ## write the report to report.md and to the summary of GitHub's job
	@$(MAKE) --silent --old-file=setup report FORMAT=markdown > report.md
	@cat report.md >> "$${GITHUB_STEP_SUMMARY:-/dev/null}"

screenshot: setup       ## take the README's picture of the report; needs chromium and chromium-driver
	.venv/bin/python -m tools.docs.screenshot

faults: setup           ## break runs on purpose, many times, and write what happened to docs/faults.md
	.venv/bin/python -m tools.faults --write docs/faults.md

push: setup             ## send results and run-cache to the remote (REMOTE=..., default DVC's; VERIFY=1 mends wrong bytes there)
	.venv/bin/python -m tools.run.share push $(if $(REMOTE),--remote $(REMOTE)) $(if $(VERIFY),--verify)

pull: setup             ## fetch them, check every byte and put them in place (REMOTE=...)
	.venv/bin/python -m tools.run.share pull $(if $(REMOTE),--remote $(REMOTE))

check-cache: setup      ## compare the cache with its hashes, remove what is wrong, mend it from the remote (REMOTE=...)
	.venv/bin/python -m tools.run.share cache $(if $(REMOTE),--remote $(REMOTE))

readme: setup           ## rewrite the tables of README.md
	.venv/bin/python -m tools.docs.readme

bench: setup .venv/requirements-bench.done  ## measure everything side by side; nothing else may run meanwhile; PARTS="ray scaling": what `docs/scaling.md` reckons with
	.venv/bin/python -m benchmarks $(PARTS)
	.venv/bin/python -m tools.docs.readme

test: setup $(patsubst %,.venv/requirements-%.done,s3 ssh ray jax)  ## run the whole test suite
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile

lint: setup             ## check the code style
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

setup: .venv/requirements-report.done .venv/requirements-dev.done $(EXTRAS:%=.venv/requirements-%.done)

# The base environment is built from nothing, so that neither an interrupted build nor an older lock leaves a trace.
.venv/requirements.done: requirements.txt requirements-build.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "error: Python 3.11 to 3.13 is needed, $(PYTHON) is " + sys.version.split()[0] + "; name another with `make PYTHON=...`")'
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements-build.txt
	$(PIP) -r requirements.txt
	.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | xargs -I{} cp venv_path.pth "{}/"
	touch $@

.venv/requirements-%.done: requirements-%.txt .venv/requirements.done
	$(PIP) -r $<
	touch $@

# Resolve the *.in files anew. Hashes, no addresses; one resolution for all promised Pythons.
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	@for name in requirements $(patsubst %.in,%,$(wildcard requirements-*.in)); do $(LOCK) $$name.in -o $$name.txt || exit 1; done
