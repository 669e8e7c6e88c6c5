"""Exchange results with a remote, check the cache and mend it: `push`, `pull` and `cache`.

push   sends what dvc.lock and *.dvc files record, and the run-cache (what was computed before) with all that it names.
pull   fetches what they record and the run-cache, checks every byte, and puts the files in place.
cache  compares each object of the cache with the hash in its name, removes the wrong ones, and mends what is recorded.

Each can be interrupted and run again. DVC's own `push` sends no results that are in Git, so that the run-cache is of no
use elsewhere. It also counts a folder as complete when only its list of files is there. DVC's push and pull report some errors as missing files.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from dvc.config import NoRemoteError, RemoteNotFoundError
from dvc.data_cloud import Remote
from dvc.exceptions import DvcException
from dvc.fs import RemoteMissingDepsError
from dvc.repo import Repo

from stages.common import cli
from stages.common.cli import UserError
from tools.checkout import refuse_unmerged
from tools.names import first_few
from tools.run import alone
from tools.run.sharing.objects import ENTRY, OBJECTS, RUNS, is_right, lacking, recorded, remove_wrong, run_cache
from tools.run.sharing.remotes import advice, called, copy, is_right_there, remote_of, sizes, talking_to
from tools.verify.compare import md5


def push(repo: Repo, cache: Remote, remote: Remote, verify: bool) -> None:
    """Send what the remote does not have, or has with another size; with `verify`, also what it has with other bytes.

    The list of a folder is sent after its files, and the run-cache last. So what the remote has is always complete.
    """
    folder = Path(cache.path)
    lost = lacking(repo, folder)
    wanted = {name: path for name, path in (recorded(repo, folder) | run_cache(folder)).items() if name not in lost}
    if wrong := [path for name, path in wanted.items() if not is_right(folder / name)]:
        raise UserError(f"wrong bytes in the cache for {first_few(wrong)}; run `make check-cache`; nothing was sent")
    there = sizes(remote, wanted)
    if verify:
        there = {name: size for name, size in there.items() if name.startswith(RUNS) or is_right_there(remote, name)}
    missing = [name for name in wanted if there.get(name) != (folder / name).stat().st_size]
    for part in (0, 1, 2):
        names = [name for name in missing if name.endswith(".dir") + 2 * name.startswith(RUNS) == part]
        if failed := copy(cache, remote, names, "Sending"):
            what = advice(next(iter(failed.values())))
            raise UserError(f"{called(remote)} did not take {first_few(wanted[name] for name in failed)}: {what}; "
                            "then `make push` sends the rest")  # fmt: skip
    cli.log(f"{called(remote)}: {len(missing)} files sent, {len(wanted) - len(missing)} were there")
    if lost:
        raise UserError(f"the cache lacks {first_few(lost.values())}; run `make pull` or `dvc repro`, then `make push`")


def fetch(repo: Repo, remote: Remote, cache: Remote, names: Iterable[str]) -> dict[str, BaseException]:
    """Copy the named files into the cache, with the rights that `cache.shared` asks for; return what failed."""
    names, odb = list(names), repo.cache.local
    for folder in sorted({Path(cache.path, name).parent for name in names}):
        odb.makedirs(str(folder))
    failed = copy(remote, cache, names, "Fetching")
    for path in filter(Path.is_file, (Path(cache.path, name) for name in names)):
        path.chmod(odb.CACHE_MODE if path.parents[2].name != RUNS else odb._file_mode)  # as DVC does it
    return failed


def pull(repo: Repo, cache: Remote, remote: Remote) -> None:
    """Fetch what is recorded and not in the cache, and the run-cache; keep nothing that is wrong."""
    folder = Path(cache.path)
    for _ in ("the lists of folders", "their files"):
        wanted = lacking(repo, folder)
        there = sizes(remote, wanted)
        failed = fetch(repo, remote, cache, there)
        wrong = remove_wrong(folder / name for name in there)
    if remote.fs.protocol not in ("http", "https"):  # which list no files
        with talking_to(remote):
            found = list(remote.fs.find(remote.fs.join(remote.path, RUNS)))
        names = [f"{RUNS}/" + "/".join(remote.fs.parts(path)[-3:]) for path in found if ENTRY.search(path)]
        failed |= fetch(repo, remote, cache, (name for name in names if not (folder / name).is_file()))
        remove_wrong(folder / name for name in names)
    if failed:
        what = advice(next(iter(failed.values())), place="here")
        raise UserError(f"{called(remote)} did not give {first_few(wanted.get(name, name) for name in failed)}: {what}; "
                        "then `make pull` fetches the rest")  # fmt: skip
    lost = [path for name, path in wanted.items() if name not in there]
    bad = [path for name, path in wanted.items() if folder / name in wrong]
    said = {"lacks": lost, "has wrong bytes for": bad}
    if problems := [f"{what} {first_few(paths)}" for what, paths in said.items() if paths]:
        raise UserError(f"{called(remote)} {' and '.join(problems)}; run `make push{' VERIFY=1' if bad else ''}` where the "
                        "results are, or `dvc repro` here, which computes them")  # fmt: skip


def cached(folder: Path) -> list[Path]:
    """The files of a cache: objects, and entries of the run-cache."""
    return sorted(folder.glob(f"{OBJECTS}/??/*")) + sorted(folder.glob(f"{RUNS}/??/*/*"))


def put_in_place(repo: Repo) -> list[OSError]:
    """`dvc checkout` without what nothing is recorded of; return why files failed, which DVC tells its debug log alone."""
    causes, log, handler = [], logging.getLogger("dvc.repo.checkout"), logging.Handler()
    handler.emit = lambda record: causes.extend(e for e in record.exc_info or () if isinstance(e, OSError))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False  # so that nothing of it is printed
    repo.checkout(allow_missing=True)
    return causes


def mend(repo: Repo, cache: Remote, command: str, remote: str | None) -> None:
    """`pull` and `cache`: remove what is wrong in the cache, fetch what is missing, put everything in place."""
    folder = Path(cache.path)
    alone.check_cache(folder)
    alone.check_links(repo.cache.local)
    everything = cached(folder)
    removed = remove_wrong(everything)
    if removed:
        cli.log(f"removed from the cache, {len(removed)} of {len(everything)} files: not what their names say")
    try:
        if command == "pull" or lacking(repo, folder):
            pull(repo, cache, remote_of(repo, remote, command))
    except NoRemoteError:
        if command == "pull":
            raise
        raise UserError(f"the cache lacks {first_few(lacking(repo, folder).values())}, and there is no remote; "
                        "run `dvc repro`, which computes what is missing") from None  # fmt: skip
    finally:
        for name, path in recorded(repo, folder).items():
            if (folder / name) in removed and Path(path).is_file() and md5(Path(path)) == removed[folder / name]:
                Path(path).unlink()  # it came from the wrong object
        causes = put_in_place(repo)
    if lost := [path for path in recorded(repo, folder).values() if not Path(path).exists()]:
        why = cli.explain_os_error(causes[0]) if causes else "`dvc checkout --verbose` says why"
        raise UserError(f"{first_few(lost)} cannot be put in place: {why}")
    cli.log(f"the cache is right: {len(cached(folder))} files checked, and everything recorded is in place")


def main() -> None:
    """Read the command line and do it."""
    parser = cli.described(__doc__)
    parser.add_argument("command", choices=("push", "pull", "cache"))
    parser.add_argument("--remote", help="the name of a remote (default: DVC's default remote)")
    parser.add_argument("--verify", action="store_true", help="push: read what the remote has, mend what is wrong")
    arguments = parser.parse_args()
    refuse_unmerged()
    if arguments.command != "push":  # which changes nothing here
        alone.take_lock()
        alone.wait_for_others()
    try:
        with Repo(_wait_for_lock=True) as repo:
            cache = Remote("cache", repo.cache.local_cache_dir, repo.cache.local.fs)
            if arguments.command == "push":
                push(repo, cache, remote_of(repo, arguments.remote, "push"), arguments.verify)
            else:
                mend(repo, cache, arguments.command, arguments.remote)
    except NoRemoteError:
        raise UserError("no remote is set; `dvc remote add --default NAME ADDRESS` sets one (see docs/sharing.md), or name one "
                        "with REMOTE=...") from None  # fmt: skip
    except RemoteNotFoundError as error:
        raise UserError(f"{error}; `dvc remote list` shows those that there are") from None
    except (ImportError, RemoteMissingDepsError) as error:
        raise UserError(f"{error}; `make setup EXTRAS=s3` brings what S3 needs, `EXTRAS=ssh` what SSH needs") from None
    except DvcException as error:  # an edited output, or another: there is no such option here
        raise UserError(str(error).replace("Use `--force` to force.", "Move them away, and run it again:")) from None


if __name__ == "__main__":
    cli.run(main)
