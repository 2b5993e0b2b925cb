"""Runs that are killed at chosen points of writing, or at any moment, and resumed.

Children are forked from one process that has imported everything (`forkserver`), so that a run
takes a fraction of a second. A child kills itself with SIGKILL before or after a call of one of
the functions through which all files are written; nothing gets a chance to clean up.
"""

import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

from anymae import files
from runs import history, last_checkpoint, small, tuned, weights

PRIMITIVES = ("_write", "sync", "_rename", "_remove")
KILLED = -signal.SIGKILL
TRAININGS: dict[str, Callable[..., object]] = {"pretrain": small, "finetune": tuned}


class Point(NamedTuple):
    """A call of a primitive in the course of a run."""

    number: int
    """Its place among all such calls, from 0."""
    name: str
    """What it does to which file; steps are left out, so that each save has the same names."""


class Kill(NamedTuple):
    """When a child kills itself."""

    number: int
    after: bool


def context() -> ForkServerContext:
    """Return where children are forked from."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["runs", "kills", "torch._dynamo", "torch.nn.parallel", "pandas"])
    return made


def start(
    out: Path,
    *,
    training: str = "pretrain",
    kill: Kill | None = None,
    trace: Path | None = None,
    begun: Path | None = None,
) -> ForkServerProcess:
    """Start a child that goes on with the training in `out`, or begins it."""
    child = context().Process(target=_run, args=(out, training, kill, trace, begun))
    child.start()
    return child


def finish(child: ForkServerProcess) -> int | None:
    """Wait for a child; returns its exit status, negative for a signal.

    One that is not done within a minute is killed and fails the test by name.
    """
    child.join(60)
    if child.is_alive():
        child.kill()
        child.join()
        raise AssertionError(f"{child.name} was still running after 60 s")
    status = child.exitcode
    child.close()
    return status


def points(folder: Path, training: str = "pretrain") -> list[Point]:
    """Run once, uncut, in `folder / "uncut"`, and return the points at which it could be killed."""
    trace = folder / "trace"
    assert finish(start(folder / "uncut", training=training, trace=trace)) == 0
    return [Point(number, name) for number, name in enumerate(trace.read_text().splitlines())]


def each_name(found: list[Point], times: int) -> Iterator[Point]:
    """Yield `times` points of each name, different ones where there are so many."""
    by_name: dict[str, list[Point]] = {}
    for point in found:
        by_name.setdefault(point.name, []).append(point)
    for same in by_name.values():
        for turn in range(times):
            yield same[turn * len(same) // times]


def killed_at(out: Path, kills: list[Kill], training: str = "pretrain") -> None:
    """Kill a run at each of `kills`, counted anew in each child, then let it finish."""
    for number, kill in enumerate(kills):
        status = finish(start(out, training=training, kill=kill))
        # A resumed run makes fewer calls and may be through before its turn to be killed.
        assert status == KILLED or (number > 0 and status == 0), status
    assert finish(start(out, training=training)) == 0


def killed_at_random(out: Path, source: random.Random, *, longest: float, times: int) -> None:
    """Kill a run at random moments after its first step, then let it finish.

    A run that was through before its turn is begun anew, so that every run counted was killed.
    """
    kills = 0
    while kills < times:
        begun = out.with_name(out.name + ".begun")
        begun.unlink(missing_ok=True)
        child = start(out, begun=begun)
        while not begun.exists() and child.is_alive():
            time.sleep(0.001)
        time.sleep(source.uniform(0, longest))
        child.kill()
        status = finish(child)
        assert status in (KILLED, 0), status
        if status == KILLED:
            kills += 1
        else:
            shutil.rmtree(out)
            kills = 0
    assert finish(start(out)) == 0


def assert_same(out: Path, uncut: Path) -> None:
    """Check that a run ended as the uncut one did, to the byte."""
    assert weights(out) == weights(uncut)
    assert last_checkpoint(out) == last_checkpoint(uncut)
    assert history(out) == history(uncut)
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def _run(
    out: Path, training: str, kill: Kill | None, trace: Path | None, begun: Path | None
) -> None:
    count = 0

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(path: Path, *more: Any) -> Any:
            nonlocal count
            number, count = count, count + 1
            if trace is not None:
                place = re.sub(r"\d{8}", "N", str(path.relative_to(out.parent)))
                with trace.open("a") as opened:
                    opened.write(f"{name} {place}\n")
            if kill == (number, False):
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(path, *more)
            if kill == (number, True):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return run

    for name in PRIMITIVES:
        setattr(files, name, watched(name, getattr(files, name)))
    told = None if begun is None else lambda _: begun.touch()
    TRAININGS[training](out, resume=True, progress=told)
