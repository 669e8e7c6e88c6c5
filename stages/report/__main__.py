"""Write metrics/report: index.html, one self-contained page with all results, and a model card for each version."""

from stages.common import cli, environment, paths
from stages.common.files import atomic_folder, write_bytes
from stages.common.params import load_params
from stages.report.page import cards, gather, render


def main() -> None:
    """Command line."""
    params = load_params(cli.parser(__doc__).parse_args().params)
    environment.check_versions("report")
    context = gather(params)
    page = render(context).encode()
    with atomic_folder(paths.REPORT) as folder:
        write_bytes(folder / "index.html", page)
        for version, card in cards(context).items():
            write_bytes(folder / "cards" / f"{version}.md", card.encode())
    cli.log(f"{paths.REPORT}/index.html: {len(page) / 1e6:.2f} MB")


if __name__ == "__main__":
    cli.run(main)
