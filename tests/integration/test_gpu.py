"""The same on a GPU: what is promised of numbers, masks, memory and files holds there too."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

import anymae
from anymae.benchmark import run_benchmark
from anymae.config import ModelConfig
from anymae.inference import ComputeConfig, embed, predict
from anymae.inference.computations import Reading
from anymae.model import MaskedAutoencoder, Reconstruction
from anymae.presets import preset_config
from anymae.randomness import Draws, row_keys
from anymae.recipes import load_recipe
from anymae.training.finetune import finetune
from anymae.training.folder import RECIPE
from runs import Cut, cut_at, history, small, strings
from tiny import tiny_config, tiny_inputs

pytestmark = pytest.mark.gpu
ENCODERS = ["transformer", "perceiver"]
KINDS = ["bytes", "values", "image", "table"]
every_model = pytest.mark.parametrize(
    ("kind", "encoder"), [(kind, encoder) for kind in KINDS for encoder in ENCODERS]
)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def gpu() -> str:
    """The device, or a skip that says that there is none."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU is here")
    return "cuda"


def make(config: ModelConfig) -> MaskedAutoencoder:
    model = MaskedAutoencoder(config)
    with torch.no_grad():  # wider than the usual start, so that mistakes show
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def ragged(batch: int) -> Tensor:
    valid = torch.rand(batch, 24) < torch.rand(batch, 1)
    valid[:, 3] = True
    return valid


@every_model
def test_loss_and_gradients_are_those_of_the_cpu(kind: str, encoder: str, gpu: str) -> None:
    here = make(tiny_config(kind, encoder))
    inputs, valid = tiny_inputs(here.config, 4), ragged(4)
    out = here(inputs, valid)
    there = make(here.config)
    there.load_state_dict(here.state_dict())
    there.to(gpu)
    again = there(inputs.to(gpu), valid.to(gpu), out.masked.to(gpu))
    torch.testing.assert_close(again.loss.cpu(), out.loss, **CLOSE)
    out.loss.backward()
    again.loss.backward()
    for name, parameter in here.named_parameters():
        other = there.get_parameter(name)
        if parameter.grad is not None:
            torch.testing.assert_close(other.grad.cpu(), parameter.grad, **CLOSE, msg=name)


@pytest.mark.parametrize("masking", ["guided", "random", "span"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_masks_are_those_of_the_cpu(masking: str, encoder: str, gpu: str) -> None:
    options = {"head_choice": "sample"} if masking == "guided" else {}
    model = make(tiny_config("bytes", encoder, kind=masking, **options))
    inputs, valid = tiny_inputs(model.config, 32), ragged(32)
    keys = row_keys(torch.arange(32), seed=0)
    # Scores that differ in their last bits could swap two inputs, which float64 all but excludes.
    model.double()
    here = model.mask(model.embedding(inputs), valid, Draws(keys), 1.0)
    model.to(gpu)
    embedded = model.embedding(inputs.to(gpu))
    there = model.mask(embedded, valid.to(gpu), Draws(keys.to(gpu)), 1.0)
    torch.testing.assert_close(there.cpu(), here)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("progress", [0.2, 1.0], ids=["with random", "by attention"])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@every_model
def test_forward_and_backward_never_wait(
    kind: str, encoder: str, padded: bool, progress: float, precision: str, gpu: str
) -> None:
    model = make(tiny_config(kind, encoder, head_choice="sample", random_start=0.5)).to(gpu)
    inputs, valid = tiny_inputs(model.config, 4).to(gpu), ragged(4).to(gpu) if padded else None
    draws = Draws(row_keys(torch.arange(4), seed=0).to(gpu))

    def step() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(inputs, valid, draws=draws, progress=progress).loss
        loss.backward()
        return loss

    step()  # First calls may load libraries.
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)


@pytest.mark.parametrize("preset", ["paper-protein", "paper-language", "paper-image"])
def test_published_perceivers_step_in_bf16(preset: str, gpu: str) -> None:
    """Their values are wider than their keys, and their first queries the same for all rows."""
    model = MaskedAutoencoder(preset_config(preset)).to(gpu)
    inputs = tiny_inputs(model.config, 2).to(gpu)
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(inputs).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("reading", get_args(Reading))
@pytest.mark.parametrize("encoder", ENCODERS)
def test_embeddings_are_those_of_the_cpu(encoder: str, reading: Reading, gpu: str) -> None:
    model = make(tiny_config("bytes", encoder, length=48))
    found = [
        embed(
            model,
            strings(),
            reading=reading,
            config=ComputeConfig(device=device, precision=precision),
        )
        for device, precision in [("cpu", "fp32"), (gpu, "fp32"), (gpu, "bf16")]
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], rtol=0.1, atol=0.1)
    assert np.abs(found[2] - found[0]).max() > 1e-4, "bf16 rounds more coarsely"
    assert next(model.parameters()).device.type == "cpu"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_run_learns_is_resumed_and_opens_on_a_cpu(
    precision: str, encoder: str, tmp_path: Path, gpu: str
) -> None:
    settings = {"encoder.kind": encoder, "training.checkpoint_every": 2}
    if encoder == "perceiver":
        settings["encoder.num_latents"] = 4
    options = {"device": gpu, "precision": precision, "steps": 60, "settings": settings}
    whole = small(tmp_path / "whole", **options)
    losses = [line["valid_loss"] for line in history(whole.folder) if "valid_loss" in line]
    assert losses[-1] < losses[0]
    with pytest.raises(Cut):
        small(tmp_path / "cut", progress=cut_at(31), **options)
    steps: list[int] = []
    again = small(
        tmp_path / "cut", resume=True, progress=lambda told: steps.append(told.step), **options
    )
    assert min(steps) > 30
    # A GPU adds up in any order, so the end is close rather than the same to the bit.
    last = [run.metrics["valid_loss"] for run in (whole, again)]
    assert last[1] == pytest.approx(last[0], rel=0.02)
    assert json.loads((whole.folder / "environment.json").read_text())["gpu"]
    model = anymae.load(whole.folder)
    assert next(model.parameters()).device.type == "cpu"
    assert np.isfinite(embed(model, strings(), config=ComputeConfig(device="cpu"))).all()


