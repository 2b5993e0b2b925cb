"""How fast the published configurations pretrain on a GPU (`docs/scale.md`).

    python benchmarks/on_gpu.py                               all of them, stored by the GPU's name
    python benchmarks/on_gpu.py paper-protein --rows 64       one, with another batch
    python benchmarks/on_gpu.py --device cpu --rows 2         try the script without a GPU

Rows are full. A share of the peak is the work of the step's matrix products (`cost_model.py`)
over its time and the data sheet's dense bf16 speed; that of fp32 is not stated, since fp32
products run at another one.
"""

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from anymae.config import ModelConfig
from anymae.model import MaskedAutoencoder
from anymae.presets import PRESETS, preset_config
from anymae.randomness import Draws, row_keys
from cases import Batch, direct_pretraining, pretraining
from cost_model import GPUS, RUNS, work
from harness import Spread, Step

STORED = Path(__file__).parent / "results" / "gpu"
PEAKS = {name: gpu.bf16 for name, gpu in {**GPUS, "H200": GPUS["H100"]}.items()}
"""Operations a second in bf16; the H200 differs from the H100 in memory."""
WARM_UP, MASKING = 3, "masking call"


def rows_of(name: str, rows: int, device: str) -> Batch:
    """Make random full rows of a preset."""
    config = preset_config(name).input
    valid = torch.ones(rows, config.length, dtype=torch.bool, device=device)
    generator = torch.Generator().manual_seed(0)
    if config.kind == "bytes":
        inputs = torch.randint(38, 128, valid.shape, generator=generator)
    else:
        inputs = torch.randn(*valid.shape, config.channels, generator=generator)
    return Batch(inputs.to(device), valid)


def seconds_of(step: Step, rounds: int, device: str) -> Spread:
    """Time a step from an idle device to an idle device."""
    spent = []
    for number in range(WARM_UP + rounds):
        begin = time.perf_counter()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        if number >= WARM_UP:
            spent.append(time.perf_counter() - begin)
    return Spread.of(spent)


def masking_call(config: ModelConfig, batch: Batch) -> Callable[[], object]:
    """Return the masking call of a model, past the random start."""
    device = batch.inputs.device
    model = MaskedAutoencoder(config).to(device)
    draws = Draws(row_keys(torch.arange(len(batch.valid)), seed=0).to(device))
    embedded = model.embedding(batch.inputs).detach()
    valid = None if batch.valid.all() else batch.valid
    return lambda: model.mask(embedded, valid, draws, 1.0)


def ways_of(config: ModelConfig, batch: Batch, *, direct: bool) -> dict[str, Callable[[], Step]]:
    """Name what is timed: each precision, the masking call and, if `direct`, the published way."""
    ways: dict[str, Callable[[], Step]] = {
        "fp32": lambda: pretraining(config, [batch], "fp32"),
        "bf16": lambda: pretraining(config, [batch], "bf16"),
        MASKING: lambda: masking_call(config, batch),
    }
    if direct:
        ways["direct fp32"] = lambda: direct_pretraining(config, [batch])
    return ways


def measure(name: str, rows: int, rounds: int, device: str, *, direct: bool) -> dict[str, Any]:
    """Measure a preset: time, rows a second, share of the peak where it is known, memory."""
    config = preset_config(name)
    gpu = "" if device == "cpu" else torch.cuda.get_device_name(device)
    peak = next((peak for known, peak in PEAKS.items() if known in gpu), None)
    counted, batch = work(config), rows_of(name, rows, device)
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "rounds": rounds,
        "rows": rows,
        "flops": rows * counted.row + counted.step,
    }
    for way, prepare in ways_of(config, batch, direct=direct).items():
        torch.manual_seed(0)
        if device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            spread = seconds_of(prepare(), rounds, device)
        except torch.cuda.OutOfMemoryError:
            found[way] = None
            print(f"{name}, {rows} rows, {way}: out of memory", flush=True)
            continue
        found[way] = {"seconds": spread._asdict()}
        line = f"{name}, {rows} rows, {way}: {1000 * spread.median:.2f} ms"
        if way != MASKING:
            found[way]["rows_per_second"] = rows / spread.median
            line += f", {rows / spread.median:,.0f} rows/s"
        if way == "bf16" and peak is not None:
            found[way]["share_of_peak"] = found["flops"] / spread.median / peak
            line += f", {found[way]['share_of_peak']:.1%} of the peak"
        if device != "cpu":
            found[way]["peak_bytes"] = torch.cuda.max_memory_allocated()
            line += f", {found[way]['peak_bytes'] / 2**30:.1f} GiB"
        print(line, flush=True)
    return found


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=[], metavar="PRESET", help=", ".join(RUNS))
    parser.add_argument("--rows", type=int, help="of a batch, else the published number")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--direct", action="store_true", help="the published way as well")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=STORED)
    options = parser.parse_args()
    is_gpu = options.device != "cpu"
    if is_gpu:
        torch.cuda.set_device(options.device)
    title = torch.cuda.get_device_name(options.device) if is_gpu else "cpu"
    path = options.out / f"{'-'.join(re.findall('[a-z0-9]+', title.lower()))}.json"
    before = json.loads(path.read_text()) if path.exists() else {"presets": {}}
    found = {"gpu": title, "presets": before["presets"]}
    for name in options.presets or RUNS:
        rows = options.rows or int(PRESETS[name].training["batch_size"])
        found["presets"][name] = measure(
            name, rows, options.rounds, options.device, direct=options.direct
        )
        if is_gpu:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
