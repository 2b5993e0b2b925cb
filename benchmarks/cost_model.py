"""What published configurations would cost on GPUs, on paper (`docs/scale.md`).

    python benchmarks/cost_model.py     tables to the screen, numbers and a plot to files

Work is counted, not guessed: every matrix product of a training step of this library. Speeds are
those of data sheets times a utilisation that is an assumption. Communication is one ring
all-reduce of the gradients a step, of which nothing is hidden behind the backward pass, or as much
as can be. Not in here: all but matrix products, latencies, and that small batches leave a GPU idle.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from anymae.config import ModelConfig
from anymae.model import MaskedAutoencoder
from anymae.presets import PRESETS, preset_config
from anymae.randomness import Draws
from harness import MatmulRecorder

STORED = Path(__file__).parent / "results" / "cost_model.json"
PLOT = Path(__file__).parents[1] / "docs" / "performance" / "processes.png"

UTILISATIONS = (0.2, 0.4, 0.6)
"""Shares of a GPU's peak that training reaches. Assumed; the middle one is used where one is."""
LINK_USE = 0.8
"""Share of a link's bandwidth that an all-reduce reaches. Assumed."""
BACKWARD = 2 / 3
"""Share of the work that is the backward pass, behind which communication can hide."""
GRADIENT_BYTES = 4
"""Weights are float32, so are their gradients, whatever the products are computed in."""


class Gpu(NamedTuple):
    """A GPU, from its maker's data sheet."""

    bf16: float
    """FLOP/s of dense matrices in bf16."""
    fp32: float | None
    """FLOP/s in fp32, without TF32, which the library leaves off; `None` where sources differ."""
    nvlink: float
    """Bytes a second each way; data sheets state both ways together."""


GPUS = {
    "A100": Gpu(bf16=312e12, fp32=19.5e12, nvlink=300e9),
    "H100": Gpu(bf16=989.5e12, fp32=67e12, nvlink=450e9),
    "B200": Gpu(bf16=2250e12, fp32=None, nvlink=900e9),
}
LINKS = {
    "NVLink": GPUS["H100"].nvlink,
    "8 x 400 Gb/s": 400e9,
    "400 Gb/s": 50e9,
    "100 Gb/s": 12.5e9,
}
"""The narrowest place of the ring, bytes a second each way: out of a GPU (NVLink), or out of a
machine by all its network adapters, however many GPUs are behind them."""


class Run(NamedTuple):
    """A published pretraining, as far as it is known."""

    rows: float
    """Rows in all: epochs times corpus, or steps times batch."""
    words: str


RUNS = {
    "paper-chemistry": Run(30 * 1_273_104, "30 epochs of 1,273,104 rows (unverified)"),
    "paper-physics": Run(50 * 68e3, "50 epochs of about 68,000 rows (inferred)"),
    "paper-protein": Run(10 * 32e6, "10 epochs of about 32 M rows (unverified)"),
    "paper-language": Run(1_000_000 * 256, "1,000,000 steps of 256 rows"),
    "paper-image": Run(200 * 126.7e3, "200 epochs of about 126,700 rows (unverified)"),
}


def count_products(model: MaskedAutoencoder, batch: int, length: int) -> int:
    """Count multiplications and additions of a training step; nothing is computed."""
    config = model.config.input
    draws = Draws(torch.arange(batch))
    with FakeTensorMode(allow_non_fake_inputs=True), MatmulRecorder() as recorder:
        shape = (batch, length)
        is_bytes = config.kind == "bytes"
        inputs = (
            torch.zeros(shape, dtype=torch.int64)
            if is_bytes
            else torch.zeros(*shape, config.channels)
        )
        loss = model(inputs, draws=draws).loss
        torch.autograd.grad(loss, list(model.parameters()))
    return sum(product.flops * count for product, count in recorder.products.items())


class Work(NamedTuple):
    """Work of a training step: `row` for each row, `step` once, whatever the batch."""

    parameters: int
    row: int
    step: int


def work(config: ModelConfig, length: int | None = None) -> Work:
    """Count the work of a configuration on full rows, or on rows of `length` inputs."""
    model = MaskedAutoencoder(config)
    one, two = (count_products(model, rows, length or config.input.length) for rows in (1, 2))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Work(parameters, two - one, 2 * one - two)


def all_reduce_seconds(size: float, processes: int, bandwidth: float) -> float:
    """Sum `size` bytes over processes in a ring: each sends its share 2 (P - 1) times."""
    return 2 * (processes - 1) / processes * size / (bandwidth * LINK_USE)


