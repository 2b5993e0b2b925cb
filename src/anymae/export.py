"""A model as one ONNX file, for where there is no Python: a browser, a database, a detector.

What the file computes is compared with what torch computes before anything is written.

Shapes: B rows, N inputs, K numbers an input, D width, S members, A numbers of an answer.
"""

import itertools
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from anymae.config import NUM_SPECIAL, VOCABULARY, InputConfig
from anymae.data.sources.locate import require_output
from anymae.errors import AnymaeError, UserInputError, require_extra
from anymae.files import write_named
from anymae.hub import Model, load
from anymae.inference.compute import ComputeConfig, placed
from anymae.model import Backbone, MaskedAutoencoder
from anymae.nn.encoder import Encoded
from anymae.nn.readout import mean_pool
from anymae.predictor import Ensemble, Predictor, describe, to_answers

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-4
"""Largest difference to torch that is let pass, times torch's largest number if that is over 1.

Amounts count in standard deviations from their mean, in which the network computes them."""

_MOST_BYTES = 2**31
"""Of an ONNX file, a limit of its format."""

_NAMES = ("inputs", "valid")


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written."""

    path: Path
    inputs: dict[str, tuple[int | str, ...]]
    """Shape of each input; a name where any size will do."""
    length: int
    """Inputs that a row may have at most."""
    output: str
    """`vector`, or `answers` of a fine-tuned model."""
    difference: float
    """Largest difference to torch's numbers, over rows of several lengths; of amounts in standard
    deviations of the training rows."""


def export_onnx(
    source: str | Path | Model, out: str | Path, *, overwrite: bool = False
) -> Exported:
    """Write a model as one ONNX file.

    The file takes `inputs`, `(B, N)` int64 tokens or `(B, N, K)` float32 numbers as
    `Dataset.batch` makes them, and `valid`, `(B, N)` bool, True where an input is real. It gives
    `vector`, `(B, D)`, the embedding that `embed` writes; a fine-tuned model's gives `answers`,
    `(S, B, A)`, as `Predictor.answer` does. Its metadata hold `config` and `data`, the content
    of the run's `config.json` and `data.json`.

    Args:
        source: A run folder, `hf://owner/name`, or a model.
        out: The `.onnx` file to write.
        overwrite: Replace the file if it is there.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        FolderError: The folder holds no run, or `out` exists, is a folder or cannot be written.
        UserInputError: The name does not end in `.onnx`, the model is too large for one file, or
            its weights are no float32.
        AnymaeError: The file would give other numbers than torch does; it is not written.
    """
    out = Path(out)
    require_output(out, (".onnx",), overwrite=overwrite)
    require_extra("onnx", "ONNX files need {}", "onnx", "onnxscript", "onnxruntime")
    model = load(source) if isinstance(source, (str, Path)) else source
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        raise UserInputError("ONNX files hold float32 weights; call `model.float()` first")
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size >= _MOST_BYTES:
        raise UserInputError(
            f"the weights take {size:,} bytes and an ONNX file holds at most {_MOST_BYTES:,}; "
            "export a smaller model"
        )
    graph = _Vector(model) if isinstance(model, MaskedAutoencoder) else _Answers(model)
    with placed(model, ComputeConfig(device="cpu")):
        file = _translate(graph, model.config.input)
        _describe(file, model)
        content = file.SerializeToString()
        difference = _compare(graph, content, model.config.input)
    write_named(out, lambda staged: staged.write_bytes(content))
    return Exported(out, _shapes(file), model.config.input.length, graph.output, difference)


class _Vector(nn.Module):
    """The mean over a row's valid latents, `(B, D)`."""

    output = "vector"
    shift, scale = torch.tensor(0.0), torch.tensor(1.0)

    def __init__(self, model: Backbone) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, valid: Tensor) -> Tensor:
        return mean_pool(_layers(self.model, inputs, valid)[-1])


class _Answers(nn.Module):
    """What each member answers, `(S, B, A)`."""

    output = "answers"

    def __init__(self, model: Predictor | Ensemble) -> None:
        super().__init__()
        self.members = nn.ModuleList(model.predictors())
        in_units = model.task.type == "regression"
        self.shift = torch.tensor(model.task.mean if in_units else 0.0)
        self.scale = torch.tensor(model.task.std if in_units else 1.0)

    def forward(self, inputs: Tensor, valid: Tensor) -> Tensor:
        members = (cast("Predictor", member) for member in self.members)
        return torch.stack([_answers(member, inputs, valid) for member in members])


