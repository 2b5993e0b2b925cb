"""The suites, one a file."""

from anymae.benchmark.suites import digits, higgs

__all__ = ["digits", "higgs"]
