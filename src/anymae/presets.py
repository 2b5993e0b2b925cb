"""Model sizes and published configurations, by name. No torch in here.

A preset fixes widths and depth, and what goes with them: the masking and the training settings
that suit it. The number of inputs comes from the data; published configurations name theirs.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from anymae.config import InputConfig, MaskingConfig, ModelConfig, TrainingConfig, parse
from anymae.errors import ConfigError, nearest

PERCEIVER_FROM = 1024
"""Rows with more inputs than this get a perceiver: a transformer's cost grows with N squared."""


class Preset(NamedTuple):
    """Settings by section, as plain values."""

    summary: str
    """One line for people."""
    encoder: Mapping[str, Any]
    decoder: Mapping[str, Any] = {}
    masking: Mapping[str, Any] = {}
    training: Mapping[str, Any] = {}
    input: Mapping[str, Any] = {}
    """The published input spec; empty where data decide."""


_PUBLISHED = {"weight_decay": 0.01, "clip": 1.0, "precision": "auto"}
_PUBLISHED_QUERIES = {"inputs_per_query": 3, "hide_queries": True, "head_choice": "sample"}
_BYTE_PERCEIVER = {
    "kind": "perceiver",
    "width": 1024,
    "depth": 16,
    "num_heads": 8,
    "input_width": 512,
    "qk_width": 256,
    "value_width": 1024,
    "num_latents": 256,
    "read_heads": 8,
    "read_qk_width": 256,
}
_BYTE_DECODER = {"width": 512, "num_heads": 8, "qk_width": 256}

# Ranking hides the same popular inputs again and again, which short runs do not recover from:
# half of each mask is uniform, the rest drawn by attention (`docs/method.md`, "Masking").
# Published presets rank.
_DRAWN = {"draw": "sample", "random_floor": 0.5, "hide_queries": True, "head_choice": "sample"}

# Published initial weights suit a width of 768; narrow networks hardly begin to learn with them
# (`docs/method.md`, "Initial weights").
_SCALED = {"initial": "scaled"}

PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        "0.15 to 0.2 M parameters: a laptop, minutes",
        encoder={"width": 64, "depth": 4, "num_heads": 4, "num_latents": 32, **_SCALED},
        masking=_DRAWN,
        training={"batch_size": 64, "learning_rate": 1e-3},
    ),
    "small": Preset(
        "about 3.2 M parameters: a laptop overnight, or one GPU for minutes",
        encoder={"width": 256, "depth": 6, "num_heads": 8, "num_latents": 64, **_SCALED},
        masking=_DRAWN,
        training={"batch_size": 64, "learning_rate": 1e-3},
    ),
    "base": Preset(
        "about 50 M parameters: one or several GPUs",
        encoder={"width": 768, "depth": 12, "num_heads": 12, "num_latents": 256, **_SCALED},
        masking=_DRAWN,
        training={"batch_size": 128, "learning_rate": 3e-4, "precision": "auto"},
    ),
    "paper-chemistry": Preset(
        "published: molecules as SMILES, 50,252,038 parameters",
        encoder={"width": 768, "depth": 12, "num_heads": 12},
        decoder={"tie_output": True},
        masking={"ratio": 0.3, **_PUBLISHED_QUERIES},
        training=dict(_PUBLISHED, batch_size=128, learning_rate=1e-4, warmup=10000.0, epochs=30.0),
        input={"kind": "bytes", "length": 512},
    ),
    "paper-physics": Preset(
        "published: HIGGS events, 602,241 parameters",
        encoder={"width": 128, "depth": 4, "num_heads": 8},
        masking={"ratio": 0.2, **_PUBLISHED_QUERIES, "random_start": 0.25},
        training={
            **_PUBLISHED,
            "precision": "fp32",
            "batch_size": 256,
            "learning_rate": 1e-4,
            "warmup": 10000.0,
            "epochs": 50.0,
        },
        input={"kind": "values", "length": 28, "channels": 1},
    ),
    "paper-protein": Preset(
        "published: protein sequences, about 82.3 M parameters",
        encoder=_BYTE_PERCEIVER,
        decoder={**_BYTE_DECODER, "tie_output": True},
        masking={"ratio": 0.15, "inputs_per_query": 4},
        training=dict(_PUBLISHED, batch_size=256, learning_rate=3e-4, warmup=5000.0, epochs=10.0),
        input={"kind": "bytes", "length": 1024},
    ),
    "paper-language": Preset(
        "published: text as bytes, about 82.3 M parameters",
        encoder=_BYTE_PERCEIVER,
        decoder={**_BYTE_DECODER, "tie_output": True},
        masking={"ratio": 0.15, "inputs_per_query": 4},
        training=dict(_PUBLISHED, batch_size=256, learning_rate=1e-4, warmup=5000.0, steps=1000000),
        input={"kind": "bytes", "length": 1024},
    ),
    "paper-image": Preset(
        "published training settings for 192 x 192 RGB pixels; its network was never released, "
        "so sizes, ratio 0.85 and inputs_per_query 576 stand in",
        encoder={**_BYTE_PERCEIVER, "num_latents": 512},
        decoder=_BYTE_DECODER,
        masking={"ratio": 0.85, "inputs_per_query": 576},
        training=dict(_PUBLISHED, batch_size=128, learning_rate=1e-4, warmup=5000.0, epochs=200.0),
        input={"kind": "image", "length": 36864, "channels": 3, "grid": (192, 192)},
    ),
}
"""All presets. Published sizes are those of the released checkpoints where these are known."""


