"""What checkpoints and monitoring cost: a run against the bare loop over the same batches.

    OMP_NUM_THREADS=2 python benchmarks/overhead.py

`paper-physics`, batch 256, float32 on the CPU, a look and a checkpoint every 200 steps. Blocks of a
few steps of the run and of the bare loop take turns in one process, so that both see the same
machine; the ratio of neighbours is what a step of the run costs more. The time of each look and
checkpoint, spread over the 200 steps that pay for it, comes on top.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.data.sampler import Order
from anymae.model import MaskedAutoencoder
from anymae.presets import build_config
from anymae.randomness import Draws, row_keys
from anymae.training.pretrain import pretrain
from anymae.training.progress import Progress

EVERY, BLOCK, BATCH = 200, 10, 256
clock = time.perf_counter


class BareLoop:
    """Forward, backward, clip, step; nothing else."""

    def __init__(self, data: np.ndarray) -> None:
        self.dataset = open_data(data, DataConfig())
        self.model = MaskedAutoencoder(build_config("paper-physics", self.dataset.input)).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.order = Order(len(self.dataset), batch_size=BATCH, seed=0)
        self.step = 0

    def run(self, steps: int) -> float:
        begin = clock()
        for _ in range(steps):
            batch = self.dataset.batch(self.order.batch(self.step))
            draws = Draws(row_keys(batch.rows, seed=0, epoch=self.order.epoch_of(self.step)))
            self.optimizer.zero_grad()
            self.model(batch.inputs, valid=batch.valid, draws=draws).loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
        return clock() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--looks", type=int, default=2, help="each after 200 steps")
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    data = np.random.default_rng(0).normal(size=(arguments.rows, 28, 1)).astype(np.float32)
    bare = BareLoop(data)
    bare.run(BLOCK)
    times: dict[str, list[float]] = {"run": [], "bare": [], "look": []}
    begin = 0.0

    def report(progress: Progress) -> None:
        nonlocal begin
        now = clock()
        # What follows the report of step 200 is its look and its checkpoint, and one more step.
        if progress.step % EVERY == 1 and progress.step > 1:
            times["look"].append(now - begin)
        elif progress.step % BLOCK == 0:
            times["run"].append(now - begin)
            times["bare"].append(bare.run(BLOCK))
        elif progress.step % BLOCK != 1:
            return
        begin = clock()

    with tempfile.TemporaryDirectory() as folder:
        pretrain(
            data,
            out=Path(folder) / "run",
            preset="paper-physics",
            batch_size=BATCH,
            steps=EVERY * arguments.looks + 1,
            device="cpu",
            settings={"training.validate_every": EVERY, "training.checkpoint_every": EVERY},
            progress=report,
        )
    _print(times)


def _print(times: dict[str, list[float]]) -> None:
    # The first block has the start in it, and only full blocks stand beside each other.
    run = [t / (BLOCK - 1) for t in times["run"][1:]]
    bare = [t / BLOCK for t in times["bare"][1:]]
    ratios = sorted(r / b for r, b in zip(run, bare, strict=True))
    step, look = statistics.median(bare), statistics.median(times["look"])
    steps, looks = statistics.median(ratios) - 1, (look - step) / (EVERY * step)
    quarter = len(ratios) // 4
    print(f"bare: {step * 1000:.1f} ms a step, {len(bare)} blocks of {BLOCK}")
    print(f"a step of the run: {steps:+.2%}, half of the pairs between "
          f"{ratios[quarter] - 1:+.1%} and {ratios[-1 - quarter] - 1:+.1%}")  # fmt: skip
    print(f"a look and a checkpoint: {look - step:.2f} s, {looks:+.2%} over {EVERY} steps")
    print(f"the run takes {steps + looks:+.2%}")


if __name__ == "__main__":
    main()