class Cost(NamedTuple):
    """A configuration on a GPU."""

    seconds_a_row: float
    seconds_a_step: float
    gradients: float
    """Bytes."""

    def efficiency(
        self, batch: float, processes: int, bandwidth: float, *, hidden: float = 0.0
    ) -> float:
        """Return the share of a step that is work on rows, `batch` rows a process.

        Communication is free up to the share `hidden` of that work.
        """
        rows = batch * self.seconds_a_row
        spent = all_reduce_seconds(self.gradients, processes, bandwidth)
        return rows / (rows + self.seconds_a_step + max(0.0, spent - hidden * rows))

    def batch_for(self, share: float, processes: int, bandwidth: float) -> float:
        """Return the rows a process at which the all-reduce takes `share` of a step."""
        spent = all_reduce_seconds(self.gradients, processes, bandwidth)
        return (spent * (1 - share) / share - self.seconds_a_step) / self.seconds_a_row

    def most_processes(
        self, global_batch: int, efficiency: float, bandwidth: float, *, hidden: float = 0.0
    ) -> int:
        """Return the most processes that share a global batch at no less than `efficiency`.

        Each has a row at least; one alone always counts.
        """
        return max(
            processes
            for processes in range(1, global_batch + 1)
            if processes == 1
            or self.efficiency(global_batch / processes, processes, bandwidth, hidden=hidden)
            >= efficiency
        )


def peak(name: str, gpu: str) -> float:
    """Return a GPU's FLOP/s in the precision of a preset; 0 where it is not known."""
    # All of them multiply bf16, which is what `auto` takes then.
    precision = PRESETS[name].training["precision"].replace("auto", "bf16")
    return GPUS[gpu]._asdict()[precision] or 0.0


def cost(name: str, found: Work, gpu: str, utilisation: float) -> Cost:
    """Turn work into seconds on a GPU."""
    speed = peak(name, gpu) * utilisation
    return Cost(found.row / speed, found.step / speed, GRADIENT_BYTES * found.parameters)


def hours(name: str, found: Work, gpu: str, utilisation: float) -> float:
    """Return hours of one GPU for the published run, without communication."""
    spent = cost(name, found, gpu, utilisation)
    rows = RUNS[name].rows
    steps = rows / PRESETS[name].training["batch_size"]
    return (rows * spent.seconds_a_row + steps * spent.seconds_a_step) / 3600


def spread(processes: int, spent: Cost, batch: int) -> dict[str, Any]:
    """Compute what communication does to a configuration, by link."""
    found = {}
    for link, speed in LINKS.items():
        most = {
            f"at {share:.0%}": [
                spent.most_processes(batch, share, speed, hidden=hidden)
                for hidden in (0.0, BACKWARD)
            ]
            for share in (0.9, 0.5)
        }
        found[link] = {
            "all-reduce milliseconds": 1000 * all_reduce_seconds(spent.gradients, processes, speed),
            "batch a process for 10 %": spent.batch_for(0.1, processes, speed),
            "most processes at the published batch, none hidden and all that can be": most,
        }
    return found


def compute(processes: int) -> dict[str, Any]:
    """Compute all tables."""
    found: dict[str, Any] = {}
    for name, run in RUNS.items():
        config = preset_config(name)
        counted = work(config)
        batch = PRESETS[name].training["batch_size"]
        spent = cost(name, counted, "H100", UTILISATIONS[1])
        lengths = (64, 256, 512, 1024) if config.input.kind == "bytes" else (config.input.length,)
        by_length = {n: work(config, n).row for n in lengths if n <= config.input.length}
        a_row = {n: flops * spent.seconds_a_row / counted.row for n, flops in by_length.items()}
        found[name] = {
            **counted._asdict(),
            "rows": run.rows,
            "corpus": run.words,
            "global batch": batch,
            "hours": {
                gpu: {str(use): hours(name, counted, gpu, use) for use in UTILISATIONS}
                for gpu in GPUS
                if peak(name, gpu)
            },
            "flops a row by length": by_length,
            "rows a second by length, one H100": {n: 1 / seconds for n, seconds in a_row.items()},
            f"hours for 1e9 rows by length, {processes} H100": {
                n: 1e9 * seconds / processes / 3600 for n, seconds in a_row.items()
            },
            "links": spread(processes, spent, batch),
        }
    return found


def plot(found: dict[str, Any]) -> None:
    """Draw what is left of the speed as processes share the published batch."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import StrMethodFormatter

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    for axis, link in zip(axes, ("8 x 400 Gb/s", "400 Gb/s"), strict=True):
        for number, name in enumerate(name for name in found if name != "paper-language"):
            counted = Work(*(found[name][field] for field in Work._fields))
            spent, batch = cost(name, counted, "H100", UTILISATIONS[1]), found[name]["global batch"]
            counts = [2**power for power in range(batch.bit_length())]
            for hidden, style in ((0.0, "o-"), (BACKWARD, "--")):
                shares = [
                    spent.efficiency(batch / count, count, LINKS[link], hidden=hidden)
                    for count in counts
                ]
                label = f"{name.removeprefix('paper-')} ({batch} rows)" if not hidden else None
                axis.plot(counts, shares, style, color=f"C{number}", markersize=3, label=label)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axis.set(xlabel="processes that share the published batch", ylim=(0, 1.02))
        axis.set_title(f"{link} a machine (dashed: hidden in the backward pass)", fontsize=9)
    axes[0].set_ylabel("share of a step that is work")
    axes[0].legend(fontsize=8, loc="lower left")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=110)
    plt.close(figure)


def main() -> None:
    """Compute, store, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=64)
    found = compute(parser.parse_args().processes)
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    plot(found)


if __name__ == "__main__":
    main()
