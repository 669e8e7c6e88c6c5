"""`dvc repro` that records no result of files that were edited while a stage ran.

DVC hashes what a stage depends on once more after it ran, and records the result as made from what it finds then
(treeverse/dvc#11058). Here it compares what is there with what was there before, and the stage fails if that differs.
"""

import argparse
import logging
import os
import pickle

import dvc.stage
import dvc_data.hashfile.meta
from dvc.cli import main as dvc_main
from dvc.config import Config
from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.exceptions import StageCmdFailedError
from dvc.utils import relpath
from ruamel.yaml import YAML

from stages.common import cli
from stages.common.cli import UserError
from tools.names import first_few

KILLED = "exited with 137", "exited with -9"  # SIGKILL, as the shell says it, and as Python does
SAVE_DEPS, RUN_STAGE = Stage.save_deps, dvc.stage.run_stage


def seen(stage: Stage) -> dict[str, dict[str, object]]:
    """What a stage depends on, as it is now, by dependency: inode, size and time of each file, or values of params.

    These are what DVC itself knows a file again by. A file that was edited and put back has another time: nobody knows
    which content the stage has read.
    """
    found = {}
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            found[str(dep)] = {f"{dep} ({key})": value for key, value in dep.read_params().items()}
        elif dep.exists and dep.protocol == "local":
            files = stage.repo.dvcignore.find(dep.fs, dep.fs_path) if dep.isdir() else [dep.fs_path]
            found[str(dep)] = {relpath(file): _about(file) for file in files}
    return found


def _about(file: str) -> tuple[int, int, int] | None:
    """Inode, size in bytes and time in nanoseconds; None for a link that leads nowhere."""
    try:
        about = os.stat(file)
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def _run_stage(stage: Stage, dry: bool = False, force: bool = False, **options: object) -> None:
    """DVC's function; remembers what the stage depends on before it runs, and says what its being killed may mean."""
    stage.seen_before = seen(stage)
    try:
        RUN_STAGE(stage, dry, force, **options)
    except StageCmdFailedError as error:
        if not str(error).endswith(KILLED):
            raise
        raise DvcException(
            f"{error}: it was killed, as Linux does where memory runs out, in a container of little memory for example; "
            "close other programs or give it more, and run the command again"
        ) from None


def _save_deps(stage: Stage, allow_missing: bool = False) -> None:
    """DVC's method, which hashes what is to be recorded; DvcException if that is not what was there before the run."""
    SAVE_DEPS(stage, allow_missing)
    before, now = getattr(stage, "seen_before", {}), seen(stage)
    edited = sorted(
        name
        for dep, files in before.items()
        for name in files | now.get(dep, {})
        if files.get(name) != now.get(dep, {}).get(name)
    )
    if edited:
        stage.dvcfile._lockfile.remove_stage(stage)  # what it says may by now be about other outputs
        raise DvcException(
            f"{first_few(edited)} changed while the stage "
            f"'{stage.addressing}' ran: its result may be made from either, so it is not recorded; run the command again"
        )


def watch() -> None:
    """From now on this process records nothing of edited files, and does not warn of empty ones, as folders may be.

    Nor does it record which files may be executed: on a disk of Windows, all may, and dvc.lock and the run-cache's names
    would be others.
    """
    logging.getLogger("dvc.output").addFilter(lambda record: record.msg != "'%s' is empty.")
    dvc_data.hashfile.meta.is_exec = lambda mode: False
    dvc.stage.run_stage, Stage.save_deps = _run_stage, _save_deps


def parse_once() -> None:
    """From now on this process parses a text of YAML once.

    DVC parses params.yaml for each stage, and dvc.yaml and dvc.lock several times. Processor time of DVC's check of 60
    versions: 11.0 s without this, 4.9 s with it.
    """
    load, parsed = YAML.load, {}

    def load_new(yaml: YAML, stream: object) -> object:
        if yaml.typ != ["safe"] or not isinstance(stream, str | bytes):
            return load(yaml, stream)
        text = stream if isinstance(stream, str) else stream.decode(errors="surrogateescape")
        if text not in parsed:
            parsed[text] = pickle.dumps(load(yaml, stream))
        return pickle.loads(parsed[text])  # whoever gets it may change it

    YAML.load = load_new


def repro(arguments: list[str]) -> int:
    """`dvc repro` with these arguments; its exit status. Where no remote is set, it does without `--pull`, with which DVC fails."""
    watch()
    if not Config.from_cwd()["core"].get("remote"):
        arguments = [each for each in arguments if each != "--pull"]
    return dvc_main(["--wait-for-lock", "repro", *arguments])


def main() -> None:
    """Command line: one stage alone, beside others that run in this checkout (see jobs.py)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("stage")
    parser.add_argument("--no-commit", action="store_true", help="keep the result out of DVC's cache")
    args = parser.parse_args()
    watch()
    for name in ("dvc.repo.scm_context", "dvc.dvcfile"):  # the same advice for each stage
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with Repo(_wait_for_lock=True) as repo:
            repo.reproduce(args.stage, single_item=True, no_commit=args.no_commit)
    except DvcException as error:
        raise UserError(": ".join(str(each) for each in (error, error.__cause__) if each)) from None


if __name__ == "__main__":
    cli.run(main)
