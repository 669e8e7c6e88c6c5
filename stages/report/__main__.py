"""Write the report."""

from stages.common import cli
from stages.report.page import main

if __name__ == "__main__":
    cli.run(main)
