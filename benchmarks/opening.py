"""How opening and reading strings grow with rows: `python benchmarks/opening.py` (Linux).

Each process of a run opens the data by itself: what it keeps in memory of its own, and how long
that takes, is measured at several numbers of rows and continued in a line to a billion. Then rows
are read in training's order from a file that the system does not hold in memory: data of that
size fit no memory, so this is what each read is. Results go to `benchmarks/results/opening.json`.
"""

import argparse
import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anymae.config import DataConfig
from anymae.data.dataset import Dataset, open_data
from anymae.data.sampler import Order, share
from harness import machine
from make_big import text_blocks, write_parquet

STORED = Path(__file__).parent / "results" / "opening.json"
READ_AHEAD = "*/queue/read_ahead_kb"
SIZES_MB = (800, 1600, 3200)
FAR = 1e9
WORLD, GLOBAL_BATCH, STEPS = 64, 4096, 16


def own_bytes(process: int | str = "self") -> int:
    """Return memory that is a process's own: mapped files are not in it. 0 when it has ended."""
    fields = Path(f"/proc/{process}/statm").read_text().split()
    resident, of_files = (int(field) for field in fields[1:3])
    return (resident - of_files) * mmap.PAGESIZE


def _from_disk() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


class Mapping:
    """The mapped buffers of a data set, and what can be told the system about them."""

    def __init__(self, dataset: Dataset, path: Path) -> None:
        chunks = dataset.rows.column("text").chunks
        self.buffers = [buffer for chunk in chunks for buffer in chunk.buffers() if buffer]
        self.path = path

    def advise(self, advice: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        for buffer in self.buffers:
            first = buffer.address // mmap.PAGESIZE * mmap.PAGESIZE
            size = buffer.address + buffer.size - first
            if libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice):
                raise OSError(ctypes.get_errno(), "madvise")

    def forget(self) -> None:
        """Take the file out of memory."""
        self.advise(mmap.MADV_DONTNEED)
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(dataset: Dataset, order: Order, first: int) -> dict[str, float]:
    """Read what one process of 64 reads in some steps, on one thread."""
    rows = dataset.parts.train
    taken = [rows[share(order.batch(s), rank=0, world=WORLD)] for s in range(first, first + STEPS)]
    before, begin = _from_disk(), time.perf_counter()
    for index in taken:
        dataset.batch(index)
    seconds, count = time.perf_counter() - begin, sum(map(len, taken))
    return {
        "rows": count,
        "rows a second": count / seconds,
        "KiB from disk a row": (_from_disk() - before) / count / 1024,
    }


def measure(path: str) -> dict[str, Any]:
    """Open strings as each process of a run does, then read some."""
    torch.set_num_threads(1)
    before, begin, cpu = own_bytes(), time.perf_counter(), time.process_time()
    dataset = open_data(path, DataConfig(column=("text",)))
    lengths, rows = dataset.lengths, dataset.parts.train
    assert lengths is not None
    # As `training/settle.py` does: the order keeps the lengths of the training rows.
    order = Order(len(rows), batch_size=GLOBAL_BATCH, seed=0, lengths=lengths[rows])
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    held = own_bytes() - before
    (table,) = Path(os.environ["ANYMAE_CACHE"]).glob("tables/*/table.arrow")
    mapping = Mapping(dataset, table)
    mapping.forget()
    reads = {"cold, as it is": read(dataset, order, 0)}
    reads["from memory"] = read(dataset, order, 0)
    mapping.forget()
    mapping.advise(mmap.MADV_RANDOM)
    reads["cold, told to expect random reads"] = read(dataset, order, 0)
    return {
        "rows": len(dataset),
        "bytes in the cache": table.stat().st_size,
        "seconds": seconds,
        "CPU seconds": cpu,
        "own bytes": {"before": before, "held": held},
        "reads": reads,
    }


def continued(points: list[dict[str, Any]]) -> dict[str, float]:
    """Fit lines through measurements and continue them."""
    rows = np.array([point["rows"] for point in points], float)
    values = {
        "own bytes held": [point["own bytes"]["held"] for point in points],
        "own bytes at most": [point["own bytes"]["most"] for point in points],
        "CPU seconds to open": [point["CPU seconds"] for point in points],
        "CPU seconds to fill the cache": [point["first time"]["CPU seconds"] for point in points],
        "bytes in the cache": [point["bytes in the cache"] for point in points],
    }
    found = {}
    for name, value in values.items():
        slope, start = np.polyfit(rows, value, 1)
        found[name] = {"a row": slope, f"at {FAR:.0e} rows, computed": start + slope * FAR}
    return found


def watched(path: Path, cache: Path) -> dict[str, Any]:
    """Measure in a fresh process, whose memory is watched from outside: it is busy itself."""
    most = 0
    command = [sys.executable, __file__, "--point", str(path)]
    environment = {**os.environ, "ANYMAE_CACHE": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        while child.poll() is None:
            most = max(most, own_bytes(child.pid))
            time.sleep(0.001)
        assert child.stdout is not None
        found: dict[str, Any] = json.loads(child.stdout.read())
    found["own bytes"]["most"] = most - found["own bytes"]["before"]
    return found


def run_points(folder: Path) -> list[dict[str, Any]]:
    """Measure every size in fresh processes: once with an empty cache, then as all others."""
    points = []
    for size in SIZES_MB:
        path, cache = folder / f"{size}.parquet", folder / f"cache-{size}"
        write_parquet(path, text_blocks(size * 1_000_000, seed=0))
        first, again = (watched(path, cache) for _ in range(2))
        points.append({**again, "first time": first})
        print(json.dumps(points[-1]), flush=True)
        path.unlink()
    return points


def main() -> None:
    """Measure all sizes, fit, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="disk to read from; a temporary folder if left out")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(options.point)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        points = run_points(Path(folder))
    ahead = {p.parts[3]: int(p.read_text()) for p in Path("/sys/block").glob(READ_AHEAD)}
    about = {**machine(), "KiB read ahead, by disk": ahead}
    found = {"machine": about, "points": points, "continued": continued(points)}
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["continued"], indent=1))


if __name__ == "__main__":
    main()
