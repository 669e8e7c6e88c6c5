"""Rerun the whole pipeline of a commit in a temporary clone and compare what comes out with what the commit records.

The clone starts with an empty DVC cache, no run-cache and no remote, so that every stage works. One line for each
output says `same` or `different`; the last line is the verdict, with exit status 0, 0 and 1: `reproduced to the bit`,
`reproduced within tolerance` (on a platform for which the bits are not promised) or `not reproduced`.
Nothing in the checkout changes. TMPDIR decides where the clone lies; it needs about 0.5 GB.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.common import cli, environment, locks
from stages.common.cli import UserError
from stages.download import fetch
from tools.checkout import HOOK_VARIABLES, ROOT, commit_of, git, top
from tools.verify import promise
from tools.verify.compare import Outcome, compare, read_lock, verdict

ON_JAX = environment.KERAS_BACKEND == "jax"
LOCKS = ["requirements/compute.txt", "requirements/report.txt"] + ["requirements/jax.txt"] * ON_JAX
OLDER_LOCKS = ["requirements.txt", "requirements-report.txt"] + ["requirements-jax.txt"] * ON_JAX
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
    repository, prefix = top()
    whole = folder / "rerun"
    committed, rerun = folder / "committed", whole / prefix
    git(folder, "init", "--quiet", "--template=", str(whole))
    git(whole, "-c", "protocol.version=2", "fetch", "--quiet", "--depth=1", "--no-tags", str(repository), commit)
    git(whole, "checkout", "--quiet", "--detach", commit)
    for name in ("dvc.yaml", "dvc.lock"):
        if not (rerun / name).is_file():
            raise UserError(f"{commit[:12]} has no {name}, so that there is nothing to rerun or to compare with")
    shutil.copytree(rerun, committed, ignore=shutil.ignore_patterns(".git"), symlinks=True)
    (rerun / "dvc.lock").unlink()  # what the rerun records comes from the rerun alone
    cache = os.path.relpath(folder / "cache", rerun / ".dvc")
    (rerun / ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n")
    (rerun / DOWNLOADS).mkdir(parents=True)
    for file in (ROOT / DOWNLOADS).glob("*"):
        if re.fullmatch("[0-9a-f]{64}", file.name):
            (rerun / DOWNLOADS / file.name).symlink_to(file)
    return committed, rerun


def check_versions(folder: Path, commit: str) -> None:
    """UserError if this environment has not the library versions that the commit pins: they are part of the result.

    On JAX a package may be missing, as TensorFlow and what it needs; a stage says so if it is one that it needs.
    """
    texts = [(folder / name).read_text("utf-8") for name in LOCKS + OLDER_LOCKS if (folder / name).is_file()]
    if not texts:
        raise UserError(
            f"{commit[:12]} has no {LOCKS[0]}, so that nobody knows which libraries its results were made with"
        )
    wanted = {name: version for text in texts for name, version in locks.pins(text).items()}
    here = locks.installed(sys.path)
    wrong = locks.differences(wanted, here) + ([] if ON_JAX else locks.missing(wanted, here))
    if wrong:
        raise UserError(
            f"{commit[:12]} pins other library versions than this environment has: {'; '.join(wrong)}.\n"
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


def verify(rev: str, folder: Path) -> tuple[list[Outcome], list[str]]:
    """Clone, rerun and compare; `folder` is an empty one, to be removed afterwards.

    Returns:
        The outcomes, and why the bits are not promised for this commit on this machine.
    """
    commit = commit_of(rev)
    cli.log(f"verifying {rev} ({commit[:12]}) in {folder}")
    committed, rerun = clone(commit, folder)
    reasons = promise.why_not(committed / "params.yaml")
    check_versions(committed, commit)
    read_lock(committed / "dvc.lock")
    run_pipeline(rerun, clean_environment(folder))
    untracked = git(rerun, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    return compare(committed, rerun, [name for name in untracked if name]), reasons


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rev", default="HEAD", help="branch, tag or commit (default: what is checked out)")
    parser.add_argument("--tolerance", action="store_true", help="compare within tolerance even on a promised platform")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder, and name it")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="verify-")).resolve()
    try:
        outcomes, reasons = verify(args.rev, folder)
        reasons += ["asked for by --tolerance"] * args.tolerance
    finally:
        ignore_signals()
        if args.keep:
            cli.log(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    print(*outcomes, sep="\n")
    if reasons:
        print(f"compared within tolerance: {'; '.join(reasons)}")
    reproduced, line = verdict(outcomes, tolerant=bool(reasons))
    print(line)
    sys.exit(0 if reproduced else 1)
