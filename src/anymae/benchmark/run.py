"""`anymae benchmark`: which jobs there are, and running those that are not done yet.

Everything that uses one pretrained encoder is a chain, run by one process: it pretrains, then does
its tasks. Chains are independent, so several processes share them; each job writes its record when
it is done, and a later call goes on with what is missing.
"""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from threadpoolctl import threadpool_limits

from anymae.benchmark.arms import parse_arm
from anymae.benchmark.asked import read_same
from anymae.benchmark.encoders import ArmEncoder, Where
from anymae.benchmark.job import run_job
from anymae.benchmark.location import data_folder
from anymae.benchmark.record import JobName, Record, Stage, read_record, write_record
from anymae.benchmark.suite import SUITES, THREADS
from anymae.errors import AnymaeError, ConfigError, InterruptedRunError, nearest
from anymae.files import require_writable
from anymae.training.device import choose_device
from anymae.wording import counted

logger = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at what other processes have done."""


class Chain(NamedTuple):
    """Jobs that share a pretrained encoder, in order."""

    data: Path
    out: Path
    device: str
    jobs: tuple[JobName, ...]

    @property
    def missing(self) -> tuple[JobName, ...]:
        """Jobs without a record."""
        return tuple(job for job in self.jobs if not (self.out / job.file).exists())


def run_benchmark(
    suite: str,
    *,
    tasks: Sequence[str] = (),
    arms: Sequence[str] = (),
    budget: str = "cpu",
    seeds: int = 5,
    data: str | Path | None = None,
    out: str | Path = "results",
    jobs: int = 1,
    device: str = "cpu",
    stage: Stage = "final",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Record]:
    """Run the jobs of a suite that have no record yet.

    Args:
        suite: One of `SUITES`.
        tasks: Tasks of the suite; empty takes all.
        arms: What to compare (`parse_arm`); empty takes the suite's own.
        budget: How much to spend: `cpu`, `long` or `paper`, or `mini`, to see that all works.
        seeds: Seeds 0 to `seeds - 1`, the same for every arm.
        data: Folder of the data; `None` looks in `$ANYMAE_DATA` and the cache.
        out: Folder for records and weights.
        jobs: Processes side by side, each with one thread.
        device: Of the encoders, `auto`, `cpu`, `cuda` ...; on a GPU numbers repeat closely rather
            than to the bit. It is no part of what is asked for: jobs go on with weights that
            were pretrained elsewhere, and arms of one table may come from several machines.
        stage: `tune` looks at validation rows only.
        report: Told how many of the missing jobs are done, and of how many.

    Returns:
        The records of all jobs that were asked for.

    Raises:
        ConfigError: An unknown suite, task, arm or budget, or a device that is not here.
        DataError: Files of the suite are missing.
    """
    chains = plan(
        suite, tasks=tasks, arms=arms, budget=budget, seeds=seeds, data=data, out=out,
        device=device, stage=stage,
    )  # fmt: skip
    require_writable(Path(out))
    paths = [Path(out) / job.file for chain in chains for job in chain.jobs]
    for path in paths:
        if path.exists():
            read_same(SUITES[suite], path)
    missing = [path for path in paths if not path.exists()]
    if missing:
        logger.info("to do: %s", counted(len(missing), "job"))

    def told() -> None:
        report(sum(path.exists() for path in missing), len(missing))

    _run([chain for chain in chains if chain.missing], jobs, told)
    return [read_record(path) for path in paths]


def plan(
    suite: str,
    *,
    tasks: Sequence[str],
    arms: Sequence[str],
    budget: str,
    seeds: int,
    data: str | Path | None,
    out: str | Path,
    device: str = "cpu",
    stage: Stage = "final",
) -> list[Chain]:
    """Return the chains of jobs that were asked for, seed by seed.

    Raises:
        ConfigError: An unknown suite, task, arm or budget, or a device that is not here.
        DataError: Files of the suite are missing.
    """
    kind = SUITES[suite]
    _check_known("budget", [budget], kind.budgets)
    _check_known("task", tasks, kind.tasks)
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}; at least one is needed")
    # What is named twice is run once.
    asked = [parse_arm(arm) for arm in dict.fromkeys(map(str.strip, arms or kind.arms))]
    folder = data_folder(data, suite)
    chains: dict[tuple[int, str, str], list[JobName]] = {}
    for seed in range(seeds):
        for arm in asked:
            encoder = "" if arm.encoder is None else arm.encoder.text
            for name in dict.fromkeys(tasks or kind.tasks):
                job = JobName(
                    suite=suite, budget=budget, stage=stage, task=name, arm=arm.text, seed=seed
                )
                chains.setdefault((seed, encoder, kind.tasks[name].corpus), []).append(job)
    where = str(choose_device(device))
    return [Chain(folder, Path(out), where, tuple(found)) for found in chains.values()]


def run_chain(chain: Chain, told: Callable[[], None] = lambda: None) -> tuple[JobName, ...]:
    """Run the jobs of a chain that have no record; returns these.

    Args:
        chain: What to run.
        told: Called before the first job, and after each.
    """
    first, missing = chain.jobs[0], chain.missing
    kind, shared = SUITES[first.suite], parse_arm(first.arm).encoder
    where = Where(
        kind(chain.data), first.suite, kind.budgets[first.budget], first.budget, chain.out,
        chain.device,
    )  # fmt: skip
    encoder = None
    if shared is not None:
        encoder = ArmEncoder(where, shared, kind.tasks[first.task].corpus, first.seed)
    told()
    with _torch_threads(THREADS), threadpool_limits(THREADS):
        for job in missing:
            started = time.monotonic()
            write_record(chain.out, run_job(where, job, parse_arm(job.arm), encoder))
            logger.info("%s: %.0f s", job.file, time.monotonic() - started)
            told()
    return missing


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _started_with_one_thread() -> Iterator[None]:
    """Let processes that start inside read one thread, as libraries of linear algebra do then."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(THREADS)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(chains: Sequence[Chain], jobs: int, told: Callable[[], None]) -> None:
    if jobs <= 1 or len(chains) <= 1:
        for chain in chains:
            run_chain(chain, told)
        return
    context, before = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    with _started_with_one_thread(), ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            pending = {pool.submit(_run_or_leave, chain) for chain in chains}
            while pending:
                told()
                ended, pending = wait(pending, LOOK, FIRST_COMPLETED)
                for future in ended:
                    for job in future.result():
                        logger.info("done: %s", job.file)
            told()
        except BrokenProcessPool:
            raise AnymaeError(
                "a process was killed from outside, or for its memory; run the same command again "
                "to go on with the jobs that are missing"
            ) from None
        except BaseException as error:
            if not isinstance(error, Exception):
                # Asked to end; a process that pretrains saves first, the job in hand is lost.
                for process in multiprocessing.active_children():
                    if process not in before:
                        process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _run_or_leave(chain: Chain) -> tuple[JobName, ...]:
    """Run a chain in a process that ends where its training is asked to.

    The pool would hand it the next chain otherwise, and wait for that.
    """
    try:
        return run_chain(chain)
    except InterruptedRunError:
        os._exit(InterruptedRunError.exit_code)


def _check_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    choices = list(known)
    for name in names:
        if name not in choices:
            raise ConfigError(f"unknown {what} {name!r}{nearest(name, choices)}")