def get_preset(name: str) -> Preset:
    """Look up a preset.

    Raises:
        ConfigError: No preset has that name; the nearest is named.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name]


def preset_config(name: str) -> ModelConfig:
    """Return a published configuration with its published input spec.

    Raises:
        ConfigError: The preset is a mere size: data decide its inputs.

    >>> preset_config("paper-physics").encoder.width
    128
    """
    preset = get_preset(name)
    if not preset.input:
        raise ConfigError(f"preset {name!r} is a size without inputs; use build_config with data")
    return build_config(name, parse(InputConfig, preset.input))


def build_config(
    name: str,
    inputs: InputConfig,
    *,
    encoder: dict[str, Any] | None = None,
    decoder: dict[str, Any] | None = None,
    masking: dict[str, Any] | None = None,
) -> ModelConfig:
    """Combine a preset with the inputs that data have and with settings that differ.

    Args:
        name: The preset.
        inputs: What the data look like.
        encoder: Keys of `EncoderConfig` that win over the preset's.
        decoder: Keys of `DecoderConfig` that win over the preset's.
        masking: Keys of `MaskingConfig` that win over the preset's.

    Raises:
        ConfigError: An unknown preset or key, a value out of range, or a contradiction.

    >>> build_config("tiny", InputConfig(kind="bytes", length=64)).encoder.kind
    'transformer'
    >>> build_config("tiny", InputConfig(kind="values", length=8)).masking.hide_queries
    False
    """
    preset = get_preset(name)
    merged_encoder = {"kind": choose_encoder(inputs.length), **preset.encoder, **(encoder or {})}
    sizes = dict(preset.decoder)
    if inputs.kind != "bytes":
        sizes.pop("tie_output", None)
    merged_decoder = {**sizes, **(decoder or {})}
    decoder_width = merged_decoder.get("width")
    input_width = merged_encoder.get("input_width", merged_encoder["width"])
    if inputs.kind == "bytes" and decoder_width in (None, input_width):
        merged_decoder.setdefault("tie_output", True)
    defaults = dict(preset.masking)
    # Of a few columns the sampled queries, chance themselves, would fill the share that
    # `random_floor` leaves to attention.
    mostly_chance = inputs.kind in ("values", "table") and "random_floor" in defaults
    if merged_encoder["kind"] == "perceiver" or mostly_chance:
        defaults.pop("hide_queries", None)
    merged_masking = {**defaults, **(masking or {})}
    values = {
        "input": inputs.model_dump(),
        "encoder": merged_encoder,
        "decoder": merged_decoder,
        "masking": parse(MaskingConfig, merged_masking, where="masking").model_dump(),
    }
    return parse(ModelConfig, values)


def training_config(name: str, training: dict[str, Any] | None = None) -> TrainingConfig:
    """Combine a preset's training settings with those that differ.

    A given length (`steps`, `epochs` or `minutes`) replaces the preset's.

    Raises:
        ConfigError: An unknown preset or key, a value out of range, or a contradiction.

    >>> training_config("paper-physics", {"steps": 300}).epochs is None
    True
    """
    merged = dict(get_preset(name).training)
    given = training or {}
    lengths = {"steps", "epochs", "minutes"}
    if lengths & given.keys():
        merged = {key: value for key, value in merged.items() if key not in lengths}
    return parse(TrainingConfig, {**merged, **given}, where="training")


def choose_encoder(length: int) -> str:
    """Return the encoder for rows of `length` inputs: `transformer`, or `perceiver` when long."""
    return "perceiver" if length > PERCEIVER_FROM else "transformer"


def choose_preset(num_rows: int, *, has_gpu: bool) -> tuple[str, str]:
    """Return the preset for a data set and the rule that chose it.

    >>> choose_preset(2000, has_gpu=False)[0]
    'tiny'
    """
    if not has_gpu:
        return "tiny", "no GPU in use: the size that learns something within minutes"
    if num_rows < 1_000_000:
        return "small", "a GPU and fewer than a million rows"
    return "base", "a GPU and a million rows or more"


def explain_choices(config: ModelConfig, preset: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which rule chose the encoder and how much is hidden.

    Args:
        config: What `build_config` made.
        preset: The preset's name.
        given: Sections `encoder` and `masking` of what was asked for.

    >>> config = build_config("tiny", InputConfig(kind="bytes", length=64), masking={"ratio": 0.5})
    >>> explain_choices(config, "tiny", {"masking": {"ratio": 0.5}})[1]
    'ratio 0.5: as asked'
    """
    size = get_preset(preset)
    length, encoder = config.input.length, config.encoder.kind
    than = "more" if length > PERCEIVER_FROM else "no more"
    by_length = f"rows of up to {length:,} inputs, {than} than {PERCEIVER_FROM:,}"
    return (
        f"encoder {encoder}: {_origin('kind', given.get('encoder'), size.encoder, by_length)}",
        f"ratio {config.masking.ratio:g}: "
        + _origin("ratio", given.get("masking"), size.masking, "nothing else was asked for"),
    )


def _origin(
    key: str, asked: Mapping[str, Any] | None, preset: Mapping[str, Any], otherwise: str
) -> str:
    """Say where a setting comes from."""
    if key in (asked or {}):
        return "as asked"
    return "the preset's" if key in preset else otherwise
