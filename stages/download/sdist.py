"""Download the source archive (.tar.gz) of a package into the current folder: `sdist.py [OPTIONS] NAME==VERSION`.

`pip download` runs the build code of a source archive to learn what it depends on. This is the same command, with pip's
options and the user's settings of pip, but without that step: pip's own code finds and downloads the archive, and nothing
of it runs. pip promises no interface for this, so it goes with the pip that requirements/pipeline.txt pins.
"""

import shutil
import sys
from optparse import Values

from pip._internal.commands.download import DownloadCommand
from pip._internal.exceptions import DistributionNotFound
from pip._internal.network.download import Downloader
from pip._vendor.packaging.version import Version


class Sdist(DownloadCommand):
    """pip's command `download`, for one source archive as it is."""

    def run(self, options: Values, args: list[str]) -> int:
        """Copy or download the archive of `args[0]`, NAME==VERSION; errors of pip's kinds if there is none."""
        name, version = args[0].split("==")
        session = self.get_default_session(options)
        finder = self._build_package_finder(options, session, ignore_requires_python=True)
        links = [found.link for found in finder.find_all_candidates(name) if found.version == Version(version)]
        link = next((link for link in links if link.filename.endswith(".tar.gz")), None)
        if not link:
            raise DistributionNotFound(f"there is no source archive (.tar.gz) of {args[0]}")
        if link.is_file:
            shutil.copy(link.file_path, ".")
        else:
            Downloader(session, "off")(link, ".")
        return 0


if __name__ == "__main__":
    sys.exit(Sdist("download", "").main(sys.argv[1:]))
