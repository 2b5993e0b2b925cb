"""Configs are strict, frozen and complete, and their errors name the way out."""

import re

import pytest
import torch
from pydantic import ValidationError

from anymae.benchmark.suite import SUITES
from anymae.config import (
    InputConfig,
    MaskingConfig,
    ModelConfig,
    Recipe,
    TrainingConfig,
    parse,
)
from anymae.data.kinds import KINDS
from anymae.data.sources.base import SOURCES
from anymae.errors import AnymaeError, ConfigError, UserInputError, nearest
from anymae.masking import MASKINGS
from anymae.model import MaskedAutoencoder
from anymae.nn.embedding import CONTENTS
from anymae.nn.encoder import ENCODERS
from anymae.nn.heads import HEADS
from anymae.nn.readout import READOUTS
from anymae.presets import (
    PRESETS,
    build_config,
    choose_encoder,
    choose_preset,
    preset_config,
    training_config,
)
from anymae.recipes import apply_settings
from anymae.registry import Registry

INPUT = {"kind": "bytes", "length": 32}
ENCODER = {"width": 16, "depth": 1, "num_heads": 2}


def model(**sections: dict[str, object]) -> ModelConfig:
    base: dict[str, object] = {"input": INPUT, "encoder": ENCODER}
    return parse(ModelConfig, base | sections)


def test_widths_default_from_the_encoders_width() -> None:
    config = model(encoder={**ENCODER, "width": 32, "qk_width": 8})
    encoder = config.encoder
    assert (encoder.input_width, encoder.value_width) == (32, 32)
    assert (encoder.qk_width, encoder.read_qk_width, encoder.read_heads) == (8, 8, 2)
    assert (config.decoder.width, config.decoder.qk_width) == (32, 32)


def test_a_set_shares_no_positions_whatever_the_decoders_width() -> None:
    inputs = {"kind": "values", "length": 8, "channels": 3}
    with pytest.raises(ConfigError, match="share_positions needs"):
        model(input=inputs, decoder={"width": 8})
    assert model(input={**inputs, "positions": "none"}, decoder={"width": 8}).decoder.width == 8


def test_a_stored_config_reads_back_equal() -> None:
    for name in PRESETS:
        inputs = InputConfig(kind="bytes", length=64)
        config = preset_config(name) if PRESETS[name].input else build_config(name, inputs)
        assert ModelConfig.model_validate_json(config.model_dump_json()) == config
        assert parse(ModelConfig, config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"masking": {"ration": 0.3}}, "did you mean 'ratio'"),
        ({"masking": {"ratio": 0.0}}, "greater than 0"),
        ({"masking": {"ratio": 1.0}}, "less than 1"),
        ({"masking": {"ratio": "0.5"}}, "valid number"),
        ({"encoder": {**ENCODER, "num_heads": 3}}, "no multiple of"),
        ({"encoder": {**ENCODER, "input_width": 8}}, "input_width is 8"),
        ({"encoder": {"depth": 1, "num_heads": 2}}, "encoder.width is missing"),
        ({"encoder": {**ENCODER, "mlp_ratio": 0.005}}, r"encoder\.mlp_ratio 0\.005 leaves no hid"),
        ({"encoder": {**ENCODER, "read_mlp_ratio": 0.03}}, r"encoder\.read_mlp_ratio 0\.03 leaves"),
        ({"decoder": {"mlp_ratio": 0.03}}, r"decoder\.mlp_ratio 0\.03 leaves .* width 16; raise"),
        ({"decoder": {"width": 8}}, "share_positions"),
        ({"decoder": {"width": 8, "share_positions": False, "tie_output": True}}, "tie_output"),
        ({"masking": {"kind": "block"}}, "image inputs"),
        (
            {"encoder": {**ENCODER, "kind": "perceiver"}, "masking": {"hide_queries": True}},
            "hide_queries needs the transformer",
        ),
        ({"input": {"kind": "values", "length": 4}, "decoder": {"tie_output": True}}, "bytes"),
        ({"input": {"kind": "table", "length": 4}}, "names 0 columns of 4"),
        ({"input": {"kind": "image", "length": 4, "grid": [3, 2]}}, "does not hold 4"),
        ({"input": {"kind": "bytes", "length": 4, "channels": 2}}, "have 1"),
        ({"enkoder": {}}, "did you mean 'encoder'"),
    ],
)
def test_contradictions_and_unknown_keys_are_refused_with_a_way_out(
    sections: dict[str, dict[str, object]], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        model(**sections)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("abc", "batch_size is 'abc'; it should be a valid integer or 'auto'"),
        (0, "batch_size is 0; it should be greater than 0 or 'auto'"),
    ],
)
def test_a_value_of_several_types_is_told_all_of_them(value: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TrainingConfig, {"batch_size": value}, where="training")
    assert str(caught.value) == f"training: {words}"


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MaskingConfig().ratio = 0.5  # type: ignore[misc]


