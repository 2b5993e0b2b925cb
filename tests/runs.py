"""Small pretraining runs, and what two of them have in common."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from anymae.config import ModelConfig, parse
from anymae.data.dataset import open_data
from anymae.model import MaskedAutoencoder
from anymae.task import FinetuneConfig
from anymae.training.finetune import finetune
from anymae.training.finetuned import Finetuned
from anymae.training.pretrain import Run, pretrain
from anymae.training.progress import Progress

TIMES = ("rows_per_second", "data_wait", "memory_mb", "seconds")
"""Numbers of a log that no two runs share."""


def strings(count: int = 90, *, seed: int = 0) -> list[str]:
    """Strings of 3 to 30 letters that have something to learn: each repeats a short pattern."""
    source = random.Random(seed)
    patterns = ["CCO", "c1ccccc1", "NC", "Br"]
    return [(source.choice(patterns) * 12)[: source.randint(3, 30)] for _ in range(count)]


def small(out: Path, data: object = None, **keywords: Any) -> Run:
    """Pretrain a model of a few thousand weights for 12 steps, three to an epoch."""
    sizes = {
        "encoder.width": 16,
        "encoder.depth": 1,
        "encoder.num_heads": 2,
        "training.validate_every": 4,
        "training.threads": 1,
        **keywords.pop("settings", {}),
    }
    keywords = {"preset": "tiny", "steps": 12, "batch_size": 32, "device": "cpu", **keywords}
    return pretrain(strings() if data is None else data, out=out, settings=sizes, **keywords)


def encoder(heads: int = 2) -> MaskedAutoencoder:
    """A model of a few thousand weights, always the same, for `strings`."""
    dataset = open_data(strings())
    sizes = {"width": 16, "depth": 1, "num_heads": heads}
    config = parse(ModelConfig, {"input": dataset.input.model_dump(), "encoder": sizes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MaskedAutoencoder(config)
    model.data = dataset.preparation.to_json()
    return model


def tuned(out: Path | None, data: object = None, *, heads: int = 2, **keywords: Any) -> Finetuned:
    """Fine-tune `encoder` to the lengths of strings: two rates, 8 steps each, looked at by twos."""
    lengths = [float(len(string)) for string in strings()]
    data = {"x": strings(), "y": lengths} if data is None else data
    config = {"learning_rates": (1e-3, 1e-2), "dropout": 0.1, **keywords.pop("config", {})}
    training = {"steps": 8, "validate_every": 2, "batch_size": 16, "threads": 1, "device": "cpu"}
    training |= keywords.pop("training", {})
    return finetune(
        encoder(heads), data, target="y", out=out, config=parse(FinetuneConfig, config),
        training=training, **keywords,
    )  # fmt: skip


class Cut(BaseException):
    """Stands for a kill: nothing is saved on the way out."""


def cut_at(*steps: int) -> Callable[[Progress], None]:
    """Return a `progress` that cuts the run once these steps are done."""

    def report(progress: Progress) -> None:
        if progress.step in steps:
            raise Cut

    return report


def weights(run: Path) -> bytes:
    """The bytes of the finished weights."""
    return (run / "model.safetensors").read_bytes()


def history(run: Path) -> list[dict[str, Any]]:
    """The log, without what depends on the clock."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def last_checkpoint(run: Path) -> dict[str, bytes]:
    """Weights and optimizer of the newest checkpoint, as bytes."""
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    return {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}
