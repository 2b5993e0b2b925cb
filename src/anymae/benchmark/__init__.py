"""Benchmarks on real data, by a protocol that looks at the test once.

`run_benchmark` runs the jobs of a suite; `write_page` makes the results page from their records.
"""

from anymae.benchmark import suites
from anymae.benchmark.run import run_benchmark
from anymae.benchmark.suite import SUITES

__all__ = ["SUITES", "run_benchmark", "suites"]
