"""What checkpoints and monitoring cost: a run against the bare loop over the same batches.

    OMP_NUM_THREADS=2 python benchmarks/overhead.py --blocks 7

`paper-physics`, batch 256, float32 on the CPU, a look and a checkpoint every 200 steps. Blocks of
200 steps of the run (its look and checkpoint included) and of the bare loop take turns in one
process, so that both see the same machine; the medians are compared.
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
from anymae.training.loop import Progress
from anymae.training.pretrain import pretrain

BLOCK, BATCH = 200, 256
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
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--cpu", action="store_true", help="count CPU time, on a busy machine")
    arguments = parser.parse_args()
    if arguments.cpu:
        global clock  # noqa: PLW0603
        clock = time.process_time
    data = np.random.default_rng(0).normal(size=(arguments.rows, 28, 1)).astype(np.float32)
    bare = BareLoop(data)
    bare.run(20)
    times: dict[str, list[float]] = {"run": [], "bare": []}
    begin = 0.0

    def report(progress: Progress) -> None:
        nonlocal begin
        # The look and the checkpoint of step 200 follow its report: blocks end one step later.
        if progress.step % BLOCK == 1:
            if begin:
                times["run"].append(clock() - begin)
            times["bare"].append(bare.run(BLOCK))
            begin = clock()

    with tempfile.TemporaryDirectory() as folder:
        pretrain(
            data,
            out=Path(folder) / "run",
            preset="paper-physics",
            batch_size=BATCH,
            steps=BLOCK * arguments.blocks + 1,
            device="cpu",
            settings={"training.validate_every": BLOCK, "training.checkpoint_every": BLOCK},
            progress=report,
        )
    for name, found in times.items():
        each = statistics.median(found) / BLOCK * 1000
        print(f"{name}: {each:.2f} ms a step, blocks {[round(t, 2) for t in found]}")
    extra = statistics.median(times["run"]) / statistics.median(times["bare"]) - 1
    print(f"the run takes {extra:+.1%}")


if __name__ == "__main__":
    main()
