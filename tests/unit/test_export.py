"""An ONNX file computes what torch computes, and nothing is written where it would not."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import anymae
from anymae import export
from anymae.config import ModelConfig, parse
from anymae.errors import AnymaeError, FolderError, MissingExtraError, UserInputError
from anymae.export import export_onnx
from anymae.hub import Model
from anymae.model import MaskedAutoencoder
from anymae.predictor import Ensemble, Predictor
from anymae.task import ReadoutConfig, TaskConfig
from runs import small
from tiny import tiny_config, tiny_inputs

runtime = pytest.importorskip("onnxruntime", reason="needs anymae[onnx]")
onnx = pytest.importorskip("onnx", reason="needs anymae[onnx]")
pytest.importorskip("onnxscript", reason="needs anymae[onnx]")

CLASSES = TaskConfig(
    type="multiclass", targets=("kind",), classes=("a", "b", "c"), readout=ReadoutConfig()
)


def run(path: Path, inputs: torch.Tensor, valid: torch.Tensor) -> np.ndarray:
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"inputs": inputs.numpy(), "valid": valid.numpy()})[0]


def published_widths() -> ModelConfig:
    """A perceiver whose values are wider than its keys, as the published ones' are."""
    encoder = {"kind": "perceiver", "width": 16, "qk_width": 8, "depth": 1, "num_heads": 2}
    return parse(
        ModelConfig,
        {"input": {"kind": "values", "length": 9}, "encoder": {**encoder, "num_latents": 3}},
    )