@pytest.mark.parametrize("data", ["packed", "table", "image"])
def test_other_data_train(data: str, tmp_path: Path, gpu: str) -> None:
    random = np.random.default_rng(0)
    rows = {
        "packed": strings(),
        "table": random.normal(size=(90, 5)),
        "image": random.integers(0, 255, (90, 4, 4)).astype("uint8"),
    }[data]
    settings = {"data.pack": True, "data.length": 40} if data == "packed" else {}
    run = small(tmp_path / "run", rows, device=gpu, settings=settings)
    assert np.isfinite(run.metrics["valid_loss"])


def test_recomputing_gives_the_same_losses(tmp_path: Path, gpu: str) -> None:
    found = [
        small(tmp_path / str(on), device=gpu, settings={"training.recompute": on}).metrics
        for on in (False, True)
    ]
    assert found[1]["valid_loss"] == pytest.approx(found[0]["valid_loss"], rel=1e-3)


def test_the_batch_that_fits_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str
) -> None:
    forward, limit = MaskedAutoencoder.forward, 128

    def hungry(self: MaskedAutoencoder, inputs: Tensor, *rest: Any, **more: Any) -> Reconstruction:
        if len(inputs) > limit:
            torch.empty(2**60, dtype=torch.int8, device=gpu)
        return forward(self, inputs, *rest, **more)

    monkeypatch.setattr(MaskedAutoencoder, "forward", hungry)
    run = small(tmp_path / "run", strings(3_000), device=gpu, batch_size="auto")
    assert load_recipe(run.folder / RECIPE).training["batch_size"] == limit


def test_fine_tuning_trains_and_answers_alike_on_a_cpu(tmp_path: Path, gpu: str) -> None:
    model = small(tmp_path / "run", device=gpu).model
    rows = strings()
    data = {"text": rows, "y": [row.count("C") + 0.37 * len(row) for row in rows]}
    training = {"steps": 60, "learning_rate": 3e-3, "batch_size": 24, "device": gpu}
    done = finetune(model, data, target="y", out=tmp_path / "tuned", training=training)
    there = predict(done.model, rows, config=ComputeConfig(device=gpu)).mean
    here = predict(anymae.load(tmp_path / "tuned"), rows, config=ComputeConfig(device="cpu")).mean
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-3)
    error = np.square(here[:, 0] - data["y"]).mean()
    assert error < np.var(data["y"])


def test_a_benchmark_runs_and_says_where(tmp_path: Path, gpu: str) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    arms = ("guided", "none", "baseline")
    records = run_benchmark(
        "digits", tasks=("50",), arms=arms, budget="mini", seeds=1, out=tmp_path, device=gpu
    )
    assert torch.cuda.max_memory_allocated() > before
    for record in records:
        has_encoder = record.job.arm != "baseline"
        assert ("gpu" in record.machine) == has_encoder
        assert record.command.endswith("--device cuda") == has_encoder
        assert set(record.methods) >= ({"probe", "finetune"} if has_encoder else set())
    assert records[0].settings["training"]["device"] == gpu
