"""Pretrain on files larger than memory should hold, and on their first rows, by turns.

    python benchmarks/larger_than_memory.py                      # needs 5 GB of disk
    python benchmarks/larger_than_memory.py --rows 100000 --text-bytes 10000000

Makes a table of 28 columns and a column of strings, and small files with as many columns. Prints
the speed a row of the big file against the small one's (ratio 1: as fast), the share of the time
spent waiting for data, and the most memory that is a process's own, not of mapped files.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from make_big import table_blocks, text_blocks, write_parquet

SMALL_ROWS = 20_000
SMALL_BYTES = 2_000_000
NAMES = ("table", "text")


class Measured(NamedTuple):
    rows_per_second: float
    data_wait: float
    own_mb: float


def own_mb(process: int) -> float:
    """Return the memory of a process that no file backs; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return 0.0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(found[0]) / 1024 if found else 0.0


def pretrain(data: Path, out: Path, cache: Path, steps: int) -> Measured:
    """Pretrain in a fresh process, whose memory is watched from outside."""
    command = [sys.executable, "-m", "anymae", "pretrain", str(data), "--out", str(out)]
    command += ["--preset", "tiny", "--steps", str(steps), "--batch-size", "256"]
    command += ["--set", "training.threads=1"]
    environment = {**os.environ, "ANYMAE_CACHE": str(cache)}
    most = 0.0
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        while child.poll() is None:
            most = max(most, own_mb(child.pid))
            time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"failed with {child.returncode}: {' '.join(command)}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    # The first window has the start in it.
    windows = [line for line in lines if line["kind"] == "train"][1:]
    return Measured(
        median(line["rows_per_second"] for line in windows),
        median(line["data_wait"] for line in windows),
        most,
    )


def make(folder: Path, rows: int, text_bytes: int) -> dict[str, tuple[Path, Path]]:
    """Write the files; by name, the big one and the small one."""
    pairs = {name: (folder / f"{name}.parquet", folder / f"small-{name}.parquet") for name in NAMES}
    for size, path in zip((rows, SMALL_ROWS), pairs["table"], strict=True):
        write_parquet(path, table_blocks(size, 28, seed=0))
    for size, path in zip((text_bytes, SMALL_BYTES), pairs["text"], strict=True):
        write_parquet(path, text_blocks(size, seed=0))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--text-bytes", type=int, default=1_000_000_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = make(folder, arguments.rows, arguments.text_bytes)
        for kind, both in pairs.items():
            taken: tuple[list[Measured], list[Measured]] = ([], [])
            # The first round fills the caches.
            for turn in range(arguments.rounds + 1):
                for file, kept in zip(both, taken, strict=True):
                    out = folder / f"{file.stem}-{turn}"
                    kept.append(pretrain(file, out, folder / "cache", arguments.steps))
            big, small = (list(zip(*kept[1:], strict=True)) for kept in taken)
            ratios = sorted(b / s for b, s in zip(big[0], small[0], strict=True))
            print(
                f"{kind}: rows/s {median(big[0]):,.0f} big, {median(small[0]):,.0f} small, ratio "
                f"{median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}); waiting "
                f"{median(big[1]):.2%}; own memory {max(big[2]):,.0f} MB big, "
                f"{max(small[2]):,.0f} MB small, {taken[0][0].own_mb:,.0f} MB filling the cache",
                flush=True,
            )


if __name__ == "__main__":
    main()
