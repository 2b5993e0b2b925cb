"""A published checkpoint becomes a run folder that says the same as the checkpoint."""

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import anymae
from anymae.compat.checkpoint import convert_checkpoint, read_weights
from anymae.compat.published import convert_config
from anymae.errors import ConfigError, DataError, FolderError, UserInputError

MODELS = ["self-discrete", "self-continuous", "cross-discrete"]
NAME = "RandomlySelectedCrossAttentionMasking"
NEEDED: dict[str, Any] = {
    "input_type": "continuous", "max_position_embeddings": 12, "input_channels": 2,
    "encoder_type": "cross_attention", "num_latents": 4, "latent_channels": 16,
    "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
    "num_cross_attention_heads": 2, "embedded_channels": 16,
    "self_attention_widening_factor": 2, "cross_attention_widening_factor": 2,
    "teacher_args": {
        "reconstruction_decoder_args": {
            "query_num_channels": 16, "qk_channels": 16, "num_heads": 2,
            "use_query_residual": True,
        }
    },
    "cross_train_noising_args": [
        [NAME, {"masking_ratio": 0.5, "num_per_query": 2}]
    ],
}  # fmt: skip


@pytest.fixture(params=MODELS)
def checkpoint(request: pytest.FixtureRequest, golden_folder: Path, tmp_path: Path) -> Path:
    """A folder in the published layout: config.json and model.safetensors."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    shutil.copy(golden_folder / f"{request.param}.json", folder / "config.json")
    tensors = load_file(golden_folder / f"{request.param}.safetensors")
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights")}
    save_file(weights, folder / "model.safetensors")
    torch.save({"io": {k: v for k, v in tensors.items() if k.startswith("io/")}}, folder / "io.pt")
    return folder


def test_a_checkpoint_becomes_a_run_without_data(checkpoint: Path, tmp_path: Path) -> None:
    convert_checkpoint(checkpoint, out=tmp_path / "run")
    assert not (tmp_path / "run" / "data.json").exists()
    model = anymae.load(tmp_path / "run")
    assert model.data is None
    io = torch.load(checkpoint / "io.pt", weights_only=True)["io"]
    valid, masked = io["io/attention_mask"].bool(), io["io/masked"]
    out = model(io["io/inputs"], valid, masked)
    assert torch.allclose(out.loss, io["io/loss"], atol=1e-5)


def test_a_bin_file_gives_the_same_weights(checkpoint: Path, tmp_path: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    read = read_weights(tmp_path / "pytorch_model.bin")
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run by a pickle",)


def test_a_pickle_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"weight": Malicious()}))
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        read_weights(path)
    torch.save({"weight": Malicious()}, path)
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        read_weights(path)
    assert capsys.readouterr().out == ""


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(FolderError, match="there is no"):
        convert_checkpoint(tmp_path / "absent", out=out)
    with pytest.raises(FolderError, match="holds neither"):
        convert_checkpoint(tmp_path, out=out)
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(FolderError, match="--config"):
        convert_checkpoint(tmp_path, out=out)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(DataError, match="no JSON object"):
        convert_checkpoint(tmp_path, out=out)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        convert_checkpoint(tmp_path, out=out)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        convert_checkpoint(tmp_path, out=out)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="teacher_args"):
        convert_checkpoint(tmp_path, out=out)
    torch.save([torch.zeros(1)], tmp_path / "list.bin")
    with pytest.raises(DataError, match="no tensors by name"):
        read_weights(tmp_path / "list.bin")
    assert not out.exists()


def test_an_empty_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(DataError, match=r"cannot be read as a checkpoint .*EOFError"):
        read_weights(tmp_path / "pytorch_model.bin")


def test_a_key_that_is_missing_or_null_is_named() -> None:
    convert_config(NEEDED)
    inside = [
        lambda config: config,
        lambda config: config["teacher_args"]["reconstruction_decoder_args"],
        lambda config: config["cross_train_noising_args"][0][1],
    ]
    for part in inside:
        for key in part(NEEDED).keys() - {"cross_train_noising_args", "use_query_residual"}:
            config = copy.deepcopy(NEEDED)
            del part(config)[key]
            with pytest.raises(ConfigError, match=rf"has no {key}\b.*; expected"):
                convert_config(config)
    for key in ("teacher_args", "self_attention_widening_factor"):
        with pytest.raises(ConfigError, match=r"teacher_args|mlp_ratio"):
            convert_config({**NEEDED, key: None})


def changed(*path: str | int, **values: object) -> dict[str, Any]:
    """`NEEDED` with other values in the section that a path of keys leads to."""
    config = copy.deepcopy(NEEDED)
    part: Any = config
    for key in path:
        part = part[key]
    part.update(values)
    return config


DECODER = ("teacher_args", "reconstruction_decoder_args")


def test_a_decoder_without_the_residual_is_refused_said_or_not() -> None:
    """Where the checkpoint says nothing, its decoder has none."""
    unsaid = copy.deepcopy(NEEDED)
    del unsaid["teacher_args"]["reconstruction_decoder_args"]["use_query_residual"]
    for config in (unsaid, changed(*DECODER, use_query_residual=False)):
        with pytest.raises(ConfigError, match=r"decoder's use_query_residual is False; only True"):
            convert_config(config)


def test_what_is_told_of_the_decoder_counts_where_it_is_told() -> None:
    with pytest.raises(ConfigError, match="decoder's post_decoder_layers is '32 gelu'; only None"):
        convert_config(changed(*DECODER, post_decoder_layers="32 gelu"))
    # Of a head that no pretraining checkpoint has.
    convert_config(changed(post_decoder_layers="32 gelu"))
    for key, value in (("target_mean", [0.5]), ("target_std", [2.0]), ("target_clip", 3.0)):
        with pytest.raises(ConfigError, match=rf"teacher_args\.{key} is .*; only None"):
            convert_config(changed("teacher_args", **{key: value}))
        convert_config(changed("teacher_args", **{key: None}))


MASKING = ("cross_train_noising_args", 0, 1)


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        (MASKING, {"exclude_seen_reconstruction": False}, "seen_reconstruction is False; only Tr"),
        (MASKING, {"varying_length": False}, "masking's varying_length is False; only True"),
        (MASKING, {"head_aggregation": "max"}, "aggregation is 'max'; only 'mean' or 'random_mix'"),
        (MASKING, {"head_aggregation": ["mean"]}, r"aggregation is \['mean'\]; only 'mean' or"),
        (MASKING, {"foo": 3}, "masking's foo is 3; expected only masking_ratio, .*select_initial"),
        (("teacher_args",), {"reconstruction_weighted_loss": True}, "loss is True; only False"),
        (("teacher_args",), {"reconstruction_loss_fn": "crossentropy"}, "ntropy'; only 'mse' can"),
        ((), {"encoder_type": "foo"}, "type is 'foo'; only 'self_attention' or 'cross_attention'"),
        ((), {"input_type": "foo"}, "input_type is 'foo'; only 'discrete' or 'continuous' can"),
    ],
)
def test_what_is_not_converted_is_refused(
    path: tuple[str | int, ...], values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        convert_config(changed(*path, **values))


def test_what_the_architecture_has_is_converted() -> None:
    # Without a callback of the published script the initial ratio does nothing.
    same = {"exclude_seen_reconstruction": True, "varying_length": True, "relative_noise": 0.0,
            "select_initial_ratio": 0.5, "head_aggregation": "mean"}  # fmt: skip
    assert convert_config(changed(*MASKING, **same)) == convert_config(NEEDED)
    mixed = convert_config(changed(*MASKING, head_aggregation="random_mix"))
    assert mixed.masking.head_choice == "sample"
    texts = changed("teacher_args", reconstruction_loss_fn="crossentropy")
    texts["input_type"] = "discrete"
    assert convert_config(texts).input.kind == "bytes"
    texts["teacher_args"]["reconstruction_loss_fn"] = "mse"
    with pytest.raises(ConfigError, match="loss_fn is 'mse'; only 'crossentropy' can be converted"):
        convert_config(texts)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"teacher_args": [1]}, r"teacher_args is \[1\], no JSON object; expected"),
        ({"teacher_args": {"reconstruction_decoder_args": 3}}, "decoder_args is 3, no JSON object"),
        ({"cross_train_noising_args": "guided"}, "noising_args is 'guided'; expected Random"),
        ({"cross_train_noising_args": {"a": 1}}, "noising_args is .*; expected Random"),
        ({"cross_train_noising_args": [["Random"]]}, "noising_args is .*; expected Random"),
        ({"cross_train_noising_args": [["Other", {}]]}, "noising_args is .*; expected Random"),
        ({"cross_train_noising_args": [[NAME, [0.5]]]}, "noising_args is .*; expected Random"),
        ({"cross_train_noising_args": [[NAME, {}], [NAME, {}]]}, "noising_args is .*; expected R"),
        ({"cross_train_noising_args": 7}, "noising_args is 7; expected Random"),
    ],
)
def test_a_malformed_section_is_told(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        convert_config({**NEEDED, **values})
    assert "\n" not in str(caught.value)


def test_a_transformers_first_attention_is_like_its_blocks(
    golden_folder: Path, tmp_path: Path
) -> None:
    config = json.loads((golden_folder / "self-discrete.json").read_text())
    perceivers = {
        "cross_attention_widening_factor": 4,
        "encoder_cross_attention_channels": 16,
        "num_cross_attention_heads": 2,
    }
    assert convert_config(config | perceivers) == convert_config(config)
    wide = convert_config(config | {"self_attention_widening_factor": 3, "qk_channels": 24}).encoder
    assert (wide.mlp_ratio, wide.read_mlp_ratio) == (3, 3)
    assert (wide.qk_width, wide.read_qk_width, wide.read_heads) == (24, 24, 4)
    read = convert_config(NEEDED | perceivers).encoder
    assert (read.read_mlp_ratio, read.read_qk_width, read.read_heads) == (4, 16, 2)


def test_the_decoders_mlp_and_output_are_as_they_were_built() -> None:
    assert convert_config(NEEDED).decoder.mlp_ratio == 1
    assert convert_config(changed(*DECODER, widening_factor=3)).decoder.mlp_ratio == 3
    ties = changed(*DECODER, share_embedding_weights=True)
    ties["input_type"] = "discrete"
    assert convert_config(ties).decoder.tie_output
    # Sizes that differ are not tied, though it is asked for.
    assert not convert_config({**ties, "embedded_channels": 8}).decoder.tie_output


def test_what_drop_path_means_here_is_told(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    convert_checkpoint(checkpoint, out=tmp_path / "run")
    assert "drop_path_rate" not in caplog.text
    (tmp_path / "other.json").write_text(json.dumps({**config, "drop_path_rate": 0.25}))
    convert_checkpoint(checkpoint, out=tmp_path / "other", config=tmp_path / "other.json")
    assert "drop_path_rate 0.25 is that of every block in the published code" in caplog.text


def test_weights_must_fit_the_configuration(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config["max_position_embeddings"] += 8
    (tmp_path / "other.json").write_text(json.dumps(config))
    with pytest.raises(UserInputError, match="has shape"):
        convert_checkpoint(checkpoint, out=tmp_path / "run", config=tmp_path / "other.json")
    weights = load_file(checkpoint / "model.safetensors")
    del weights["teacher.reconstruction_decoder.final_layernorm.weight"]
    save_file(weights, checkpoint / "model.safetensors")
    with pytest.raises(UserInputError, match="lacks 1 of"):
        convert_checkpoint(checkpoint, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("x")
    with pytest.raises(FolderError, match="holds something already"):
        convert_checkpoint(checkpoint, out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


@pytest.mark.parametrize("hides", [True, False])
def test_what_is_hidden_first_is_converted(hides: bool) -> None:
    options = {"masking_ratio": 0.5, "num_per_query": 2, "mask_self": hides}
    asked = {**NEEDED, "encoder_type": "self_attention"}
    asked["cross_train_noising_args"] = [[NAME, options]]
    assert convert_config(asked).masking.hide_queries == hides


def test_each_rate_of_a_published_configuration_is_read_from_its_own_key(
    golden_folder: Path,
) -> None:
    config = json.loads((golden_folder / "self-discrete.json").read_text())
    config |= {"hidden_dropout_prob": 0.1, "attention_dropout_prob": 0.2, "drop_path_rate": 0.3}
    encoder = convert_config(config).encoder
    assert (encoder.dropout, encoder.attention_dropout, encoder.drop_path) == (0.1, 0.2, 0.3)
