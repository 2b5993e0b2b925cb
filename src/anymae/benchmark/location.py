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
MANY = "was put together from several sources"
PICKLED = "has splits that are published as pickles alone, which nothing here reads"
UNKNOWN = "is of a suite that does not say how it is made"
LOST = {
    "chem/chembl_mix/chembl_mix.parquet": MANY,
    "chem/chembench_splits/esol.csv": PICKLED,
    "chem/chembench_splits/freesolv.csv": PICKLED,
    "chem/chembench_splits/lipop.csv": PICKLED,
    "chem/chembench_splits/bbbp.csv": PICKLED,
    "chem/chembench_splits/bace.csv": PICKLED,
    "chem/chembench_splits/hiv.csv.gz": PICKLED,
    "physics/higgs/higgs_extra_train.parquet": MANY,
    "proteins/corpus/proteins.parquet": MANY,
    "proteins/tape/fluorescence.parquet": MANY,
}
"""Files that `fetch` cannot build, and why."""


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
    get = f"name the folder with --data or ${VARIABLE}"
    if missing in LOST:
        get += f" (the file {LOST[missing]}, so `anymae benchmark fetch` cannot build it)"
    else:
        get += f", or run: anymae benchmark fetch {suite}"
    raise DataError(f"{folders[0] / missing} is not there, and suite {suite} needs it; {get}")
