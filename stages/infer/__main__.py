"""Classify a folder of images with ResNet50 trained on ImageNet.

With --out only that file is written: any folder is classified, and no recorded result is touched.
"""

from pathlib import Path

from stages.common import cli, paths
from stages.common.params import load_params
from stages.infer.folder import classify_only, infer


def main() -> None:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--images", help="folder or URL to classify in place of `inference.images`; needs --out")
    parser.add_argument("--out", type=Path, help="the one file to write: JSON, or a table if its name ends in .csv")
    args = parser.parse_args()
    if args.images is not None and not args.out:
        parser.error("--images needs --out, because the recorded results are those of `inference.images`")
    params = load_params(args.params)
    images = params.inference.images if args.images is None else args.images
    if args.out:
        classify_only(images, paths.RESNET50, args.out, params.inference, params)
    else:
        written = paths.RESNET50_METRICS, paths.RESNET50_PREDICTIONS
        infer(images, paths.RESNET50, paths.SAMPLE_LABELS, *written, params.inference, params)


if __name__ == "__main__":
    cli.run(main)