def test_lengths_of_training_exclude_each_other_and_a_given_one_wins() -> None:
    with pytest.raises(ConfigError, match=r"steps and training\.epochs exclude"):
        parse(TrainingConfig, {"steps": 3, "epochs": 1.0})
    training = training_config("paper-physics", {"minutes": 2.0})
    assert (training.epochs, training.minutes) == (None, 2.0)
    assert training_config("paper-physics").epochs == 50


def test_tokens_are_tied_by_default_only_where_that_is_possible() -> None:
    bytes_, values = InputConfig(kind="bytes", length=8), InputConfig(kind="values", length=8)
    assert build_config("tiny", bytes_).decoder.tie_output
    assert not build_config("tiny", values).decoder.tie_output
    narrow = {"width": 8, "share_positions": False}
    assert not build_config("tiny", bytes_, decoder=narrow).decoder.tie_output
    # What a preset says of bytes is not said of other inputs; what is asked for is never dropped.
    assert not build_config("paper-chemistry", values).decoder.tie_output
    for kind in ("values", "image"):
        inputs = InputConfig(kind=kind, length=8)
        with pytest.raises(ConfigError, match=f"tie_output needs bytes, not {kind} inputs"):
            build_config("paper-chemistry", inputs, decoder={"tie_output": True})


