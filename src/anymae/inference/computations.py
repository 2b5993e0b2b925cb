"""What can be computed of rows: embeddings, states of inputs, answers, scores.

Shapes: B rows, N inputs, D width, W decoder width, S members, A numbers of an answer, M masks.
"""

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from anymae.data.batch import Batch
from anymae.errors import UserInputError
from anymae.hub import Model
from anymae.model import Backbone, MaskedAutoencoder
from anymae.nn.encoder import take
from anymae.nn.readout import MeanReadout, make_readout
from anymae.predictor import Ensemble, Predictor, to_probabilities
from anymae.randomness import Draws, Purpose, row_keys
from anymae.task import ReadoutConfig

Reading = Literal["mean", "layers", "kernel"]
"""Readouts that need no training: the name of each is that of its readout."""

DECODED = (
    "the vector of each input is the decoder's state at its position, as a perceiver's latents "
    "belong to no input"
)


class Embeddings:
    """One vector for each row.

    Args:
        model: A pretrained model, or one fine-tuned model.
        reading: `mean` over valid latents (D numbers); `layers`: mean and standard deviation
            after each layer (`2 (depth + 1) D` numbers); or `kernel`: averaged random cosines of
            the latents after each layer (4,096 numbers or just below).
    """

    per_input = False
    sums = False

    def __init__(self, model: Model, reading: Reading = "mean") -> None:
        if reading not in get_args(Reading):
            known = " or ".join(get_args(Reading))
            raise UserInputError(f"reading is {reading!r}; expected {known}")
        self.model = one_encoder(model)
        readout = make_readout(ReadoutConfig(kind=reading), self.model.config.encoder)
        self._readout = cast("MeanReadout", readout)
        self.num_numbers = self._readout.num_features

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, F)`."""
        layers = self.model.encode_layers(batch.inputs, batch.valid)
        # The model is where it computes by now; a readout that is there stays as it is.
        return self._readout.to(batch.inputs.device).raw(layers)


class InputStates:
    """One vector for each input: the encoder's of a transformer, the decoder's of a perceiver.

    A perceiver's latents belong to no input, so its decoder is asked about every position; only
    a pretrained model has a decoder.
    """

    per_input = True
    sums = False

    def __init__(self, model: Model) -> None:
        self.model = one_encoder(model)
        config = self.model.config
        self._decodes = config.encoder.kind == "perceiver"
        if self._decodes and not isinstance(self.model, MaskedAutoencoder):
            raise UserInputError(
                "a fine-tuned perceiver has no vector for each input (its decoder was left "
                "behind); use the pretraining run"
            )
        if self._decodes and config.input.positions == "none":
            raise UserInputError(
                "a perceiver of a set has no vector for each member (its decoder's slots stand "
                "in no order); embed whole sets, or pretrain a transformer"
            )
        self.num_numbers = config.decoder.width if self._decodes else config.encoder.width
        self.notes = (DECODED,) if self._decodes else ()

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, N, F)`, NaN at inputs that are not valid."""
        encoded = self.model.encode(batch.inputs, batch.valid)
        shape = batch.inputs.shape[:2]
        if self._decodes:
            assert isinstance(self.model, MaskedAutoencoder)
            every = torch.arange(shape[1], device=batch.inputs.device).expand(shape)
            states = self.model.decoder(encoded, every, self.model.embedding.positions)
            return states if batch.valid is None else _blank(states, batch.valid)
        if encoded.valid is None or batch.valid is None:
            return encoded.latents
        # Valid inputs were packed left, in order: send them back to their places.
        place = (batch.valid.cumsum(1) - 1).clamp(min=0)
        return _blank(take(encoded.latents, place), batch.valid)


class Answers:
    """What a fine-tuned model answers, each member apart: S * A numbers.

    They are probabilities or standardised numbers, from which `members_of` makes answers.
    """

    per_input = False
    sums = False

    def __init__(self, model: Model) -> None:
        self.model = fine_tuned(model)
        self._members = list(self.model.predictors())
        self.num_numbers = self.model.task.members * len(self.model.task.answers)

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, S * A)`."""
        outputs = (member(batch.inputs, batch.valid) for member in self._members)
        return torch.cat([to_probabilities(self.model.task, out) for out in outputs], 1)


class Scores:
    """How badly a row is reconstructed when each of its inputs is hidden once.

    The inputs are dealt into M masks, each reconstructed from all others. Masks are fixed by the
    seed: rows with as many inputs have the same ones, so that variants are compared under equal
    conditions. Two numbers: the summed loss and how many inputs it is the sum of. A row with
    fewer than two inputs has no score.

    Args:
        model: A pretrained model.
        num_masks: M; `None` hides about the share that pretraining hid.
        seed: Deals the inputs.
    """

    per_input = False
    sums = True
    num_numbers = 2

    def __init__(self, model: Model, num_masks: int | None = None, seed: int = 0) -> None:
        if not isinstance(model, MaskedAutoencoder):
            raise UserInputError(
                "a fine-tuned model cannot reconstruct inputs (its decoder was left behind); "
                "score with the pretraining run"
            )
        if num_masks is not None and num_masks < 2:
            raise UserInputError(f"{num_masks} masks hide everything at once; use at least 2")
        self.model, self._seed = model, seed
        self.num_masks = num_masks or max(2, round(1 / model.config.masking.ratio))

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, 2)`: summed loss and number of inputs."""
        mask_of = self._deal(batch)
        valid = mask_of >= 0
        loss = torch.zeros(len(valid), device=valid.device)
        # Rows that are shorter than that leave the other masks empty.
        for number in range(min(self.num_masks, batch.inputs.shape[1])):
            masked = mask_of == number
            loss = loss + self.model(batch.inputs, batch.valid, masked).losses.sum(1)
        count = valid.sum(1)
        return torch.stack([loss.where(count > 1, torch.nan), count.float()], 1)

    def _deal(self, batch: Batch) -> Tensor:
        """Return the mask that hides each input, `(B, N)` int64, -1 where it is not valid.

        Counts differ by at most one between a row's masks; rows with fewer inputs than masks
        leave some empty.
        """
        draws = Draws(row_keys(torch.zeros_like(batch.rows), seed=self._seed))
        bits = draws.bits(Purpose.HIDE, batch.inputs.shape[1])
        if batch.valid is None:
            return bits.argsort(1).argsort(1) % self.num_masks
        rank = bits.masked_fill(~batch.valid, torch.iinfo(torch.int64).max).argsort(1).argsort(1)
        return (rank % self.num_masks).masked_fill(~batch.valid, -1)


def one_encoder(model: Model) -> Backbone:
    """Return the model if it has one encoder.

    Raises:
        UserInputError: It is an ensemble.
    """
    if isinstance(model, Ensemble):
        raise UserInputError(
            f"the model is an ensemble of {len(model.members)} encoders; "
            "embed with the pretraining run or with one fine-tuned seed"
        )
    return model


def fine_tuned(model: Model) -> Predictor | Ensemble:
    """Return the model if it has a task head.

    Raises:
        UserInputError: It is a pretraining run's.
    """
    if isinstance(model, MaskedAutoencoder):
        raise UserInputError(
            "this is a pretrained encoder, which has not learned to answer anything; expected a "
            "fine-tuned model: make one with `anymae finetune RUN DATA --target COL --out MODEL`"
        )
    return model


def _blank(states: Tensor, valid: Tensor) -> Tensor:
    return states.masked_fill(~valid[:, :, None], torch.nan)
