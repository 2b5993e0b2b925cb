"""A command that is asked to end takes along the processes that it has started."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

COMMANDS = {
    "quickstart": ["quickstart", "--out", "out"],
    "benchmark": [
        # More trainings than jobs, each of minutes: to wait for any of them takes too long.
        *("benchmark", "digits", "--budget", "cpu", "--arms", "guided,random"),
        *("--task", "50", "--seeds", "3", "--jobs", "2", "--out", "out"),
    ],
}
BEGUN = {"quickstart": "out/*/run.yaml", "benchmark": "out/runs/digits/cpu/final/*/metrics.jsonl"}
"""What the trainings of a command leave when they begin."""

SENTENCES = {
    signal.SIGTERM: (143, "anymae: terminated"),
    signal.SIGINT: (130, "anymae: interrupted"),
}


@contextmanager
def started(folder: Path, command: str) -> Iterator[subprocess.Popen[str]]:
    """A command in `folder`, which can be interrupted even if this process cannot."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "anymae", *COMMANDS[command]],
            cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        # What it started holds its stderr open.
        left = (
            psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        )
        for child in left:
            child.kill()
        process.kill()
        process.communicate()


def wait_for(folder: Path, pattern: str) -> None:
    """Wait until two files of that kind are there."""
    end = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < 2:
        assert time.monotonic() < end, f"there is no {pattern} after a minute"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("command", "number"),
    [
        pytest.param("quickstart", signal.SIGTERM, marks=pytest.mark.slow),
        ("benchmark", signal.SIGINT),
    ],
)
def test_it_ends_with_all_its_processes(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    with started(tmp_path, command) as process:
        wait_for(tmp_path, BEGUN[command])
        begun = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        status, sentence = SENTENCES[number]
        assert (process.returncode, said.splitlines()[-1]) == (status, sentence)
        assert "Traceback" not in said
        _, alive = psutil.wait_procs(begun, timeout=10)
        for child in alive:
            child.kill()
        assert not alive