def _answers(predictor: Predictor, inputs: Tensor, valid: Tensor) -> Tensor:
    features = predictor.readout(_layers(predictor, inputs, valid))
    return to_answers(predictor.task, predictor.output(features))


def _layers(model: Backbone, inputs: Tensor, valid: Tensor) -> list[Encoded]:
    """Encode with every input in its place: how wide a packed batch is depends on its values."""
    real = valid if inputs.dim() == 2 else valid[:, :, None]
    embedded = model.embedding(inputs.masked_fill(~real, 0))
    # As in the model, a row without anything real shows nothing.
    embedded = embedded.masked_fill(~valid.any(1)[:, None, None], 0)
    return list(model.encoder.hidden_states(embedded, valid))


def _translate(graph: "_Vector | _Answers", config: InputConfig) -> "onnx.ModelProto":
    """Turn a module into ONNX: any number of rows, and of inputs where the kind leaves it free."""
    axes = {0: torch.export.Dim("rows")}
    if _is_ragged(config):
        axes[1] = torch.export.Dim("inputs", max=config.length)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(),  # its own flag; the model in it is placed already
            _example(config, rows=2, length=config.length),
            dynamo=True,
            dynamic_shapes=dict.fromkeys(_NAMES, axes),
            input_names=list(_NAMES),
            output_names=[graph.output],
            verbose=False,
        )
    assert program is not None
    file = program.model_proto
    # They would tell where this package lies on the disk of whoever exports.
    graph_parts = (file.graph.node, file.graph.initializer, file.graph.input, file.graph.output)
    for part in (file, file.graph, *itertools.chain(*graph_parts, file.graph.value_info)):
        del part.metadata_props[:]
    return file


def _describe(file: "onnx.ModelProto", model: Model) -> None:
    """Put into the metadata how the model is built and how rows become its inputs."""
    from onnx.helper import set_model_props

    texts = {"config": json.dumps(describe(model))}
    if model.data is not None:
        texts["data"] = json.dumps(model.data)
    set_model_props(file, texts)


def _compare(graph: "_Vector | _Answers", content: bytes, config: InputConfig) -> float:
    """Run both on rows of several lengths, some inputs not valid, one row without any.

    The largest difference is returned, or refused where `TOLERANCE` does not let it pass.
    """
    # Not by its name, as the package does not say what it exports.
    runtime = import_module("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    lengths = {1, config.length // 2 + 1, config.length} if _is_ragged(config) else {config.length}
    differences = []
    for rows in (1, 5):
        for length in sorted(lengths):
            batch = _example(config, rows=rows, length=length)
            with torch.inference_mode():
                expected = graph(*batch)
            feed = {name: tensor.numpy() for name, tensor in zip(_NAMES, batch, strict=True)}
            found = torch.from_numpy(session.run(None, feed)[0])
            difference = float(((found - expected) / graph.scale).abs().max())
            size = float(((expected - graph.shift) / graph.scale).abs().max())
            # What float32 cannot tell apart this far from zero.
            grain = torch.finfo(torch.float32).eps * float((expected / graph.scale).abs().max())
            # Written so that NaN does not pass.
            if not difference <= TOLERANCE * max(1.0, size) + 4 * grain:
                raise AnymaeError(
                    f"the exported model differs from torch by {difference:.3g} on {rows} rows of "
                    f"{length} inputs, so it was not written; try other versions of torch and "
                    "onnxruntime"
                )
            differences.append(difference)
    return max(differences)


def _example(config: InputConfig, *, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Make inputs and their validity, the same each time; the last of several rows has none."""
    source = torch.Generator().manual_seed(length)
    valid = torch.rand(rows, length, generator=source) < 0.7
    valid[0] = True
    if rows > 1:
        valid[-1] = False
    if config.kind == "bytes":
        tokens = torch.randint(NUM_SPECIAL, VOCABULARY, (rows, length), generator=source)
        return tokens, valid
    numbers = torch.randn(rows, length, config.channels, generator=source)
    if config.kind == "table":
        counts = torch.tensor(config.categories)[:, None]
        codes = (torch.rand(numbers.shape, generator=source) * counts).floor()
        numbers = torch.where(counts > 0, codes, numbers)
    return numbers, valid


def _is_ragged(config: InputConfig) -> bool:
    """Tell whether rows may have fewer inputs than the model has places for."""
    return config.kind in ("bytes", "values") and config.length > 2


def _shapes(file: "onnx.ModelProto") -> dict[str, tuple[int | str, ...]]:
    return {
        each.name: tuple(d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim)
        for each in file.graph.input
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the translator's remarks about its own workings to itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
