"""`dvc repro`, alone in this checkout, stages side by side if wanted, and the results at the end. Takes its arguments.

All of params.yaml is checked before DVC reads it: DVC has no limits, and would name a mistake after hours.

DVC knows a result by the command, the files and the params that it was made from. Where something else chose other bits
(see tools/verify/promise.py), the result stays out of DVC's cache: others would get it in place of the promised one.
"""

import argparse
import sys

from dvc.exceptions import DvcException

from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.params import load_params
from tools.checkout import ROOT, unmerged
from tools.run import alone, images, jobs, prune, results, watched
from tools.verify import promise


def number_of_jobs(text: str) -> int | None:
    """JOBS as a number; None for `auto`, which is decided from params.yaml."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither `auto` nor a number from 1 on")
    return int(text)


def recorded() -> list[bytes]:
    """The content of the files that DVC records results in."""
    return [(ROOT / path).read_bytes() for path in alone.LOCKS if (ROOT / path).exists()]


def main() -> None:
    """Command line."""
    parser = cli.described(__doc__, allow_abbrev=False)
    parser.add_argument("--jobs", type=number_of_jobs, default=1, help="stages at a time, or auto (default: 1)")
    args, others = parser.parse_known_args()
    watched.parse_once()
    params = load_params(paths.PARAMS).model_dump()
    images.check(params["inference"]["images"])
    count = args.jobs or jobs.fitting(params)
    targets = [each for each in others if not each.startswith("-")]
    if count > 1 and targets != others:
        raise UserError(f"{' '.join(others)}: with --jobs, name stages or files of stages alone")
    lock = alone.wait()
    if unmerged():
        from tools.run import merge  # which takes long to import

        merge.prepare()
    prune.prune()
    prune.prune_weights(params["models"])
    kept_out = []
    if reasons := promise.not_recorded(params):
        kept_out = ["--no-commit"]  # `--no-run-cache` reads none, but still writes it
        cli.warn(
            f"{'; '.join(reasons)}: the results have other bits than the promised ones, so they stay out of DVC's cache; "
            "`git checkout dvc.lock metrics` and `dvc checkout` bring the promised ones back"
        )
    before = recorded()
    try:
        if count > 1:
            jobs.run(targets, count, kept_out, lock)
        elif watched.repro([*kept_out, *others]):
            sys.exit(1)  # DVC has said why
    except DvcException as error:
        raise UserError(str(error)) from None
    finally:
        if recorded() != before:
            jobs.put_in_order()
    if not others:
        print("", *results.lines(), sep="\n")


if __name__ == "__main__":
    cli.run(main)
