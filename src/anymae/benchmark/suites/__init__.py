"""The suites, one a file."""

from anymae.benchmark.suites import digits, higgs, images, language, moleculenet, tables, tape

__all__ = ["digits", "higgs", "images", "language", "moleculenet", "tables", "tape"]
