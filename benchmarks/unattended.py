"""From a path to embeddings without a hand: `python benchmarks/unattended.py [NAME ...]`.

For each file of the data folder ($ANYMAE_DATA), and for a FASTA file, a folder of PNGs, time series
and ragged jets that are made from it or drawn: `inspect`, `pretrain --steps 200`, `embed`. Every
command has to end well, and the output to have a row for each row of the source, in order. Prints
and stores, file by file, rows, status and seconds in `benchmarks/results/unattended.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

STORED = Path(__file__).parent / "results" / "unattended.json"
FILES = {
    "adult": ("tabular/adult.parquet", ()),
    "california": ("tabular/california.parquet", ()),
    "higgs extra": ("physics/higgs/higgs_extra_train.parquet", ()),
    "higgs small": ("physics/higgs/higgs_small_valid_test.parquet", ()),
    "shakespeare": ("text/tinyshakespeare.txt.gz", ()),
    "sst2": ("text/sst2.parquet", ()),
    "proteins": ("proteins/corpus/proteins.parquet", ()),
    "qm9": ("chem/qm9/qm9.parquet", ("--column", "SMILES")),
    "esol": ("chem/chembench_splits/esol.csv", ("--column", "smiles")),
    "mnist": ("images/mnist_t10k.npz", ()),
}
"""Below the data folder, with the flags that say what the file leaves open."""


class Job(NamedTuple):
    """A source and what it needs to be told."""

    path: Path
    flags: tuple[str, ...] = ()


def jobs(data: Path, made: Path, names: list[str]) -> Iterator[tuple[str, Job]]:
    """Yield the sources that were asked for; those that have to be made, made."""
    for name, (path, flags) in FILES.items():
        if not names or name in names:
            yield name, Job(data / path, flags)
    for name, make in {"fasta": fasta, "pngs": pngs, "series": series, "jets": jets}.items():
        if not names or name in names:
            yield name, Job(make(data, made))


def fasta(data: Path, made: Path) -> Path:
    """Write the first 20,000 proteins of the corpus."""
    table = pq.read_table(data / "proteins/corpus/proteins.parquet", columns=["sequence"])
    path = made / "proteins.fasta"
    sequences = table["sequence"][:20_000].to_pylist()
    path.write_text("".join(f">P{n}\n{sequence}\n" for n, sequence in enumerate(sequences)))
    return path


def pngs(data: Path, made: Path) -> Path:
    """Write the first 1,000 digits, a file each."""
    folder = made / "pngs"
    folder.mkdir()
    with np.load(data / "images/mnist_t10k.npz") as arrays:
        for number, picture in enumerate(arrays["images"][:1_000]):
            Image.fromarray(picture).save(folder / f"{number:05}.png")
    return folder


def series(data: Path, made: Path) -> Path:
    """Draw 2,000 random walks of 64 steps in 3 channels."""
    path = made / "series.npy"
    steps = np.random.default_rng(0).normal(size=(2_000, 64, 3))
    np.save(path, steps.cumsum(1).astype(np.float32))
    return path


def jets(data: Path, made: Path) -> Path:
    """Draw 2,000 sets of 3 to 40 particles with 4 numbers each."""
    random, path = np.random.default_rng(0), made / "jets.parquet"
    rows = [random.normal(size=(random.integers(3, 41), 4)).tolist() for _ in range(2_000)]
    pq.write_table(pa.table({"particles": rows}), path)
    return path


def run(*words: object) -> tuple[int, str]:
    """Run a command; returns exit code and what it said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "anymae", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout + done.stderr


def measure(job: Job, folder: Path, steps: int) -> dict[str, Any]:
    """Take a source from its path to embeddings."""
    begin, out, vectors = time.perf_counter(), folder / "run", folder / "vectors.parquet"
    own = ("--preset", "tiny", "--steps", steps, "--set", "training.threads=1")
    commands = {
        "inspect": ("inspect", job.path, *job.flags),
        "pretrain": ("pretrain", job.path, *job.flags, *own, "--out", out),
        "embed": ("embed", out, job.path, *job.flags, "--out", vectors),
    }
    for name, words in commands.items():
        code, said = run(*words)
        if code:
            return {"failed": name, "code": code, "said": said[-500:]}
    table = pq.read_table(vectors, columns=["row", "status"])
    in_order = table["row"].to_pylist() == list(range(len(table)))
    status = dict(Counter(table["status"].to_pylist()))
    seconds = round(time.perf_counter() - begin)
    return {"rows": len(table), "in_order": in_order, "status": status, "seconds": seconds}


def main() -> int:
    """Run the jobs; returns 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FILES))
    parser.add_argument("--data", type=Path, default=os.environ.get("ANYMAE_DATA"))
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data folder with --data or $ANYMAE_DATA")
    found = json.loads(STORED.read_text()) if STORED.exists() else {}
    failed = False
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        for source, job in jobs(options.data, made, options.names):
            folder = made / f"{source} out"
            folder.mkdir()
            found[source] = {**measure(job, folder, options.steps), "steps": options.steps}
            failed |= "failed" in found[source] or not found[source]["in_order"]
            print(source, json.dumps(found[source]), flush=True)
            STORED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
