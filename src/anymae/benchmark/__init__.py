"""Benchmarks on real data, by a protocol that looks at the test once.

`run_benchmark` runs the jobs of a suite, `scores` sums up their records, `write_page` makes the
results page from all of them. `fetch` builds a suite's data from the public originals.
"""

from anymae.benchmark import suites
from anymae.benchmark.fetch import fetch
from anymae.benchmark.page import write_page
from anymae.benchmark.run import run_benchmark
from anymae.benchmark.scores import scores
from anymae.benchmark.suite import SUITES

__all__ = ["SUITES", "fetch", "run_benchmark", "scores", "suites", "write_page"]
