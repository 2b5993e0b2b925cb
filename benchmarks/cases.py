"""What is measured: the published sizes and `small`, on rows as long as real ones.

Only lengths matter for speed, so no data are needed: each corpus stands here by 21 quantiles of
its rows' numbers of inputs, from 0 to 100 %. Contents are random.

The direct way (`dense.py`) takes rows in a random order and pads them to the model's length, or
to the longest row of a batch. Ours come as training takes them: rows of 64 batches sorted by
length, of which a few batches, evenly spread, are measured. Rows differ between the two, so
speed is counted in real inputs, not rows.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from anymae.config import InputConfig, ModelConfig, TrainingConfig
from anymae.data.sampler import WINDOW
from anymae.model import MaskedAutoencoder
from anymae.nn.encoder import Encoded
from anymae.nn.readout import mean_pool
from anymae.predictor import Predictor
from anymae.presets import build_config, preset_config
from anymae.randomness import Draws, row_keys
from anymae.task import TaskConfig
from anymae.training.device import fastest_precision
from anymae.training.optim import decay_groups, make_optimizer
from dense import DenseAutoencoder, DenseEncoder, DensePredictor
from harness import Step

QUANTILES = {
    "chembl": (3, 29, 31, 33, 35, 36, 37, 38, 39, 41, 42, 43, 45, 46, 49, 51, 54, 58, 63, 71, 204),
    "moses": (16, 30, 31, 32, 33, 34, 35, 35, 36, 37, 37, 38, 38, 39, 40, 40, 41, 42, 43, 44, 58),
    "esol": (2, 7, 9, 10, 11, 13, 14, 15, 17, 19, 21, 23, 25, 27, 29, 32, 35, 37, 41, 47, 98),
    "proteins": (
        31, 76, 100, 121, 143, 165, 191, 217, 244, 271, 300,
        329, 362, 400, 446, 496, 564, 651, 792, 1047, 2049,
    ),
}  # fmt: skip
"""Inputs of a row, separator included: ChEMBL and MOSES molecules, ESOL, a protein corpus."""

REGRESSION = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))


class Batch(NamedTuple):
    """Rows as a model takes them."""

    inputs: Tensor
    valid: Tensor


class Variant(NamedTuple):
    """One way to do a case's work."""

    prepare: Callable[[], Step]
    """Build the model and its optimizer; the step then goes through the batches once."""
    batches: list[Batch]

    @property
    def inputs(self) -> int:
        """Real inputs that a step goes through."""
        return sum(int(batch.valid.sum()) for batch in self.batches)

    @property
    def rows(self) -> int:
        """Rows that a step goes through."""
        return sum(len(batch.valid) for batch in self.batches)


class Case(NamedTuple):
    """Work, the ways to do it, and what is asked of ours."""

    title: str
    variants: Mapping[str, Variant]
    wanted: Mapping[tuple[str, str], float]
    """(slow variant, fast variant): how many times faster, at least."""
    trains: bool = True


def lengths(corpus: str, count: int, longest: int, *, seed: int = 0) -> np.ndarray:
    """Draw numbers of inputs as `corpus` has them, `(count,)`; longer rows are cropped."""
    quantiles = QUANTILES[corpus]
    chance = np.random.default_rng(seed).random(count)
    drawn = np.interp(chance, np.linspace(0, 1, len(quantiles)), quantiles)
    return np.minimum(drawn.astype(np.int64), longest)


def strings(counts: np.ndarray, width: int | None = None) -> Batch:
    """Make a batch of random bytes, as wide as its longest row or as `width`."""
    valid = torch.arange(width or int(counts.max())) < torch.from_numpy(counts)[:, None]
    inputs = torch.randint(38, 128, valid.shape, generator=torch.Generator().manual_seed(0))
    return Batch(inputs * valid, valid)


