"""What weights are before the first step."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from anymae.config import VOCABULARY, InputConfig, ModelConfig
from anymae.data.dataset import open_data
from anymae.model import MaskedAutoencoder
from anymae.nn.initial import GAIN, STD, waves
from anymae.presets import PRESETS, build_config
from anymae.training.trivial import fit_trivial
from runs import small


def fresh(config: ModelConfig) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(config)


BYTES = InputConfig(kind="bytes", length=64)


def test_published_weights_are_normal_with_a_deviation_of_0_02() -> None:
    model = fresh(build_config("tiny", BYTES, encoder={"initial": "published"}))
    for name, parameter in model.named_parameters():
        if parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_scaled_matrices_have_the_deviation_that_their_width_asks_for() -> None:
    model = fresh(build_config("small", BYTES))
    layer = next(part for part in model.encoder.modules() if isinstance(part, torch.nn.Linear))
    assert layer.weight.std().item() == pytest.approx(GAIN / math.sqrt(layer.in_features), rel=0.1)
    table = fresh(build_config("tiny", InputConfig(kind="values", length=4)))
    assert table.embedding.content.weight.std().item() == pytest.approx(0.02, rel=0.4)


def test_columns_of_a_table_have_no_order_and_no_waves() -> None:
    table = InputConfig(kind="table", length=28, categories=(0,) * 28)
    drawn = fresh(build_config("tiny", table)).embedding.positions
    published = build_config("tiny", table, encoder={"initial": "published"})
    assert drawn is not None
    torch.testing.assert_close(drawn, fresh(published).embedding.positions)


def test_near_positions_are_alike_along_a_row_and_across_an_image() -> None:
    line = waves(BYTES, 64)
    assert line.std().item() == pytest.approx(STD, rel=0.1)
    likeness = line @ line.T
    assert (likeness.diagonal(1)[:56] > likeness.diagonal(8)).all()
    image = waves(InputConfig(kind="image", length=64, grid=(8, 8)), 64)
    likeness = image @ image.T
    # Pixel 0: its right and its lower neighbour are as near; a far one is not.
    assert likeness[0, 1] == pytest.approx(likeness[0, 8].item(), rel=1e-4)
    assert likeness[0, 1] > likeness[0, 36]


@pytest.mark.parametrize("name", PRESETS)
def test_published_configurations_keep_published_weights(name: str) -> None:
    initial = PRESETS[name].encoder.get("initial", "published")
    assert (initial == "published") == name.startswith("paper-")


def mixed(rows: int = 200) -> pd.DataFrame:
    source = np.random.default_rng(0)
    color = source.choice(["red", "green", "blue"], rows, p=[0.7, 0.2, 0.1])
    return pd.DataFrame({"x": source.normal(size=rows), "color": color, "k": source.random(rows)})


@pytest.mark.parametrize(
    "data",
    [
        ["CCO", "CCCN", "COC", "CCCCCCCCN"] * 50,
        np.random.default_rng(0).normal(size=(200, 5)).astype("float32"),
        np.random.default_rng(0).integers(0, 9, (200, 4, 4)).astype("uint8"),
        mixed(),
    ],
    ids=["bytes", "values", "image", "table"],
)
def test_a_run_begins_at_what_is_predicted_without_looking(data: object, tmp_path: Path) -> None:
    run = small(tmp_path / "scaled", data, steps=1)
    (first, *_) = (e for e in run.history if e["kind"] == "valid")
    assert first["valid_loss"] == pytest.approx(first["trivial_loss"], rel=0.1)


def test_a_run_from_published_weights_begins_at_chance(tmp_path: Path) -> None:
    run = small(tmp_path / "run", steps=1, settings={"encoder.initial": "published"})
    (first, *_) = (e for e in run.history if e["kind"] == "valid")
    assert first["valid_loss"] == pytest.approx(math.log(VOCABULARY), rel=0.01)


def test_a_head_for_a_table_begins_at_each_columns_frequencies() -> None:
    dataset = open_data(mixed())
    model = fresh(build_config("tiny", dataset.input))
    trivial = fit_trivial(dataset, dataset.parts.train)
    model.head.begin_at(trivial)
    column = list(dataset.input.categories).index(3)
    decoded = torch.zeros(1, 3, model.config.decoder.width)
    predicted = model.head.predict(decoded, torch.tensor([[0, 1, 2]]), None)[0]
    torch.testing.assert_close(predicted[column], trivial[column])
    assert (predicted[[i for i in range(3) if i != column], 0] == 0).all()
