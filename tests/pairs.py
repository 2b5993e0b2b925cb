"""Several processes of one run, forked from a warm one, as torchrun would start them."""

import contextlib
import itertools
import json
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anymae.errors import AnymaeError
from kills import context, finish

Job = Callable[..., Any]

PORTS = 500
"""Ports of a worker."""

_turn = itertools.count(os.getpid())


def together(world: int, job: Job, folder: Path, **keywords: Any) -> list[Any]:
    """Call `job(folder=..., **keywords)` in `world` processes that form one run.

    Returns:
        What each returned, or the sentence of the `AnymaeError` it raised, or its exit status
        where it ended otherwise.
    """
    port = _free_port()
    children = []
    for rank in range(world):
        for name in (_answer(folder, rank),):
            name.unlink(missing_ok=True)
        child = context().Process(target=_run, args=(rank, world, port, job, folder, keywords))
        child.start()
        children.append(child)
    statuses = [finish(child) for child in children]
    answers = [_answer(folder, rank) for rank in range(world)]
    return [
        json.loads(answer.read_text()) if answer.exists() else status
        for answer, status in zip(answers, statuses, strict=True)
    ]


def _free_port() -> int:
    """Return a port for the next processes.

    Nobody holds it until they start: so it is one that no other worker draws, and below those
    that the system gives to whoever asks for any.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 10_000 + worker % 40 * PORTS
    for _ in range(PORTS):
        port = first + next(_turn) % PORTS
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port is free from {first} to {first + PORTS}")


def _answer(folder: Path, rank: int) -> Path:
    return folder / f"answer-{rank}.json"


def _run(
    rank: int, world: int, port: int, job: Job, folder: Path, keywords: dict[str, Any]
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    try:
        found = job(folder=folder, **keywords)
    except AnymaeError as error:
        found = f"{type(error).__name__}: {error}"
    except BaseException:
        traceback.print_exc()
        raise
    _answer(folder, rank).write_text(json.dumps(found))
