"""Turn the raw MNIST files into checked, normalised arrays."""

from pathlib import Path

import numpy as np

from stages import mnist
from stages.common import cli, paths
from stages.common.files import atomic_folder, sha256, write_array, write_sums
from stages.common.params import load_params


def normalise(images: np.ndarray) -> np.ndarray:
    """Map uint8 pixels 0..255 to float32 in [0, 1]; the only place where this happens."""
    return images / np.float32(255)


def prepare(raw: Path, out: Path) -> None:
    """Write {train,test}_{images,labels}.npy: images float32 (n, 28, 28) in [0, 1], labels uint8 (n,); and their sums.

    The folder `raw` has the four IDX files, and `out` is replaced as a whole. UserError names the raw file that is not
    MNIST's in count and shape.
    """
    arrays = {}
    for split, idx_split in (("train", "train"), ("test", "t10k")):  # all are read, so checked, before any is written
        files = [raw / f"{idx_split}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
        for path in files:
            if not path.exists():
                raise cli.UserError(
                    f"{path}: no such file; list it in assets.yaml, in the group mnist, and run `dvc repro`"
                )
        count = mnist.COUNTS[idx_split]
        arrays[split] = mnist.read_images(files[0], count), mnist.read_labels(files[1], count)
    with atomic_folder(out) as folder:
        for split, (images, labels) in arrays.items():
            write_array(folder / f"{split}_images.npy", normalise(images))
            write_array(folder / f"{split}_labels.npy", labels)
            cli.log(f"{split}: {len(labels)} images")
        write_sums(folder, {path.name: sha256(path) for path in folder.iterdir()})


def main() -> None:
    """Command line."""
    load_params(cli.parser(__doc__).parse_args().params)
    prepare(paths.RAW, paths.PREPARED)


if __name__ == "__main__":
    cli.run(main)