def at_random(counts: np.ndarray, size: int, width: int | None = None) -> list[Batch]:
    """Cut rows into batches as they come."""
    return [strings(part, width) for part in np.split(counts, len(counts) // size)]


def by_length(corpus: str, size: int, longest: int, count: int) -> list[Batch]:
    """Make `count` of the batches that a window of sorted rows is cut into."""
    window = np.sort(lengths(corpus, WINDOW * size, longest)).reshape(WINDOW, size)
    places = (np.arange(count) + 0.5) * WINDOW / count
    return [strings(window[int(place)]) for place in places]


def pretraining(config: ModelConfig, batches: list[Batch], precision: str) -> Step:
    """Pretrain as `training/step.py` does it, where the batches are."""
    device = batches[0].inputs.device
    model = MaskedAutoencoder(config).to(device)
    keys = [row_keys(torch.arange(len(batch.valid)), seed=0).to(device) for batch in batches]
    draws = [Draws(key) for key in keys]
    full = [bool(batch.valid.all()) for batch in batches]

    def loss(number: int) -> Tensor:
        inputs, valid = batches[number]
        return model(inputs, None if full[number] else valid, draws=draws[number]).loss

    return _training(model, loss, len(batches), precision, TrainingConfig())


def direct_pretraining(config: ModelConfig, batches: list[Batch]) -> Step:
    """Pretrain the direct way, in fp32, with plain AdamW."""
    model = DenseAutoencoder(MaskedAutoencoder(config)).to(batches[0].inputs.device)
    return _training(model, lambda number: model(*batches[number]), len(batches))


def finetuning(config: ModelConfig, batches: list[Batch], precision: str) -> Step:
    """Train encoder and query head on one number for each row."""
    model = Predictor(config, REGRESSION)

    def loss(number: int) -> Tensor:
        return model(*batches[number]).float().square().mean()

    return _training(model, loss, len(batches), precision, TrainingConfig())


def direct_finetuning(config: ModelConfig, batches: list[Batch]) -> Step:
    """Fine-tune the direct way."""
    model = DensePredictor(Predictor(config, REGRESSION))
    return _training(model, lambda number: model(*batches[number]).square().mean(), len(batches))


def embedding(config: ModelConfig, batches: list[Batch], precision: str) -> Step:
    """Encode rows and average their latents."""
    model = MaskedAutoencoder(config).eval()

    @torch.inference_mode()
    def step() -> None:
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                mean_pool(model.encode(*batch))

    return step


def direct_embedding(config: ModelConfig, batches: list[Batch]) -> Step:
    """Encode rows the direct way."""
    model = DenseEncoder(MaskedAutoencoder(config)).eval()

    @torch.inference_mode()
    def step() -> None:
        for batch in batches:
            mean_pool(Encoded(*model(*batch)))

    return step


def _training(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    count: int,
    precision: str = "fp32",
    config: TrainingConfig | None = None,
) -> Step:
    """Return a step that trains on each batch once; without `config` by plain AdamW."""
    if config is None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=False)
    else:
        optimizer = make_optimizer(decay_groups(model, config), config)
    parameters = list(model.parameters())
    device = parameters[0].device.type
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # Allocates its state, of which measured memory is free.
    optimizer.zero_grad()

    def step() -> None:
        for number in range(count):
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                value = loss(number)
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return step


def _both(
    work: Callable[..., Step], config: ModelConfig, batches: list[Batch]
) -> dict[str, Variant]:
    """Ours, in each precision that the processor has: emulated, bf16 only loses."""
    precisions = dict.fromkeys(("fp32", fastest_precision(torch.device("cpu"))))
    return {p: Variant(partial(work, config, batches, p), batches) for p in precisions}


def _events(
    title: str, config: ModelConfig, size: int, wanted: Mapping[tuple[str, str], float]
) -> Case:
    values = torch.randn(size, 28, 1, generator=torch.Generator().manual_seed(0))
    batches = [Batch(values, torch.ones(size, 28, dtype=torch.bool))]
    direct = Variant(partial(direct_pretraining, config, batches), batches)
    variants = {"dense": direct, **_both(pretraining, config, batches)}
    return Case(f"pretraining, {title}, batch {size}", variants, wanted)


def _physics(size: int) -> Case:
    wanted = {("dense", "fp32"): 1.5} if size == 256 else {}
    return _events("HIGGS events", preset_config("paper-physics"), size, wanted)


def _small_physics() -> Case:
    config = build_config("small", InputConfig(kind="values", length=28))
    return _events("small, HIGGS events", config, 256, {})


def _packed() -> Case:
    config = preset_config("paper-chemistry")
    batches = [strings(np.full(8, 512))]
    direct = Variant(partial(direct_pretraining, config, batches), batches)
    return Case(
        "pretraining, molecules packed to 512, batch 8",
        {"dense": direct, **_both(pretraining, config, batches)},
        {("dense", "fp32"): 1.6, ("dense", "bf16"): 2.7},
    )


def _molecules() -> Case:
    config = preset_config("paper-chemistry")
    rows = lengths("chembl", 4 * 32, 512, seed=1)
    full, longest = at_random(rows[:32], 32, 512), at_random(rows, 32)
    return Case(
        "pretraining, molecules as they come, batch 32",
        {
            "dense-512": Variant(partial(direct_pretraining, config, full), full),
            "dense-longest": Variant(partial(direct_pretraining, config, longest), longest),
            **_both(pretraining, config, by_length("chembl", 32, 512, 4)),
        },
        {
            ("dense-512", "fp32"): 5, ("dense-512", "bf16"): 8,
            ("dense-longest", "fp32"): 2.2, ("dense-longest", "bf16"): 3.5,
        },
    )  # fmt: skip


def _protein() -> Case:
    # The perceiver's work hardly depends on lengths, so both sides take the same rows.
    config = preset_config("paper-protein")
    rows = lengths("proteins", 8, 1024)
    full, ordered = at_random(rows, 8, 1024), at_random(np.sort(rows), 8)
    return Case(
        "pretraining, proteins cropped to 1,024, batch 8",
        {
            "dense-1024": Variant(partial(direct_pretraining, config, full), full),
            **_both(pretraining, config, ordered),
        },
        {("dense-1024", "fp32"): 1.2, ("dense-1024", "bf16"): 2},
    )


def _small(corpus: str, longest: int, size: int) -> Case:
    config = build_config("small", InputConfig(kind="bytes", length=longest))
    batches = at_random(lengths(corpus, 2 * size, longest, seed=1), size)
    return Case(
        f"pretraining, small, {corpus}, batch {size}",
        {
            "dense-longest": Variant(partial(direct_pretraining, config, batches), batches),
            **_both(pretraining, config, by_length(corpus, size, longest, 4)),
        },
        {},
    )


def _esol() -> Case:
    config = preset_config("paper-chemistry")
    batches = at_random(lengths("esol", 4 * 32, 512, seed=1), 32)
    return Case(
        "fine-tuning on ESOL, batch 32",
        {
            "dense-longest": Variant(partial(direct_finetuning, config, batches), batches),
            **_both(finetuning, config, by_length("esol", 32, 512, 4)),
        },
        {("dense-longest", "fp32"): 1.3, ("dense-longest", "bf16"): 2},
    )


def _moses() -> Case:
    config = build_config("small", InputConfig(kind="bytes", length=64))
    batches = at_random(lengths("moses", 4 * 256, 64, seed=1), 256)
    return Case(
        "embedding, small, MOSES, batch 256",
        {
            "dense-longest": Variant(partial(direct_embedding, config, batches), batches),
            **_both(embedding, config, by_length("moses", 256, 64, 4)),
        },
        {("dense-longest", "bf16"): 2},
        trains=False,
    )


CASES: dict[str, Callable[[], Case]] = {
    "physics-256": partial(_physics, 256),
    "physics-64": partial(_physics, 64),
    "chemistry-packed": _packed,
    "chemistry-molecules": _molecules,
    "protein": _protein,
    "small-molecules": partial(_small, "chembl", 256, 64),
    "small-proteins": partial(_small, "proteins", 1024, 8),
    "small-physics": _small_physics,
    "finetuning-esol": _esol,
    "embedding-moses": _moses,
}
"""All cases by name."""
