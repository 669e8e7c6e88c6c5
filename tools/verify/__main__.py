"""`python -m tools.verify`."""

from stages.common import cli
from tools.verify.rerun import main

if __name__ == "__main__":
    cli.run(main)
