"""The published pretraining checkpoints (layout `SMAForSSL`) as models of ours.

Their configuration spells sizes in its own words, and their state stores tensors under several
names; both are translated here and nowhere else.
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from anymae.config import VOCABULARY, ModelConfig, parse
from anymae.errors import ConfigError, UserInputError
from anymae.model import MaskedAutoencoder
from anymae.wording import listed

logger = logging.getLogger(__name__)

Values = Mapping[str, Any]

_INPUTS = {"discrete": "bytes", "continuous": "values"}
_ENCODERS = {"self_attention": "transformer", "cross_attention": "perceiver"}
_HEAD_CHOICES = {"mean": "mean", "random_mix": "sample"}
_LOSSES = {"bytes": "crossentropy", "values": "mse"}
_OPTIONS_READ = ("masking_ratio", "num_per_query", "mask_self", "head_aggregation")
_OPTIONS_WITHOUT_EFFECT = ("select_initial_ratio", "relative_noise")
"""The first counts where a script schedules it, the second nowhere in the published code."""


def convert(config: Values, state: Mapping[str, Tensor]) -> MaskedAutoencoder:
    """Build a model with the weights of a published checkpoint.

    Args:
        config: The checkpoint's `config.json`.
        state: Its tensors by name.

    Returns:
        The model in evaluation mode. Its `data` is `None`: how raw rows become inputs is not in
        a published checkpoint.

    Raises:
        ConfigError: The configuration asks for something that the architecture does not have.
        UserInputError: A tensor is missing or has another shape.
    """
    model = MaskedAutoencoder(convert_config(config))
    if model.config.encoder.drop_path:
        logger.warning(
            "drop_path_rate %g is that of every block in the published code; here it grows from 0 "
            "in the first block to %g in the last, which counts where the model is trained on",
            model.config.encoder.drop_path,
            model.config.encoder.drop_path,
        )
    translated = _translate(state, model)
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name in translated and translated[name].shape != tensor.shape:
            raise UserInputError(
                f"the checkpoint's {name} has shape {tuple(translated[name].shape)}, the "
                f"configuration asks for {tuple(tensor.shape)}; use the config of this checkpoint"
            )
    missing = sorted(set(expected) - set(translated))
    if missing:
        raise UserInputError(
            f"the checkpoint lacks {len(missing)} of {len(expected)} tensors, first {missing[0]}; "
            "only pretraining checkpoints can be converted"
        )
    model.load_state_dict({name: translated[name] for name in expected})
    return model.eval()


def convert_config(config: Values) -> ModelConfig:
    """Translate a published `config.json`.

    `masking.random_start` is 0: the schedule belonged to a script, not to the configuration.

    Raises:
        ConfigError: A key is missing, or something is asked for that the architecture lacks.
    """
    try:
        values = _values(config)
    except KeyError as error:
        raise ConfigError(
            f"the configuration has no {error.args[0]}; "
            "expected the config.json of a published pretraining checkpoint"
        ) from None
    return parse(ModelConfig, values, where="converted configuration")


def _values(config: Values) -> dict[str, Any]:
    _refuse_unknown(config)
    decoder = config["teacher_args"]["reconstruction_decoder_args"]
    kind = _known("input_type", config["input_type"], _INPUTS)
    discrete = kind == "bytes"
    _refuse("teacher_args.", config["teacher_args"], {"reconstruction_loss_fn": _LOSSES[kind]})
    # Of another width the token embedding is no output matrix, whatever is asked for.
    ties = discrete and config["embedded_channels"] == decoder["query_num_channels"]
    return {
        "input": {
            "kind": kind,
            "length": config["max_position_embeddings"],
            "channels": 1 if discrete else config["input_channels"],
        },
        "encoder": _encoder(config),
        "decoder": {
            "width": decoder["query_num_channels"],
            "qk_width": decoder["qk_channels"],
            "num_heads": decoder["num_heads"],
            "share_positions": decoder.get("share_decoder_queries", False),
            "mlp_ratio": decoder.get("widening_factor", 1),
            "tie_output": ties and decoder.get("share_embedding_weights", False),
            "mask_token": decoder.get("add_mask_token", False),
        },
        "masking": _masking(config),
    }


def _encoder(config: Values) -> dict[str, Any]:
    kind = _known("encoder_type", config["encoder_type"], _ENCODERS)
    width = config["latent_channels"]
    qk_width = config.get("qk_channels") or width
    mlp_ratio = config["self_attention_widening_factor"]
    encoder = {
        "kind": kind,
        "width": width,
        "depth": config["num_self_attends_per_block"],
        "num_heads": config["num_self_attention_heads"],
        "mlp_ratio": mlp_ratio,
        "input_width": config["embedded_channels"],
        "qk_width": qk_width,
        "value_width": config.get("v_channels") or width,
        # A transformer's first attention is like its blocks, whatever is said of a perceiver's.
        "read_mlp_ratio": mlp_ratio,
        "dropout": config.get("hidden_dropout_prob", 0.0),
        "attention_dropout": config.get("attention_dropout_prob", 0.0),
        "drop_path": config.get("drop_path_rate", 0.0),
    }
    if kind == "transformer":
        return encoder
    return encoder | {
        "num_latents": config["num_latents"],
        "read_heads": config["num_cross_attention_heads"],
        "read_qk_width": config.get("encoder_cross_attention_channels") or qk_width,
        "read_mlp_ratio": config["cross_attention_widening_factor"],
    }


def _masking(config: Values) -> dict[str, Any]:
    noising = config.get("cross_train_noising_args")
    if not noising:
        return {}
    match noising:
        case [["RandomlySelectedCrossAttentionMasking", Mapping() as options]]:
            pass
        case _:
            raise ConfigError(
                f"cross_train_noising_args is {noising!r}; expected "
                'RandomlySelectedCrossAttentionMasking alone, as [[name, {"masking_ratio": ...}]]'
            )
    _refuse("the masking's ", options, _EXPECTED_OF_MASKING)
    known = (*_OPTIONS_READ, *_EXPECTED_OF_MASKING, *_OPTIONS_WITHOUT_EFFECT)
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"the masking's {key} is {value!r}; expected only {listed(known)}")
    heads = options.get("head_aggregation", "mean")
    return {
        "kind": "guided",
        "ratio": options["masking_ratio"],
        "inputs_per_query": options["num_per_query"],
        "hide_queries": options.get("mask_self", False),
        "head_choice": _known("the masking's head_aggregation", heads, _HEAD_CHOICES),
    }


_EXPECTED = {
    "num_blocks": 1,
    "use_query_residual": True,
    "use_position_embeddings": True,
    "hidden_act": "gelu",
    "dense_use_bias": True,
    "num_discrete_tokens": VOCABULARY,
}
_EXPECTED_OF_TEACHER = {
    "reconstruction_weighted_loss": False,
    "target_mean": None,
    "target_std": None,
    "target_clip": None,
}
_EXPECTED_OF_MASKING = {"exclude_seen_reconstruction": True, "varying_length": True}
_EXPECTED_OF_DECODER = {"use_query_residual": True, "post_decoder_layers": None}


def _refuse_unknown(config: Values) -> None:
    """Name the first setting that our architecture cannot express."""
    teacher = _section(config, "teacher_args")
    decoder = _section(teacher, "reconstruction_decoder_args")
    _refuse("", config, _EXPECTED)
    _refuse("teacher_args.", teacher, _EXPECTED_OF_TEACHER)
    # What is not said of the decoder is False there; the encoder's is True.
    _refuse("the decoder's ", {"use_query_residual": False, **decoder}, _EXPECTED_OF_DECODER)
    value_width = decoder.get("v_channels", decoder["query_num_channels"])
    if value_width != decoder["query_num_channels"]:
        raise ConfigError(
            f"the decoder's v_channels {value_width} differs from its query_num_channels "
            f"{decoder['query_num_channels']}; only equal ones can be converted"
        )


def _refuse(where: str, found: Values, expected: Values) -> None:
    """Name the first value that is another one than expected; what is not said is."""
    for key, value in expected.items():
        if key in found and found[key] != value:
            raise ConfigError(f"{where}{key} is {found[key]!r}; only {value!r} can be converted")


def _known(name: str, found: object, ours: Mapping[str, str]) -> str:
    """Return our word for one of theirs."""
    if isinstance(found, str) and found in ours:
        return ours[found]
    known = " or ".join(map(repr, ours))
    raise ConfigError(f"{name} is {found!r}; only {known} can be converted")


def _section(values: Values, name: str) -> Values:
    """Return a group of settings."""
    found = values[name]
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"{name} is {found!r}, no JSON object; "
            "expected the config.json of a published pretraining checkpoint"
        )
    return found


def _translate(state: Mapping[str, Tensor], model: MaskedAutoencoder) -> dict[str, Tensor]:
    """Rename tensors; query, key and value matrices are joined as ours are."""
    out: dict[str, Tensor] = {}
    source = "perceiver.input_preprocessor."
    content = "embeddings" if model.config.input.kind == "bytes" else "input_projection"
    copies = {
        f"{source}{content}.weight": "embedding.content.weight",
        f"{source}{content}.bias": "embedding.content.bias",
        f"{source}position_embeddings.weight": "embedding.positions",
        f"{source}layernorm.weight": "embedding.norm.weight",
        f"{source}layernorm.bias": "embedding.norm.bias",
        "perceiver.encoding_latents.latents": "encoder.latents",
    }
    decoder = "teacher.reconstruction_decoder."
    for part in ("weight", "bias"):
        copies[f"{decoder}pre_layernorm.{part}"] = f"decoder.latent_norm.{part}"
        copies[f"{decoder}final_layernorm.{part}"] = f"decoder.norm.{part}"
        head = f"head.{part}" if model.config.input.kind == "bytes" else f"head.linear.{part}"
        copies[f"{decoder}final_project.{part}"] = head
    copies[f"{decoder}decoder_latents.latents"] = "decoder.positions"
    copies[f"{decoder}learned_mask_token"] = "decoder.mask_token"
    for theirs, ours in copies.items():
        if theirs in state:
            out[ours] = state[theirs]
    out |= _layer(state, "perceiver.encoder.cross_attention.", "encoder.first.", read=True)
    out |= _layer(state, f"{decoder}decoding_cross_attention.", "decoder.layer.", read=True)
    for block in range(model.config.encoder.depth):
        theirs = f"perceiver.encoder.self_attends.{block}."
        out |= _layer(state, theirs, f"encoder.blocks.{block}.", read=False)
    return out


def _layer(state: Mapping[str, Tensor], theirs: str, ours: str, *, read: bool) -> dict[str, Tensor]:
    """Translate one attention layer; `read` layers keep the query matrix apart."""
    out: dict[str, Tensor] = {}
    for part in ("weight", "bias"):
        names = {
            "query_norm" if read else "norm": f"{theirs}attention.attention.layernorm1.{part}",
            "output": f"{theirs}attention.output.dense.{part}",
            "mlp_norm": f"{theirs}layernorm.{part}",
            "mlp.expand": f"{theirs}mlp.dense1.{part}",
            "mlp.contract": f"{theirs}mlp.dense2.{part}",
        }
        for name, key in names.items():
            if key in state:
                out[f"{ours}{name}.{part}"] = state[key]
        keys = [f"{theirs}attention.attention.{name}.{part}" for name in ("query", "key", "value")]
        if not all(key in state for key in keys):
            continue
        q, k, v = (state[key] for key in keys)
        if read:
            out[f"{ours}query.{part}"] = q
            out[f"{ours}key_value.{part}"] = torch.cat([k, v])
        else:
            out[f"{ours}query_key_value.{part}"] = torch.cat([q, k, v])
    return out
