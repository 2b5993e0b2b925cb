"""A pretrained encoder with a task head: what fine-tuning trains and `predict` asks.

Shapes: B or R rows, N inputs, K numbers an input, O outputs, A numbers of an answer, S members.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anymae.config import EncoderConfig, ModelConfig, parse
from anymae.errors import UserInputError
from anymae.model import Backbone, MaskedAutoencoder
from anymae.nn.initial import initialise
from anymae.nn.readout import Readout, make_readout
from anymae.task import TaskConfig

logger = logging.getLogger(__name__)

Answered = npt.NDArray[np.floating]
"""Answers: float32 probabilities, or float64 numbers in the user's units."""


class Predictor(Backbone):
    """Encoder, readout and one linear map; nothing is masked.

    Args:
        config: Sizes and options of the encoder.
        task: What is predicted. Weights are drawn from torch's global generator.

    >>> config = parse(ModelConfig, {
    ...     "input": {"kind": "values", "length": 28},
    ...     "encoder": {"width": 16, "depth": 2, "num_heads": 2},
    ... })
    >>> task = TaskConfig(type="binary", targets=("signal",), classes=("no", "yes"))
    >>> model = Predictor(config, task)
    >>> model.answer(torch.randn(4, 28, 1)).shape
    torch.Size([1, 4, 2])
    """

    def __init__(self, config: ModelConfig, task: TaskConfig) -> None:
        super().__init__(config)
        self.task = task
        self.readout: Readout = make_readout(task.readout, config.encoder)
        self.output = nn.Linear(self.readout.num_features, task.num_outputs)
        initialise(self, config)

    @classmethod
    def from_pretrained(
        cls, model: Backbone, task: TaskConfig, *, dropouts: Mapping[str, float] | None = None
    ) -> "Predictor":
        """Put a new head on the encoder of `model`, which stays as it is.

        Args:
            model: A pretraining run's model, or a fine-tuned one whose head is left behind.
            task: What is predicted.
            dropouts: `dropout`, `attention_dropout` and `drop_path` that differ from pretraining.

        Raises:
            UserInputError: The weights do not fit the encoder.
        """
        encoder = {**model.config.encoder.model_dump(), **(dropouts or {})}
        config = model.config.model_copy(
            update={"encoder": parse(EncoderConfig, encoder, where="encoder")}
        )
        predictor = cls(config, task)
        predictor.data = model.data
        predictor.load_encoder(model.state_dict())
        return predictor

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Take embedding and encoder from a model's tensors; what else is there is left out.

        Raises:
            UserInputError: A tensor of the encoder is missing.
        """
        kept = {name: tensor for name, tensor in state.items() if _of_encoder(name)}
        missing = sorted(filter(_of_encoder, set(self.state_dict()) - set(kept)))
        if missing:
            raise UserInputError(
                f"the pretrained weights lack {len(missing)} tensors of the encoder, first "
                f"{missing[0]}; expected those of a model with the same config"
            )
        unused = self.load_state_dict(kept, strict=False).unexpected_keys
        if unused:
            raise UserInputError(f"the encoder has no place for the pretrained {unused[0]}")
        logger.info(
            "%d pretrained tensors taken; new: %s; left behind: %s",
            len(kept),
            _roots(set(self.state_dict()) - set(kept)),
            _roots(set(state) - set(kept)),
        )

    def features(self, inputs: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return what the last linear map sees, `(B, F)`."""
        features: Tensor = self.readout(self.encode_layers(inputs, valid))
        return features

    def forward(self, inputs: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return logits or standardised numbers, `(B, O)`.

        Args:
            inputs: `(B, N)` int64 or `(B, N, K)` float32.
            valid: `(B, N)` bool; `None` when all inputs are real.
        """
        out: Tensor = self.output(self.features(inputs, valid))
        return out

    def answer(self, inputs: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return probabilities, or numbers in the user's units, `(1, B, A)` float32.

        What the A numbers are is in `task.answers`.
        """
        return to_answers(self.task, self(inputs, valid))[None]

    def predictors(self) -> Iterator["Predictor"]:
        """Go through the members: this one, see `Ensemble`."""
        yield self


class Ensemble(nn.Module):
    """Predictors of one task that differ in their seeds.

    Args:
        members: At least two, alike in config and task.
    """

    def __init__(self, members: Iterable[Predictor]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        first = next(self.predictors())
        self.config = first.config
        self.task = first.task.model_copy(update={"members": len(self.members)})
        self.data = first.data

    def predictors(self) -> Iterator[Predictor]:
        """Go through the members."""
        return (cast("Predictor", member) for member in self.members)

    def answer(self, inputs: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return each member's answers, `(S, B, A)`."""
        return torch.cat([member.answer(inputs, valid) for member in self.predictors()])


def to_answers(task: TaskConfig, outputs: Tensor) -> Tensor:
    """Turn a network's outputs into what a user reads.

    Args:
        task: What is predicted.
        outputs: Logits or standardised numbers, `(B, O)`.

    Returns:
        `(B, A)` float32: numbers in the user's units (`regression`), the probability of each
        class (`binary`, `multiclass`), or of each label (`multilabel`).
    """
    found = to_probabilities(task, outputs.float())
    if task.is_classification:
        return found
    return found * found.new_tensor(task.std) + found.new_tensor(task.mean)


def to_probabilities(task: TaskConfig, outputs: Tensor) -> Tensor:
    """Turn logits into float32 probabilities; standardised numbers stay as they are.

    Args:
        task: What is predicted.
        outputs: Logits or standardised numbers, `(B, O)`.

    Returns:
        `(B, A)`, from which `members_of` makes answers.
    """
    match task.type:
        case "regression":
            return outputs
        case "binary":
            outputs = outputs.float()
            return torch.cat([-outputs, outputs], -1).sigmoid()
        case "multiclass":
            return outputs.float().softmax(-1)
        case "multilabel":
            return outputs.float().sigmoid()


def to_outputs(task: TaskConfig, answers: Tensor) -> Tensor:
    """Turn probabilities back into float32 logits, such as those averaged over windows.

    Args:
        task: What is predicted.
        answers: As `to_probabilities` gives them, `(B, A)`.

    Returns:
        `(B, O)`, of which `to_probabilities` makes `answers`.
    """
    logs = answers.clamp(min=torch.finfo(torch.float32).tiny).log()
    match task.type:
        case "regression":
            return answers
        case "binary":
            return logs[:, 1:] - logs[:, :1]
        case "multiclass":
            return logs
        case "multilabel":
            return answers.logit(eps=1e-7)


def members_of(task: TaskConfig, values: npt.NDArray[np.floating]) -> Answered:
    """Return the answers of each member apart.

    Args:
        task: What is predicted.
        values: Probabilities or standardised numbers, `(R, S * A)`, as `computations.Answers`
            gives them.

    Returns:
        `(S, R, A)`: probabilities as they are, or numbers in the user's units, in float64, as
        float32 has too few digits for those that are far from 0.

    >>> task = TaskConfig(type="regression", targets=("time",), mean=(1.7e9,), std=(10.0,))
    >>> members_of(task, np.array([[0.5]], np.float32)).tolist()
    [[[1700000005.0]]]
    """
    members = values.reshape(len(values), task.members, -1).transpose(1, 0, 2)
    if task.is_classification:
        return members
    return np.asarray(members * np.array(task.std) + np.array(task.mean))


@torch.random.fork_rng(devices=[])
def build(config: Mapping[str, Any]) -> MaskedAutoencoder | Predictor | Ensemble:
    """Build the model that a `config.json` describes, with weights yet to be loaded.

    torch's random state is left as it was: weights are drawn, and then replaced.

    Args:
        config: A `ModelConfig`, with a `task` section where the model was fine-tuned.

    Raises:
        ConfigError: An unknown key, or a value out of range.
    """
    values = dict(config)
    section = values.pop("task", None)
    model_config = parse(ModelConfig, values, where="config.json")
    if section is None:
        return MaskedAutoencoder(model_config)
    task = parse(TaskConfig, section, where="config.json: task")
    # Each member is a model of its own; the ensemble counts them.
    alone = task.model_copy(update={"members": 1})
    members = [Predictor(model_config, alone) for _ in range(task.members)]
    return members[0] if len(members) == 1 else Ensemble(members)


def describe(model: MaskedAutoencoder | Predictor | Ensemble) -> dict[str, Any]:
    """Return what `build` needs to build `model` again: the content of its `config.json`."""
    config = model.config.model_dump(mode="json")
    if isinstance(model, MaskedAutoencoder):
        return config
    return {**config, "task": model.task.model_dump(mode="json")}


def _of_encoder(name: str) -> bool:
    return name.startswith(("embedding.", "encoder."))


def _roots(names: Iterable[str]) -> str:
    return ", ".join(sorted({name.partition(".")[0] for name in names})) or "nothing"
