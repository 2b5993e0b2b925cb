"""The kinds of input, one file each: how the rows of a table become inputs."""

from anymae.data.kinds import bytes, image, table, values  # noqa: A004, F401
from anymae.data.kinds.base import KINDS, BadRows, Kind, Reader, Statistics

__all__ = ["KINDS", "BadRows", "Kind", "Reader", "Statistics"]
