"""Sources: from a file, a URL or a Python object to one Arrow table.

Each format is one file in here that registers a `Source`; other packages register through the
entry-point group `anymae.sources`. `read_source` is the one entry.
"""

from anymae.data.sources import (  # noqa: F401 - importing registers
    arrays,
    arrow,
    delimited,
    fasta,
    images,
    jsonl,
    objects,
    parquet,
    smi,
    text,
)
from anymae.data.sources.base import SOURCES, Files, Source
from anymae.data.sources.read import read_source

__all__ = ["SOURCES", "Files", "Source", "read_source"]
