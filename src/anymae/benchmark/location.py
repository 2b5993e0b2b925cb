"""Where the data of the suites are."""

import os
from pathlib import Path

from anymae.benchmark.suite import SUITES
from anymae.data.cache import cache_folder
from anymae.errors import DataError

VARIABLE = "ANYMAE_DATA"
FOLDER = "benchmark"
"""Of the user's cache, where `fetch` puts data."""
REPLACE = "it is damaged or something else: remove it and fetch or copy it again"
"""What to do about a file there that cannot be read."""


def home(named: str | Path | None) -> Path:
    """Return the folder where a suite's files are put.

    Args:
        named: What the user named; `None` is what `$ANYMAE_DATA` names, else the user's cache.
    """
    return Path(named or os.environ.get(VARIABLE) or cache_folder() / FOLDER)


def data_folder(named: str | Path | None, suite: str) -> Path:
    """Find the folder that holds a suite's files.

    Args:
        named: What the user named; it must hold the files.
        suite: Whose files.

    Returns:
        `named`, else the folder that `$ANYMAE_DATA` names, else the user's cache.

    Raises:
        DataError: Files are missing; the message says how to get them.
    """
    places = [named, os.environ.get(VARIABLE), cache_folder() / FOLDER]
    folders = [Path(place) for place in places if place]
    if named is not None:
        folders = folders[:1]
    files = SUITES[suite].files
    for folder in folders:
        if all((folder / file).is_file() for file in files):
            return folder
    missing = next(file for file in files if not (folders[0] / file).is_file())
    raise DataError(
        f"{folders[0] / missing} is not there, and suite {suite} needs it; name the folder with "
        f"--data or ${VARIABLE}, or run: anymae benchmark fetch {suite}"
    )