@pytest.mark.parametrize(
    "config",
    [
        tiny_config("bytes"),
        published_widths(),
        pytest.param(tiny_config("table", length=6), marks=pytest.mark.slow),
        pytest.param(tiny_config("image", "perceiver"), marks=pytest.mark.slow),
    ],
    ids=["bytes", "published widths", "table", "image"],
)
def test_the_vector_is_the_mean_over_valid_latents(config: ModelConfig, tmp_path: Path) -> None:
    model = MaskedAutoencoder(config)
    written = export_onnx(model, tmp_path / "new" / "model.onnx")
    assert model.training, "the model is left as it was"
    model.eval()
    assert written.output == "vector"
    content = written.path.read_bytes()
    assert str(Path(export.__file__).parent).encode() not in content, "where it was made"
    assert b"site-packages" not in content
    assert written.difference < 1e-5
    rows = 7
    inputs = tiny_inputs(config, rows)
    valid = torch.rand(inputs.shape[:2]) < 0.6
    valid[:, 0] = True
    found = run(written.path, inputs, valid)
    with torch.no_grad():
        for row in range(rows):
            alone = model.encode(inputs[row : row + 1], valid[row : row + 1]).latents
            np.testing.assert_allclose(found[row], alone[0].mean(0), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_another_format_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    model = MaskedAutoencoder(tiny_config()).to(dtype)
    with pytest.raises(UserInputError, match="hold float32 weights"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "reading",
    ["query", *(pytest.param(one, marks=pytest.mark.slow) for one in ("layers", "kernel"))],
)
def test_the_answers_of_all_members_come_out(reading: str, tmp_path: Path) -> None:
    task = CLASSES.model_copy(update={"readout": ReadoutConfig(kind=reading)})  # type: ignore[arg-type]
    config = tiny_config("bytes", "perceiver")
    members = [Predictor(config, task).eval() for _ in range(2)]
    model: Model = Ensemble(members) if reading == "query" else members[0]
    written = export_onnx(model, tmp_path / "model.onnx")
    assert (written.output, written.inputs["inputs"]) == ("answers", ("rows", "inputs"))
    inputs = tiny_inputs(config, 3, length=5)
    valid = torch.ones(3, 5, dtype=torch.bool)
    with torch.no_grad():
        np.testing.assert_allclose(
            run(written.path, inputs, valid), model.answer(inputs, valid), atol=1e-5
        )


@pytest.mark.parametrize(
    ("mean", "std"), [(1e6, 1.0), pytest.param(2e-6, 1e-6, marks=pytest.mark.slow)]
)
def test_amounts_are_compared_in_standard_deviations(
    mean: float, std: float, tmp_path: Path
) -> None:
    task = TaskConfig(type="regression", targets=("y",), mean=(mean,), std=(std,))
    config = tiny_config("table", length=3)
    model = Predictor(config, task).eval()
    content = export_onnx(model, tmp_path / "model.onnx").path.read_bytes()
    model.output.bias.data += 0.5
    with pytest.raises(AnymaeError, match=r"differs from torch by 0\.[45]"):
        export._compare(export._Answers(model), content, config.input)


@pytest.mark.slow
def test_the_same_model_makes_the_same_file(tmp_path: Path) -> None:
    model = MaskedAutoencoder(tiny_config(length=4))
    one, other = (export_onnx(model, tmp_path / name).path for name in ("a.onnx", "b.onnx"))
    assert one.read_bytes() == other.read_bytes()


def test_a_run_gives_the_embeddings_that_embed_writes(tmp_path: Path) -> None:
    small(tmp_path / "run", steps=2)
    written = export_onnx(tmp_path / "run", tmp_path / "model.onnx")
    stored = {each.key: each.value for each in onnx.load(written.path).metadata_props}
    data = json.loads(stored["data"])
    assert data == json.loads((tmp_path / "run" / "data.json").read_text())
    assert json.loads(stored["config"])["encoder"]["width"] == 16
    # As docs/use.md says: a byte plus 6, then 5 at the end.
    tokens = torch.tensor([[byte + 6 for byte in b"CCO"] + [5]])
    found = run(written.path, tokens, torch.ones(1, 4, dtype=torch.bool))
    expected = anymae.embed(anymae.load(tmp_path / "run"), ["CCO"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_table_is_read_as_its_statistics_say(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {"mass": draw.normal(5, 2, 60), "charge": draw.choice(["+", "-", "0"], 60)}
    )
    table.loc[0, "mass"] = np.nan
    small(tmp_path / "run", table, steps=2)
    written = export_onnx(tmp_path / "run", tmp_path / "model.onnx")
    assert written.inputs == {"inputs": ("rows", 2, 1), "valid": ("rows", 2)}
    data = next(e.value for e in onnx.load(written.path).metadata_props if e.key == "data")
    mass, charge = json.loads(data)["statistics"]["columns"]
    cells = np.stack(
        [
            (table.mass.fillna(0) - mass["center"]) / mass["scale"],
            table.charge.map(charge["categories"].index),
        ],
        axis=1,
    )
    found = run(
        written.path,
        torch.from_numpy(cells).float()[:, :, None],
        torch.from_numpy(table.notna().to_numpy()),
    )
    expected = anymae.embed(anymae.load(tmp_path / "run"), table)
    np.testing.assert_allclose(found, expected.to_numpy(), atol=1e-5)


def test_other_numbers_than_torchs_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(AnymaeError, match="differs from torch by"):
        export_onnx(MaskedAutoencoder(tiny_config(length=4)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.onnx"
    there.write_text("kept")
    for out, error, message in (
        (there, FolderError, "--overwrite"),
        (tmp_path / "model.pt", UserInputError, "expected .onnx"),
        (there / "model.onnx", FolderError, "is a file"),
    ):
        with pytest.raises(error, match=message):
            export_onnx(tmp_path / "no run", out)
    monkeypatch.setattr(export, "_MOST_BYTES", 100)
    with pytest.raises(UserInputError, match="holds at most 100"):
        export_onnx(MaskedAutoencoder(tiny_config()), there, overwrite=True)
    assert there.read_text() == "kept"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"anymae\[onnx\]"):
        export_onnx(MaskedAutoencoder(tiny_config()), tmp_path / "model.onnx")
