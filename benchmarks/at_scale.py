"""A billion rows on 64 processes, as far as one machine can show it (`docs/scale.md`).

    python benchmarks/at_scale.py order [--rows 1000000000]   the order of rows, simulated
    python benchmarks/at_scale.py flops                       the work of published configurations

`order` goes through a whole epoch and marks every row, so that a row left out or taken twice
would show; then starts at random steps, as a resumed run does, and looks at what it costs.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from anymae.data.sampler import Order, Permutation, share
from anymae.model import MaskedAutoencoder
from anymae.presets import PRESETS, preset_config
from anymae.randomness import Draws
from harness import MatmulRecorder

WORLD = 64


def resident() -> int:
    """Return the process's resident size in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def whole_epoch(rows: int, chunk: int = 1 << 22) -> dict[str, Any]:
    """Go through all positions of an epoch; every row must come up once."""
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
    """Start at steps all over a long run, as resuming does, and go on for a window."""
    before, begin = resident(), time.perf_counter()
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
    first = order.steps_per_epoch // 2
    begin = time.process_time()
    for step in range(first, first + 128):
        order.batch(step)
    each = (time.process_time() - begin) / 128
    return {
        "seconds to start": started,
        "seconds to resume anywhere": {"median": np.median(resumed), "most": max(resumed)},
        "milliseconds a step": 1000 * each,
        "MiB above the level before": (resident() - before) / 2**20,
    }


def simulate(rows: int, batch_size: int) -> dict[str, Any]:
    """Simulate the order of rows, without and with sorting by length."""
    found = {"rows": rows, "global batch": batch_size, **random_access(rows, batch_size, None)}
    with tempfile.NamedTemporaryFile() as file:
        # Lengths stay in a mapped file that all processes of a machine share.
        lengths = np.memmap(file, np.int32, "w+", shape=(rows,))
        found["sorted by length"] = random_access(rows, batch_size, lengths)
    return {**found, **whole_epoch(rows)}


def flops(name: str) -> dict[str, Any]:
    """Count the products of a training step on one row of a published configuration's length.

    Fake tensors have sizes and no content: nothing is computed.
    """
    config = preset_config(name)
    model = MaskedAutoencoder(config)
    shape, channels = (1, config.input.length), config.input.channels
    with FakeTensorMode(allow_non_fake_inputs=True), MatmulRecorder() as recorder:
        is_bytes = config.input.kind == "bytes"
        inputs = (
            torch.zeros(shape, dtype=torch.int64) if is_bytes else torch.zeros(*shape, channels)
        )
        loss = model(inputs, draws=Draws(torch.zeros(1, dtype=torch.int64))).loss
        torch.autograd.grad(loss, list(model.parameters()))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    counted = sum(product.flops * count for product, count in recorder.products.items())
    return {"parameters": parameters, "flops a row": counted}


def main() -> None:
    """Print what was asked for as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["order", "flops"])
    parser.add_argument("--rows", type=int, default=1_000_000_000)
    parser.add_argument("--batch-size", type=int, default=16_384)
    options = parser.parse_args()
    if options.what == "order":
        found = simulate(options.rows, options.batch_size)
    else:
        found = {name: flops(name) for name, preset in PRESETS.items() if preset.input}
    print(json.dumps(found, indent=1, default=float))


if __name__ == "__main__":
    main()
