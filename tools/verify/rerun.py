"""Rerun the whole pipeline of a commit in a temporary clone and compare what comes out with what the commit records.

The clone starts with an empty DVC cache, no run-cache and no remote, so that every stage works. One line for each
output says `same` or `different`; the last line is the verdict, with exit status 0, 0 and 1: `reproduced to the bit`,
`reproduced within tolerance` (on a platform for which the bits are not promised) or `not reproduced`.
Nothing in the checkout changes, except that a statement of what came out is written to verification/ (statement.py), for
`make sign`; it is about the commit, whatever the checkout holds. TMPDIR decides where the clone lies; it needs about 0.5 GB.
"""

import argparse
import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from stages.common import cli, environment, files
from stages.common.cli import UserError
from stages.download import fetch
from tools.checkout import HOOK_VARIABLES, ROOT, commit_of, git
from tools.verify import promise, statement
from tools.verify.compare import Outcome, compare, read_lock, verdict

ON_JAX = environment.KERAS_BACKEND == "jax"
LOCKS = ("requirements.txt", "requirements-report.txt") + ("requirements-jax.txt",) * ON_JAX
DOWNLOADS = ".dvc/tmp/assets"  # the download stage's folder of files named by their SHA-256

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# ------------------------------------------------------------------------------------------------------- the clone


def clean_environment(folder: Path) -> dict[str, str]:
    """The user's environment, but no cache, repository, setting or temporary file of anything outside `folder`."""
    dropped = HOOK_VARIABLES | environment.PINNED.keys()
    kept = {key: value for key, value in os.environ.items() if key not in dropped and not key.startswith("DVC_")}
    mirrors = [name if "://" in name else str(ROOT / Path(name).expanduser()) for name in fetch.named_mirrors()]
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TMPDIR": str(folder),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "config"),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        fetch.MIRROR_VARIABLE: "\n".join(mirrors),
    }


def clone(commit: str, folder: Path) -> tuple[Path, Path]:
    """Make a clone of `commit` without any history, and a second copy of its files to compare with.

    The files that the checkout has downloaded already are linked, not trusted: the download stage hashes each of them.
    """
    committed, rerun = folder / "committed", folder / "rerun"
    git(folder, "init", "--quiet", "--template=", str(rerun))
    git(rerun, "-c", "protocol.version=2", "fetch", "--quiet", "--depth=1", "--no-tags", str(ROOT), commit)
    git(rerun, "checkout", "--quiet", "--detach", commit)
    for name in ("dvc.yaml", "dvc.lock", "requirements.txt"):
        if not (rerun / name).is_file():
            raise UserError(f"{commit[:12]} has no {name}, so that there is nothing to rerun or to compare with")
    shutil.copytree(rerun, committed, ignore=shutil.ignore_patterns(".git"), symlinks=True)
    (rerun / "dvc.lock").unlink()  # what the rerun records comes from the rerun alone
    (rerun / ".dvc/config.local").write_text("[cache]\n    dir = ../../cache\n")
    (rerun / DOWNLOADS).mkdir(parents=True)
    for file in (ROOT / DOWNLOADS).glob("*"):
        if re.fullmatch("[0-9a-f]{64}", file.name):
            (rerun / DOWNLOADS / file.name).symlink_to(file)
    return committed, rerun


def check_versions(requirements: Path, commit: str) -> None:
    """UserError if this environment has not the library versions that the commit pins: they are part of the result.

    On JAX a package may be missing, as TensorFlow and what it needs; a stage says so if it is one that it needs.
    """
    wrong = []
    pins = [line.rstrip(" \\") for line in requirements.read_text("utf-8").splitlines() if line[:1].isalnum()]
    for pin in map(Requirement, pins):
        if pin.marker is None or pin.marker.evaluate():
            here = next((found.version for found in importlib.metadata.distributions(name=pin.name)), None)
            missing = here is None and not ON_JAX
            if missing or (here and not pin.specifier.contains(here, prereleases=True)):
                wrong.append(f"{pin.name}{pin.specifier} (here: {here or 'not installed'})")
    if wrong:
        raise UserError(
            f"{commit[:12]} pins other library versions than this environment has: {', '.join(wrong)}.\n"
            "A rerun with these would prove nothing. Check that commit out in a clone of its own and run "
            "`make verify` there, which installs what it pins."
        )


