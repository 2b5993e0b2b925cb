"""What the model promises at its edges: rows of one input, empty batches, half precision."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor

import anymae
from anymae.config import (
    DecoderConfig,
    EncoderConfig,
    MaskingConfig,
    ModelConfig,
    parse,
)
from anymae.errors import ConfigError, DataError
from anymae.export import _Answers, _Vector
from anymae.model import MaskedAutoencoder
from anymae.nn.encoder import Encoded, make_encoder
from anymae.nn.readout import READOUTS, mean_pool
from anymae.predictor import Predictor
from anymae.recipes import make_recipe
from anymae.task import ReadoutConfig, TaskConfig
from tiny import tiny_config, tiny_inputs

ENCODERS = ["transformer", "perceiver"]


def of_values(encoder: str = "transformer", **options: object) -> ModelConfig:
    """A model of rows of two numbers an input, with a decoder as in the published perceivers."""
    sizes = {"kind": encoder, "width": 16, "depth": 1, "num_heads": 2}
    return parse(ModelConfig, {
        "input": {"kind": "values", "length": 8, "channels": 2, **options},
        "encoder": sizes | ({"num_latents": 3} if encoder == "perceiver" else {}),
        "decoder": {"width": 16, "qk_width": 8, "share_positions": False},
    })  # fmt: skip


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("positions", ["none", "learned"])
@pytest.mark.parametrize("is_half", [False, True])
@pytest.mark.parametrize("has_valid", [False, True])
def test_rows_of_one_input_have_a_loss_of_nothing(
    encoder: str, positions: str, is_half: bool, has_valid: bool
) -> None:
    model = MaskedAutoencoder(of_values(encoder, positions=positions))
    valid = torch.ones(3, 1, dtype=torch.bool) if has_valid else None
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        out = model(torch.randn(3, 1, 2), valid)
    assert out.loss.item() == 0 and int(out.count) == 0 and len(out.predictions) == 0
    out.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_sets_of_one_member_can_be_pretrained_on(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    sets = [torch.randn(1 + 2 * (row % 2), 2, generator=generator).tolist() for row in range(40)]
    recipe = make_recipe({
        "preset": "tiny", "data": {"positions": "none"},
        "encoder": {"width": 16, "depth": 1, "num_heads": 2},
        "training": {"steps": 8, "batch_size": 4},
    })  # fmt: skip
    run = anymae.pretrain(sets, out=tmp_path / "run", recipe=recipe, no_examples=True)
    assert math.isfinite(run.metrics["valid_loss"])


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("has_valid", [False, True])
def test_a_batch_without_rows_has_a_loss_of_nothing(encoder: str, has_valid: bool) -> None:
    model = MaskedAutoencoder(of_values(encoder))
    valid = torch.ones(0, 4, dtype=torch.bool) if has_valid else None
    assert model(torch.randn(0, 4, 2), valid).loss.item() == 0


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_table_with_categories_has_a_cell_for_each_column(count: int) -> None:
    model = MaskedAutoencoder(tiny_config("table", length=4))
    with pytest.raises(DataError, match=rf"{count} cells and the table 4 columns"):
        model.encode(torch.zeros(2, count, 1))
    with pytest.raises(DataError, match=rf"{count} cells and the table 4 columns"):
        model(torch.zeros(2, count, 1))


@pytest.mark.parametrize(
    ("section", "key", "most"),
    [
        (MaskingConfig, "inputs_per_query", 1e9),
        (MaskingConfig, "block_side", 2**31),
        (EncoderConfig, "mlp_ratio", 1024),
        (EncoderConfig, "read_mlp_ratio", 1024),
        (DecoderConfig, "mlp_ratio", 1024),
    ],
)
def test_settings_beyond_what_computes_are_refused(
    section: type[BaseModel], key: str, most: float
) -> None:
    sizes: dict[str, object] = {} if section is MaskingConfig else {"width": 16}
    if section is EncoderConfig:
        sizes |= {"depth": 1, "num_heads": 2}
    with pytest.raises(ConfigError, match=key):
        parse(section, sizes | {key: most * 2})
    if section is MaskingConfig:
        kind = "block" if key == "block_side" else "guided"
        model = MaskedAutoencoder(tiny_config("image", kind=kind, **{key: most}))
        assert model(tiny_inputs(model.config, 4)).loss.isfinite()


def test_a_set_starts_with_the_size_of_its_numbers_not_their_sign_alone() -> None:
    torch.manual_seed(0)
    config = tiny_config("values").model_copy(deep=True)
    inputs = config.input.model_copy(update={"positions": "none", "channels": 1})
    model = MaskedAutoencoder(config.model_copy(update={"input": inputs}))
    small, large = model.embedding(torch.tensor([[[0.1], [3.0]]]))[0]
    assert (small - large).abs().max() > 0.1
    rows, norms = torch.randn(8, 24, 1), []
    for members in (rows, rows.index_fill(1, torch.tensor([2]), 0.0)):
        model.zero_grad()
        model(members, masked=torch.arange(24).expand(8, -1) % 3 == 0).loss.backward()
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]))
    assert norms[1] < 3 * norms[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_mean_holds_many_latents_in_any_format(dtype: torch.dtype) -> None:
    for count, value in ((1024, 70.0), (257, 1.0)):
        latents = torch.full((1, count, 2), value, dtype=dtype)
        valid = torch.ones(1, count, dtype=torch.bool)
        found = mean_pool(Encoded(latents, valid))
        assert found.dtype == dtype
        torch.testing.assert_close(found, mean_pool(Encoded(latents, None)))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("reading", [None, *READOUTS])
def test_an_exported_graph_is_the_model_also_of_a_row_without_inputs(
    encoder: str, reading: str | None
) -> None:
    model = MaskedAutoencoder(tiny_config("bytes", encoder)).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    inputs = tiny_inputs(model.config, 4)
    valid = torch.rand(inputs.shape) < 0.5
    valid[:, 0], valid[1] = True, False
    with torch.inference_mode():
        found, expected = both(model, reading, inputs, valid)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def both(
    model: MaskedAutoencoder, reading: str | None, inputs: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """What the graph that is exported computes, and what the model does."""
    if reading is None:
        return _Vector(model)(inputs, valid), mean_pool(model.encode(inputs, valid))
    readout = ReadoutConfig.model_validate({"kind": reading, "num_heads": 2})
    task = TaskConfig(type="regression", targets=("y",), mean=(2.0,), std=(3.0,), readout=readout)
    predictor = Predictor(model.config, task).eval()
    predictor.load_encoder(model.state_dict())
    return _Answers(predictor)(inputs, valid), predictor.answer(inputs, valid)


def test_drop_path_grows_from_block_to_block() -> None:
    config = EncoderConfig(width=16, num_heads=2, depth=3, drop_path=0.4)
    rates = [block.drop_path.rate for block in make_encoder(config).blocks]  # type: ignore[attr-defined]
    assert rates == pytest.approx([0, 0.2, 0.4])


@pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
def test_guesses_of_a_set_do_not_depend_on_where_its_hidden_members_stand(encoder: str) -> None:
    config = tiny_config("values", encoder, length=9)
    inputs_config = config.input.model_copy(update={"positions": "none"})
    model = MaskedAutoencoder(config.model_copy(update={"input": inputs_config})).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    inputs, order = tiny_inputs(config, 2), torch.arange(8, -1, -1)
    masked = (torch.arange(9) < 4).expand(2, 9)
    with torch.no_grad():
        one = model(inputs, masked=masked).predictions
        other = model(inputs[:, order], masked=masked[:, order]).predictions
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