def num_weights(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in MaskedAutoencoder(config).parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_the_size_that_its_summary_states(name: str) -> None:
    preset = PRESETS[name]
    stated = re.findall(r"([\d.,]+)(?: to ([\d.]+))?( M)? parameters", preset.summary)
    if name == "paper-image":  # nobody has said how large it was
        assert not stated
        return
    (low, high, millions) = stated[0]
    least, most = (float(n.replace(",", "")) * (1e6 if millions else 1) for n in (low, high or low))
    if preset.input:
        found = num_weights(preset_config(name))
        assert round(found, -5 if millions else None) == least == most
    else:  # from a row of numbers to strings of 512, for which every position has a vector
        for kind, length in (("values", 28), ("image", 64), ("bytes", 512)):
            inputs = InputConfig(kind=kind, length=length, grid=(8, 8) if length == 64 else None)
            assert 0.9 * least < num_weights(build_config(name, inputs)) < 1.1 * most


def test_every_preset_trains_on_any_kind() -> None:
    for name in PRESETS:
        training_config(name)
        for kind in ("bytes", "values", "image"):
            config = build_config(name, InputConfig(kind=kind, length=64, grid=(8, 8)))
            assert config.input.kind == kind
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        build_config("smal", InputConfig(kind="bytes", length=8))
    with pytest.raises(ConfigError, match="without inputs"):
        preset_config("tiny")


def test_long_rows_get_the_perceiver_and_machines_their_size() -> None:
    assert [choose_encoder(n) for n in (28, 1024, 1025)] == ["transformer"] * 2 + ["perceiver"]
    assert build_config("tiny", InputConfig(kind="bytes", length=2048)).encoder.kind == "perceiver"
    chosen = [choose_preset(n, has_gpu=gpu)[0] for n, gpu in ((9, False), (9, True), (10**6, True))]
    assert chosen == ["tiny", "small", "base"]


def test_recipe_sections_are_strict() -> None:
    with pytest.raises(ConfigError, match="did you mean 'training'"):
        parse(Recipe, {"trainning": {}})
    assert parse(Recipe, {"data": {"column": ["smiles"]}}).data.column == ("smiles",)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("ratio", "unknown setting 'ratio'; did you mean 'masking.ratio'?"),
        ("mask_ratio", "did you mean 'masking.ratio'?"),
        ("lr", "did you mean 'training.learning_rate'?"),
        ("learning_rat", "did you mean 'training.learning_rate'?"),
        ("width", "did you mean 'encoder.width' or 'decoder.width'?"),
        ("trainig", "did you mean 'training'?"),
        ("trainig.steps", "did you mean 'training'?"),
        ("training.lr", "unknown key 'training.lr'; did you mean 'learning_rate'?"),
        ("training.ratio", "unknown key 'training.ratio'; did you mean 'masking.ratio'?"),
        ("training.stepz", "unknown key 'training.stepz'; did you mean 'steps'?"),
        ("xyz", "unknown setting 'xyz'; known: data, decoder,"),
    ],
)
def test_a_setting_that_is_not_there_names_the_one_that_was_meant(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        apply_settings(Recipe(), {setting: 1})


def test_errors_carry_their_exit_codes_and_can_be_caught_as_one() -> None:
    assert issubclass(ConfigError, UserInputError) and issubclass(UserInputError, AnymaeError)
    assert (AnymaeError.exit_code, UserInputError.exit_code) == (1, 2)
    assert nearest("xyz", ["ratio", "kind"]) == "; known: kind, ratio"


def test_registry_refuses_a_second_entry_and_names_the_nearest() -> None:
    shapes = Registry[int]("shape")
    shapes.register("round")(1)
    with pytest.raises(ValueError, match="registered already"):
        shapes.register("round")(2)
    with pytest.raises(ConfigError, match="did you mean 'round'"):
        shapes["rund"]
    assert "round" in shapes and list(shapes) == ["round"] and shapes["round"] == 1


def test_registry_finds_what_other_packages_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "square"

        @staticmethod
        def load() -> int:
            return 4

    def entry_points(group: str) -> list[type[Point]]:
        return [Point] if group == "anymae.shape" else []

    monkeypatch.setattr("anymae.registry.entry_points", entry_points)
    assert Registry[int]("shape")["square"] == 4


def test_every_registry_has_a_group_that_a_package_can_name() -> None:
    assert MASKINGS.group == "anymae.masking"
    for registry in (MASKINGS, ENCODERS, READOUTS, CONTENTS, HEADS, KINDS, SOURCES, SUITES):
        assert re.fullmatch(r"\w+(\.\w+)+", registry.group)


def test_queries_of_few_columns_are_not_hidden_first_by_default() -> None:
    for kind, expected in (("bytes", True), ("image", True), ("values", False), ("table", False)):
        more = {"image": {"grid": (2, 4)}, "table": {"categories": (0,) * 8}}.get(kind, {})
        inputs = parse(InputConfig, {"kind": kind, "length": 8, **more})
        assert build_config("tiny", inputs).masking.hide_queries is expected


def test_published_settings_are_those_of_the_paper() -> None:
    found = {}
    for name in ("language", "chemistry", "physics", "protein", "image"):
        training, masking = training_config(f"paper-{name}"), preset_config(f"paper-{name}").masking
        found[name] = (
            training.batch_size, training.learning_rate, training.warmup, training.weight_decay,
            masking.ratio, masking.random_start,
        )  # fmt: skip
    assert found == {
        "language": (256, 1e-4, 5000, 0.01, 0.15, 0.0),
        "chemistry": (128, 1e-4, 10_000, 0.01, 0.3, 0.0),
        "physics": (256, 1e-4, 10_000, 0.01, 0.2, 0.25),
        "protein": (256, 3e-4, 5000, 0.01, 0.15, 0.0),
        "image": (128, 1e-4, 5000, 0.01, 0.85, 0.0),
    }
