"""A billion rows on 64 processes, as far as one machine can show it (`docs/scale.md`).

    python benchmarks/at_scale.py order         the order of a billion rows, simulated
    python benchmarks/at_scale.py checkpoints   writing and checking published configurations

Results go to `benchmarks/results/at_scale.json`, under the name of what was measured. How opening
and reading data grow with rows is in `opening.py`, what GPUs would need in `cost_model.py`.
"""

import argparse
import ctypes
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anymae.config import TrainingConfig
from anymae.data.sampler import Order, Permutation, share
from anymae.files import sha256
from anymae.model import MaskedAutoencoder
from anymae.presets import PRESETS, preset_config
from anymae.training.checkpoint import Checkpoints, Snapshot, read_checkpoint
from anymae.training.optim import decay_groups, make_optimizer, optimizer_tensors
from harness import machine, peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable

WORLD = 64
STORED = Path(__file__).parent / "results" / "at_scale.json"


def every_row_once(rows: int, chunk: int = 1 << 22) -> dict[str, Any]:
    """Go through all positions of an epoch and mark each row."""
    seen = np.zeros(rows, np.bool_)
    permutation = Permutation(rows, seed=0, epoch=3)
    spent = 0.0
    for first in range(0, rows, chunk):
        positions = np.arange(first, min(first + chunk, rows))
        begin = time.process_time()
        found = permutation(positions)
        spent += time.process_time() - begin
        seen[found] = True
    # As many numbers as rows, none of them outside: all seen means each seen once.
    return {
        "each row once": bool(seen.all()),
        "million rows a second on one core": rows / spent / 1e6,
    }


def random_access(rows: int, batch_size: int, lengths: np.ndarray | None) -> dict[str, Any]:
    """Start at steps all over a long run, as resuming does, and go on for a while."""
    # What earlier measurements freed would else be taken for no growth.
    ctypes.CDLL(None).malloc_trim(0)
    with peak_memory() as growth:
        begin = time.perf_counter()
        order = Order(rows, batch_size=batch_size, seed=0, lengths=lengths)
        order.batch(0)
        started = time.perf_counter() - begin
        steps = np.random.default_rng(0).integers(0, 20 * order.steps_per_epoch, 20)
        resumed = []
        for step in steps.tolist():
            begin = time.perf_counter()
            batch = order.batch(step)
            resumed.append(time.perf_counter() - begin)
            shares = [share(batch, rank=rank, world=WORLD) for rank in range(WORLD)]
            assert np.array_equal(np.sort(np.concatenate(shares)), np.sort(batch))
        # Two whole windows, from the middle of an epoch.
        first = order.steps_per_epoch // 128 * 64
        begin = time.process_time()
        for step in range(first, first + 128):
            order.batch(step)
        each = (time.process_time() - begin) / 128
    return {
        "seconds to start": started,
        "seconds to resume": {"median": np.median(resumed), "most": max(resumed)},
        "milliseconds a step": 1000 * each,
        "MiB at most": growth[0] / 2**20,
    }


def simulate(rows: int, batch_sizes: tuple[int, ...]) -> dict[str, Any]:
    """Simulate the order of rows, without and with sorting by length."""
    lengths = np.random.default_rng(0).integers(8, 513, rows, np.int32)
    found: dict[str, Any] = {"rows": rows}
    for batch_size in batch_sizes:
        found[f"global batch {batch_size}"] = {
            "as they come": random_access(rows, batch_size, None),
            "sorted by length": random_access(rows, batch_size, lengths),
        }
    del lengths
    return {**found, **every_row_once(rows)}


def snapshot_of(name: str) -> Snapshot:
    """Return all that a run of a published configuration saves, after one step."""
    model, config = MaskedAutoencoder(preset_config(name)), TrainingConfig()
    optimizer = make_optimizer(decay_groups(model, config), config)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    weights = {key: tensor.detach() for key, tensor in model.state_dict().items()}
    return Snapshot(weights, optimizer_tensors(optimizer, model), {"step": 1})


def checkpoint(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Save and read a checkpoint, and write its bytes plainly, by turns."""
    snapshot = snapshot_of(name)
    store = Checkpoints(folder / "checkpoints", keep=1)
    path = store.save(snapshot, best=None)
    files = sorted(path.iterdir())
    content = b"".join(file.read_bytes() for file in files)

    def write_plainly() -> None:
        with (folder / "plain").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    actions: dict[str, Callable[[], object]] = {
        "save": lambda: store.save(snapshot, best=None),
        "write and flush the same bytes": write_plainly,
        "hash": lambda: [sha256(file) for file in files],
        "read and check": lambda: read_checkpoint(path),
    }
    seconds: dict[str, list[float]] = {action: [] for action in actions}
    for _ in range(rounds):
        for action, act in actions.items():
            begin = time.perf_counter()
            act()
            seconds[action].append(time.perf_counter() - begin)
    parameters = sum(tensor.numel() for tensor in snapshot.model.values())
    return {
        "bytes": len(content),
        "bytes a parameter": len(content) / parameters,
        "seconds": {
            action: [statistics.median(values), min(values), max(values)]
            for action, values in seconds.items()
        },
        "MB a second": {
            action: len(content) / statistics.median(values) / 1e6
            for action, values in seconds.items()
        },
    }


def store(name: str, found: dict[str, Any]) -> None:
    """Put a result beside the others."""
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    stored[name] = {"machine": machine(), **found}
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(stored, indent=1, default=float) + "\n")
    print(json.dumps(found, indent=1, default=float))


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["order", "checkpoints"])
    parser.add_argument("--rows", type=int, default=1_000_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="disk to write to; a temporary folder if left out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "order":
        store("order", simulate(options.rows, (4096, 16_384)))
        return
    found = {}
    for name in (name for name, preset in PRESETS.items() if preset.input):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found[name] = checkpoint(name, Path(folder), options.rounds)
    store("checkpoints", found)


if __name__ == "__main__":
    main()
