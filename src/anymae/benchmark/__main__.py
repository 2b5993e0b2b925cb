"""Write the results page: `python -m anymae.benchmark RESULTS PAGE`."""

import sys
from pathlib import Path

from anymae.benchmark.page import write_page

if __name__ == "__main__":
    write_page(Path(sys.argv[1]), Path(sys.argv[2]))
