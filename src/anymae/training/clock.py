"""Where the time of training goes: waiting for data, or computing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up time and rows since it was made.

    Attributes:
        rows: Rows computed, over all processes; counted by whoever owns the clock.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._wait = self._work = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        begin = time.perf_counter()
        yield
        self._wait += time.perf_counter() - begin

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time inside as computing."""
        begin = time.perf_counter()
        yield
        self._work += time.perf_counter() - begin

    def add(self, other: "Clock") -> None:
        """Add another clock's time and rows."""
        self.rows += other.rows
        self._wait += other._wait
        self._work += other._work

    @property
    def seconds_waited(self) -> float:
        """Time spent waiting for data."""
        return self._wait

    @property
    def rows_per_second(self) -> float:
        """Rows computed a second, looks and saving left out."""
        return self.rows / max(self._wait + self._work, 1e-9)

    @property
    def wait_share(self) -> float:
        """Share of the time that was spent waiting for data, in [0, 1]."""
        return self._wait / max(self._wait + self._work, 1e-9)
