"""Benchmarks on real data, by a protocol that looks at the test once.

`run_benchmark` runs the jobs of a suite, `fetch` builds its data from the public originals,
`write_page` makes the results page from the records of the jobs.
"""

from anymae.benchmark import suites
from anymae.benchmark.fetch import fetch
from anymae.benchmark.page import write_page
from anymae.benchmark.run import run_benchmark
from anymae.benchmark.suite import SUITES

__all__ = ["SUITES", "fetch", "run_benchmark", "suites", "write_page"]