def run_pipeline(rerun: Path, env: dict[str, str]) -> None:
    """Run every stage anew; what the stages print goes to standard error."""
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", "--no-commit"]
    process = subprocess.Popen(command, cwd=rerun, env=env, stdout=sys.stderr, start_new_session=True)
    try:
        status = process.wait()
    except BaseException:
        ignore_signals()
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(10)
        raise
    if status:
        raise UserError(f"the pipeline stopped with status {status}, as its messages above say, without a verdict")


def ignore_signals() -> None:
    """Let nothing interrupt the clearing up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@dataclass(frozen=True)
class Seen:
    """What a rerun of a commit gave: outcomes, why other bits are no surprise, and SHA-256 of outputs and of locks."""

    commit: str
    outcomes: list[Outcome]
    not_promised: list[str]
    digests: dict[str, str]
    locks: dict[str, str]


def verify(rev: str, folder: Path, tolerant: bool) -> Seen:
    """Clone, rerun and compare; `folder` is an empty one, to be removed afterwards; `tolerant`: as on another platform."""
    commit = commit_of(rev)
    cli.log(f"verifying {rev} ({commit[:12]}) in {folder}")
    committed, rerun = clone(commit, folder)
    reasons = promise.why_not(committed / "params.yaml") + ["asked for by --tolerance"] * tolerant
    locks = [name for name in LOCKS if (committed / name).is_file()]  # an older commit may lack the report's, or JAX's
    for name in locks:
        check_versions(committed / name, commit)
    read_lock(committed / "dvc.lock")
    run_pipeline(rerun, clean_environment(folder))
    untracked = git(rerun, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    outcomes = compare(committed, rerun, [name for name in untracked if name])
    digests = statement.hash_outputs(committed, rerun)
    return Seen(commit, outcomes, reasons, digests, {name: files.sha256(committed / name) for name in locks})


def state(seen: Seen, reproduced: bool, line: str, who: str) -> None:
    """Write the statement of what was seen; where that fails, warn: the verdict stands without it."""
    bits = all(outcome.level == "same" for outcome in seen.outcomes)
    try:
        predicate = statement.Predicate(
            commit=seen.commit,
            reproduced="bits" if bits else "tolerance" if reproduced else "no",
            verdict=line,
            not_promised=seen.not_promised,
            machine=statement.machine(),
            python=platform.python_version(),
            locks=seen.locks,
        )
        path = statement.path_of(seen.commit, who)
        statement.write(statement.make(predicate, seen.digests), path)
    except (OSError, ValueError) as error:
        reason = cli.explain_os_error(error) if isinstance(error, OSError) else error
        cli.warn(f"no statement: {reason}")
    else:
        cli.log(f"statement: {path.relative_to(ROOT)}; `make sign` signs it")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rev", default="HEAD", help="branch, tag or commit (default: what is checked out)")
    parser.add_argument("--tolerance", action="store_true", help="compare within tolerance even on a promised platform")
    parser.add_argument("--who", default=statement.who(), help="name of the statement's file (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder, and name it")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="verify-")).resolve()
    try:
        seen = verify(args.rev, folder, args.tolerance)
    finally:
        ignore_signals()
        if args.keep:
            cli.log(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    print(*seen.outcomes, sep="\n")
    if seen.not_promised:
        print(f"compared within tolerance: {'; '.join(seen.not_promised)}")
    reproduced, line = verdict(seen.outcomes, tolerant=bool(seen.not_promised))
    print(line, flush=True)
    state(seen, reproduced, line, args.who)
    sys.exit(0 if reproduced else 1)
