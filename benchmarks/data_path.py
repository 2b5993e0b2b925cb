"""How fast rows become batches, without a model: `python benchmarks/data_path.py [DATA]`.

DATA is the folder with the real data (default: $ANYMAE_DATA). Batches come in training's order,
sorted by length within windows, on one core. Counted is what the rows hold (bytes, or 4 bytes a
cell), not padding; seconds are the process's own, so other work on the machine does not count.
Prints a table and stores it in `benchmarks/results/data_path.json`.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch

from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.data.sampler import Order
from harness import machine

STORED = Path(__file__).parent / "results" / "data_path.json"
CASES = {
    "chem/moses/moses.parquet": 50,
    "proteins/corpus/proteins.parquet": 200,
    "physics/higgs/higgs_extra_train.parquet": None,
    "tabular/adult.parquet": None,
    "images/mnist_t10k.npz": None,
}
"""Files, and the MB/s that are wanted."""

BATCH_SIZES = (64, 256, 1024)
SECONDS = 2.0


def speed(path: Path, batch_size: int) -> tuple[float, float]:
    """Return MB/s and microseconds a batch, best of three."""
    column = ("smiles",) if path.name == "moses.parquet" else ()
    dataset = open_data(str(path), DataConfig(column=column))
    rows, lengths = dataset.parts.train, dataset.lengths
    lengths = None if lengths is None else lengths[rows]
    order = Order(len(rows), batch_size=batch_size, seed=0, lengths=lengths)
    best, fixed = (0.0, 0.0), 4 * dataset.input.length * dataset.input.channels
    step = 0
    for _ in range(3):
        held, first, start = 0, step, time.process_time()
        while (used := time.process_time() - start) < SECONDS / 3:
            taken = order.batch(step)
            dataset.batch(rows[taken])
            held += len(taken) * fixed if lengths is None else int(lengths[taken].sum())
            step += 1
        best = max(best, (held / used / 1e6, used / (step - first) * 1e6))
    return best


def main() -> int:
    """Print and store a table; 1 if a wanted speed is missed at every batch size."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["ANYMAE_DATA"])
    missed, found = False, {}
    print(f"{'file':42} {'batch':>6} {'MB/s':>7} {'us/batch':>9}")
    for name, wanted in CASES.items():
        speeds = []
        for batch_size in BATCH_SIZES:
            per_second, microseconds = speed(folder / name, batch_size)
            speeds.append(per_second)
            print(f"{name:42} {batch_size:6} {per_second:7.0f} {microseconds:9.0f}")
        missed |= wanted is not None and max(speeds) < wanted
        sizes = map(str, BATCH_SIZES)
        by_batch = dict(zip(sizes, map(round, speeds), strict=True))
        found[name] = {"megabytes_per_second": by_batch, "wanted": wanted}
    STORED.write_text(json.dumps({"machine": machine(), "files": found}, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
