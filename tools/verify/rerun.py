"""Rerun the whole pipeline of a commit in a temporary clone and compare what comes out with what the commit records.

The clone starts with an empty DVC cache, no run-cache and no remote, so that every stage works. One line for each
output says `same` or `different`; the last line is the verdict, with exit status 0, 0 and 1: `reproduced to the bit`,
`reproduced within tolerance` (on a platform for which the bits are not promised) or `not reproduced`.
Nothing in the checkout changes, except that a statement of what came out is written to verification/ (statement.py), for
`make sign`; it is about the commit, whatever the checkout holds. TMPDIR decides where the clone lies; it needs about 0.5 GB.
"""

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.common import cli, environment, files, locks, paths
from stages.common.cli import UserError
from stages.common.yaml_files import load_yaml
from stages.download import mirrors
from tools.checkout import ASTRAY, ROOT, commit_of, complete, git, top
from tools.verify import promise, statement
from tools.verify.compare import Outcome, compare, read_lock, verdict

ON_JAX = environment.KERAS_BACKEND == "jax"
LOCKS = ["requirements/compute.txt", "requirements/report.txt"] + ["requirements/jax.txt"] * ON_JAX


def clean_environment(folder: Path) -> dict[str, str]:
    """The user's environment, but no cache, repository, setting or temporary file of anything outside `folder`."""
    dropped = ASTRAY | environment.PINNED.keys()
    kept = {key: value for key, value in os.environ.items() if key not in dropped and not key.startswith("DVC_")}
    named = [str(ROOT / place) if (place := mirrors.folder_of(each)) else each for each in mirrors.named_mirrors()]
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TMPDIR": str(folder),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "config"),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        mirrors.VARIABLE: "\n".join(named),
    }


def clone(commit: str, folder: Path) -> tuple[Path, Path]:
    """Make a clone of `commit` without any history, and a second copy of its files to compare with.

    The files that the checkout has downloaded already are linked, not trusted: the download stage hashes each of them.
    """
    repository, prefix = top()
    whole = folder / "rerun"
    committed, rerun = folder / "committed", whole / prefix
    complete(commit)
    kind = git(ROOT, "rev-parse", "--show-object-format").strip()  # whatever this user's Git makes new ones with
    git(folder, "init", "--quiet", "--template=", f"--object-format={kind}", str(whole))
    settings = ["-c", "protocol.version=2", "-c", "protocol.file.allow=always"]
    git(whole, *settings, "fetch", "--quiet", "--depth=1", "--no-tags", str(repository), commit)
    storage = git(ROOT, "rev-parse", "--path-format=absolute", "--git-common-dir").strip() + "/lfs"  # of Git LFS
    git(whole, "-c", f"lfs.storage={storage}", "checkout", "--quiet", "--detach", commit)
    for name in ("dvc.yaml", "dvc.lock"):
        if not (rerun / name).is_file():
            raise UserError(f"{commit[:12]} has no {name}, so that there is nothing to rerun or to compare with")
    shutil.copytree(rerun, committed, ignore=shutil.ignore_patterns(".git"), symlinks=True)
    (rerun / "dvc.lock").unlink()  # what the rerun records comes from the rerun alone
    cache = os.path.relpath(folder / "cache", rerun / ".dvc")
    (rerun / ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n")
    (rerun / paths.DOWNLOADS).mkdir(parents=True)
    for file in (ROOT / paths.DOWNLOADS).glob("*"):
        if re.fullmatch("[0-9a-f]{64}", file.name):
            (rerun / paths.DOWNLOADS / file.name).symlink_to(file)
    return committed, rerun


def locks_in(folder: Path) -> list[Path]:
    """The locks of what decides a result that a copy of the project has."""
    return [folder / name for name in LOCKS if (folder / name).is_file()]


def check_versions(folder: Path, commit: str) -> None:
    """Raise UserError unless this environment has the library versions that the commit pins: they are part of the result.

    On JAX a package may be missing, as TensorFlow and what it needs; a stage says so if it is one that it needs.
    """
    texts = [path.read_text("utf-8") for path in locks_in(folder)]
    if not texts:
        raise UserError(f"{commit[:12]} has no {LOCKS[0]}: check it out in a clone of its own and verify it there")
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
        raise UserError(f"the pipeline stopped with status {status}, as its messages above say; there is no verdict")


def ignore_signals() -> None:
    """Let nothing interrupt the clearing up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def verify(rev: str, folder: Path, tolerant: bool) -> tuple[list[Outcome], dict, dict[str, str]]:
    """Clone, rerun and compare.

    Args:
        folder: an empty one, to be removed afterwards.
        tolerant: compare as on another platform.

    Returns:
        The outcomes; of `statement.Predicate` what is known by then; and the SHA-256 of the outputs, by path.
    """
    commit = commit_of(rev)
    cli.log(f"verifying {rev} ({commit[:12]}) in {folder}")
    committed, rerun = clone(commit, folder)
    params = load_yaml(committed / "params.yaml")
    reasons = promise.why_not(params) + ["asked for by --tolerance"] * tolerant
    check_versions(committed, commit)
    read_lock(committed / "dvc.lock")
    run_pipeline(rerun, clean_environment(folder))
    own = f"core.excludesFile={os.devnull}"  # what the user's list ignored in a commit is missing there
    untracked = git(rerun, "-c", own, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    outcomes = compare(committed, rerun, [name for name in untracked if name])
    hashed = {str(path.relative_to(committed)): files.sha256(path) for path in locks_in(committed)}
    about = {"commit": commit, "not_promised": reasons, "locks": hashed}
    return outcomes, about, statement.hash_outputs(committed, rerun)


def state(about: dict, digests: dict[str, str], who: str) -> None:
    """Write the statement of what was seen; where that fails, warn: the verdict stands without it."""
    try:
        predicate = statement.Predicate(**about, machine=statement.machine(), python=platform.python_version())
        path = statement.path_of(predicate.commit, who)
        statement.write(statement.make(predicate, digests), path)
    except (OSError, ValueError) as error:
        reason = cli.explain_os_error(error) if isinstance(error, OSError) else error
        cli.warn(f"no statement: {reason}")
    else:
        cli.log(f"statement: {path.relative_to(ROOT)}; `make sign` signs it")


def main() -> None:
    """Command line."""
    parser = cli.described(__doc__, prog="python -m tools.verify")
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
        outcomes, about, digests = verify(args.rev, folder, args.tolerance)
    finally:
        ignore_signals()
        if args.keep:
            cli.log(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    print(*outcomes, sep="\n")
    if reasons := about["not_promised"]:
        print(f"compared within tolerance: {'; '.join(reasons)}")
    reproduced, line = verdict(outcomes, tolerant=bool(reasons))
    print(line, flush=True)
    state(about | {"reproduced": reproduced, "verdict": line}, digests, args.who)
    sys.exit(reproduced == "no")
