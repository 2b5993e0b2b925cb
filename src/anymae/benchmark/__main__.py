"""Write the results page: `python -m anymae.benchmark RESULTS PAGE`."""

import argparse
import sys
from pathlib import Path

from anymae.benchmark.page import write_page
from anymae.errors import AnymaeError


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m anymae.benchmark", description="Write the results page from the records."
    )
    parser.add_argument("results", type=Path, help="the folder of the records")
    parser.add_argument("page", type=Path, help="the page; its figures go into figures/ beside it")
    asked = parser.parse_args()
    try:
        write_page(asked.results, asked.page)
    except AnymaeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
