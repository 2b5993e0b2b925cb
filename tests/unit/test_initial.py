"""What weights are before the first step."""

import math

import pytest
import torch

from anymae.config import InputConfig, ModelConfig
from anymae.model import MaskedAutoencoder
from anymae.nn.initial import GAIN, STD, waves
from anymae.presets import PRESETS, build_config


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
    assert layer.weight.std().item() == pytest.approx(GAIN / math.sqrt(layer.in_features), rel=0.05)
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
