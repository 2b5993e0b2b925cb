"""How far a training has come, for whoever shows it: a terminal, or a notebook by itself."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

INTERVAL = 0.5
"""Seconds between two pictures of a notebook's bar."""


class Progress(NamedTuple):
    """How far a run has come, for whoever shows it."""

    step: int
    """Optimizer steps done."""
    steps: int
    """Optimizer steps in all."""
    loss: float
    """Of the last step."""
    rows_per_second: float
    """Over all processes."""
    seconds_left: float
    """Estimated from the speed so far."""


Report = Callable[[Progress], None]
"""Called after each step."""


class Tally:
    """Tells of several trainings as of one; one that stops early counts as done.

    Args:
        report: Called after each step.
        steps: Of all of them, if none stops early.
    """

    def __init__(self, report: Report, steps: int) -> None:
        self._report, self._steps = report, steps
        self._begun = self._taken = 0
        self._start = time.perf_counter()

    def part(self, steps: int) -> Report:
        """Return what to tell of the next training, which has so many steps."""
        before = self._begun
        self._begun += steps

        def told(now: Progress) -> None:
            self._taken += 1
            done = before + now.step
            left = (self._steps - done) * (time.perf_counter() - self._start) / self._taken
            self._report(Progress(done, self._steps, now.loss, now.rows_per_second, left))

        return told


@contextmanager
def notebook_progress(report: Report | None) -> Iterator[Report | None]:
    """Show a bar in a notebook where nobody else is told; it goes when the training is over.

    Args:
        report: What the caller is told with; it is passed on as it is.
    """
    display = _notebook_display() if report is None else None
    if display is None:
        yield report
        return
    handle, last = display({"text/html": ""}, raw=True, display_id=True), 0.0

    def show(now: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= INTERVAL:
            last = time.monotonic()
            handle.update({"text/html": _bar(now), "text/plain": _words(now)}, raw=True)

    try:
        yield show
    finally:
        handle.update({"text/html": "", "text/plain": ""}, raw=True)


def _notebook_display() -> Callable[..., Any] | None:
    """Return what shows things, if this runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    display: Callable[..., Any] = import_module("IPython.display").display
    return display


def _bar(now: Progress) -> str:
    return f'<progress value="{now.step}" max="{now.steps}"></progress> {_words(now)}'


def _words(now: Progress) -> str:
    return (
        f"{now.step:,} of {now.steps:,} steps, loss {now.loss:.4f}, "
        f"{now.rows_per_second:,.0f} rows/s, {duration(now.seconds_left)} left"
    )


def duration(seconds: float) -> str:
    """Word a duration.

    >>> duration(3725), duration(65.2), duration(4.2)
    ('1 h 02 min', '1 min 05 s', '4 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
