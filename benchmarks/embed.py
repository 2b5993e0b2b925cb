"""Embed many strings: rows per second, memory above the model, order, and a kill on the way.

    python benchmarks/embed.py STRINGS.parquet --column smiles [--rows 100000] [--preset small]

Prints one JSON object. The embedding runs in a process of its own that is killed with SIGKILL
once a third of the shards are there, and started again; some rows are then embedded alone and
compared, so that a row out of place would show.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import anymae
from anymae.data.dataset import open_data
from anymae.inference import embed, embed_to_file
from anymae.model import MaskedAutoencoder
from anymae.presets import build_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--column", default="smiles")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        work(args.worker)
        return
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(measure(Path(name), args), indent=2))


def measure(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    strings = pq.read_table(args.data, columns=[args.column])[args.column].slice(0, args.rows)
    pq.write_table(pa.table({"text": strings}), folder / "rows.parquet")
    dataset = open_data(folder / "rows.parquet")
    model = MaskedAutoencoder(build_config(args.preset, dataset.input))
    model.data = dataset.preparation.to_json()
    anymae.save(model, folder / "run")
    command = [sys.executable, __file__, str(args.data), "--worker", str(folder)]
    shards = -(-len(strings) // 16_384)
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    parts = folder / "out.parquet.parts"
    while len(list(parts.glob("0*.safetensors"))) < max(1, shards // 3):
        time.sleep(0.2)
        assert killed.poll() is None, "finished before it could be killed"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    vectors = pq.read_table(folder / "out.parquet")["embedding"].combine_chunks()
    some = np.random.default_rng(0).integers(0, len(strings), 200)
    alone = embed(model.eval(), [strings[int(row)].as_py() for row in some])
    stored = vectors.take(pa.array(some)).flatten().to_numpy().reshape(alone.shape)
    found["largest_difference_of_200_rows_embedded_alone"] = float(np.abs(stored - alone).max())
    return {"preset": args.preset, "threads": torch.get_num_threads(), **found}


def work(folder: Path) -> None:
    model = anymae.load(folder / "run")
    before = peak_mb()
    written = embed_to_file(model, folder / "rows.parquet", folder / "out.parquet")
    print(json.dumps({**written.to_json(), "mb_above_model": round(peak_mb() - before)}))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
