"""Our task heads are the published implementation's, with its weights.

The published `mean_pool` averages filler of shorter rows too when the encoder is a transformer
(its logits change with the lengths of batch mates): there only the longest rows can agree.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from anymae.compat.published import _layer, convert
from anymae.predictor import Predictor
from anymae.task import ReadoutConfig, TaskConfig
from anymae.training.losses import task_losses

MODELS = ["self-discrete", "self-continuous", "cross-discrete"]
TASKS = {
    "regression": TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,)),
    "single_label": TaskConfig(type="multiclass", targets=("y",), classes=("0", "1", "2")),
    "multi_label": TaskConfig(type="multilabel", targets=("a", "b", "c", "d")),
}


class Head:
    """One reference classifier, and ours with the same weights."""

    def __init__(self, folder: Path, name: str, task: str, kind: str) -> None:
        config = json.loads((folder / f"{name}.json").read_text())
        stored = load_file(folder / f"{name}.safetensors")
        backbone = convert(config, below(stored, "weights/"))
        readout = ReadoutConfig(
            kind="query" if kind == "cross_attention" else "mean",
            width=config["decoder_latent_channels"],
            qk_width=config["decoder_attention_channels"],
            num_heads=config["decoder_heads"],
        )
        self.task = TASKS[task].model_copy(update={"readout": readout})
        self.model = Predictor.from_pretrained(backbone, self.task).eval()
        head = below(stored, f"cls/{task}/{kind}/")
        weights = translate(below(head, "weights/perceiver.decoder."), kind)
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        assert not unexpected
        assert {name.split(".")[0] for name in missing} <= {"embedding", "encoder", "readout"}
        self.labels, self.logits, self.loss = head["labels"], head["logits"], head["loss"]
        self.inputs = stored["io/inputs"]
        self.valid = stored["io/attention_mask"].bool()


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def translate(weights: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    if kind == "mean_pool":
        return {f"output.{part}": weights[f"linear.{part}"] for part in ("weight", "bias")}
    out = {"readout.query": weights["decoder_latents.latents"]}
    for part in ("weight", "bias"):
        out[f"readout.latent_norm.{part}"] = weights[f"pre_layernorm.{part}"]
        out[f"readout.norm.{part}"] = weights[f"final_layernorm.{part}"]
        out[f"output.{part}"] = weights[f"final_project.{part}"]
    return out | _layer(weights, "decoding_cross_attention.", "readout.layer.", read=True)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max().item() <= 1e-5 * max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_learned_query_agrees(golden_folder: Path, name: str, task: str) -> None:
    head = Head(golden_folder, name, task, "cross_attention")
    logits = head.model(head.inputs, head.valid)
    assert_close(logits, head.logits)
    labels = head.labels.float().reshape(len(logits), -1)
    loss, count = task_losses(head.task, logits, labels)
    assert_close(loss / count, head.loss)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_mean_agrees_where_no_filler_is_averaged(golden_folder: Path, name: str, task: str) -> None:
    head = Head(golden_folder, name, task, "mean_pool")
    logits = head.model(head.inputs, head.valid)
    lengths = head.valid.sum(1)
    pure = lengths == lengths.max()
    if head.model.config.encoder.kind == "perceiver":
        pure = torch.ones_like(pure)
    assert_close(logits[pure], head.logits[pure])
    for row, length in enumerate(lengths.tolist()):
        alone = head.model(head.inputs[row : row + 1, :length])
        assert_close(alone[0], logits[row])
