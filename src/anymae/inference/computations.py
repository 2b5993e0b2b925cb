"""What can be computed of rows: embeddings, states of inputs, answers, scores; how files name it.

Shapes: B rows of a batch, R rows, N inputs, D width, W decoder width, F numbers, S members,
A numbers of an answer, M masks.
"""

from collections.abc import Mapping
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from anymae.data.batch import Batch, IntArray
from anymae.errors import UserInputError
from anymae.hub import Model
from anymae.inference.compute import Computation, FloatArray
from anymae.model import MaskedAutoencoder
from anymae.nn.encoder import take
from anymae.nn.readout import MeanReadout, make_readout
from anymae.predictor import Answered, Ensemble, Predictor, members_of, to_probabilities
from anymae.randomness import Draws, Purpose, row_keys
from anymae.task import ReadoutConfig

Columns = Mapping[str, pa.Array]

Reading = Literal["mean", "layers", "kernel"]
"""Readouts that need no training: the name of each is that of its readout."""

DECODED = (
    "the vector of each input is the decoder's state at its position, as a perceiver's latents "
    "belong to no input"
)


class Output(Computation):
    """A computation whose numbers files hold."""

    model: Model
    notes: tuple[str, ...] = ()
    """What a user of the file should know."""

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Name the numbers of R rows, see `Numbers`; null where a row has none (all NaN).

        With `nested` False (CSV) every column holds plain numbers or strings.
        """
        raise NotImplementedError

    def matrix(self, values: FloatArray) -> Answered:
        """Return `(R, columns)` for `.npy`: the numbers as they are, unless said otherwise."""
        return values


class Embeddings(Output):
    """One vector for each row.

    Args:
        model: A pretrained model, or one fine-tuned model.
        reading: `mean` over valid latents (D numbers); `layers`: mean and standard deviation
            after each layer (`2 (depth + 1) D` numbers); or `kernel`: averaged random cosines of
            the latents after each layer (4,096 numbers or just below).
    """

    model: MaskedAutoencoder | Predictor

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

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return `embedding`, fixed-size lists, or `e0`, `e1` ..."""
        absent = np.asarray(np.isnan(values).all(1))
        if not nested:
            return {
                f"e{number}": pa.array(column, pa.float32(), mask=absent)
                for number, column in enumerate(values.T)
            }
        return {"embedding": _lists(values, absent)}


class InputStates(Output):
    """One vector for each input: the encoder's of a transformer, the decoder's of a perceiver.

    A perceiver's latents belong to no input, so its decoder is asked about every position; only
    a pretrained model has a decoder.
    """

    model: MaskedAutoencoder | Predictor
    per_input = True

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
        if self._decodes:
            self.notes = (DECODED,)

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

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return `states`, lists of fixed-size lists, for Parquet alone."""
        ends = np.cumsum(counts)
        offsets = pa.array(np.r_[0, ends], pa.int64(), mask=np.r_[counts == 0, False])
        inner = _lists(values, np.asarray(np.isnan(values).all(1)))
        return {"states": pa.LargeListArray.from_arrays(offsets, inner)}


class Answers(Output):
    """What a fine-tuned model answers, each member apart: S * A numbers.

    They are probabilities or standardised numbers, from which `members_of` makes answers.
    """

    model: Predictor | Ensemble

    def __init__(self, model: Model) -> None:
        if isinstance(model, MaskedAutoencoder):
            raise UserInputError(
                "this is a pretrained encoder, which has not learned to answer anything; expected "
                "a fine-tuned model: make one with `anymae finetune RUN DATA --target COL --out "
                "MODEL`"
            )
        self.model = model
        self._members = list(self.model.predictors())
        self.num_numbers = self.model.task.members * len(self.model.task.answers)

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, S * A)`."""
        outputs = (member(batch.inputs, batch.valid) for member in self._members)
        return torch.cat([to_probabilities(self.model.task, out) for out in outputs], 1)

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return `predicted_TARGET`, then `probability_CLASS` and what ends in `_std`.

        A spread ends in `_std_` where another answer has its name.
        """
        task, mean = self.model.task, self.matrix(values)
        spread = members_of(task, values).std(0, ddof=1) if task.members > 1 else None
        absent = np.isnan(mean).any(1)
        out: dict[str, pa.Array] = {}
        if task.type in ("binary", "multiclass"):
            chosen = pa.array(mean.argmax(1), mask=absent)
            out[f"predicted_{task.targets[0]}"] = pa.array(task.classes).take(chosen)
        prefix = "probability_" if task.is_classification else "predicted_"
        names = [f"{prefix}{name}" for name in task.answers]
        for number, name in enumerate(names):
            out[name] = pa.array(mean[:, number], mask=absent)
            if spread is not None:
                beside = f"{name}_std"
                while beside in names or beside in out:
                    beside += "_"
                out[beside] = pa.array(spread[:, number], mask=absent)
        return out

    def matrix(self, values: FloatArray) -> Answered:
        """Return the mean over members, `(R, A)`."""
        return np.asarray(members_of(self.model.task, values).mean(0))


class Scores(Output):
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

    model: MaskedAutoencoder
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
        self.reference: float | None = None
        """Score of the row that others are compared with in a file."""

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

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return `score` (larger is odder), `inputs` and, with a reference, `difference`."""
        score = self.matrix(values)[:, 0]
        absent = np.isnan(values[:, 1])
        known = np.where(absent, 0, values[:, 1]).round().astype(np.int32)
        out: dict[str, pa.Array] = {
            "score": pa.array(score, mask=np.isnan(score)),
            "inputs": pa.array(known, mask=absent),
        }
        if self.reference is not None:
            difference = score - np.float32(self.reference)
            out["difference"] = pa.array(difference, mask=np.isnan(score))
        return out

    def matrix(self, values: FloatArray) -> FloatArray:
        """Return the scores, `(R, 1)`: mean losses of an input."""
        return values[:, :1] / values[:, 1:]

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


def one_encoder(model: Model) -> MaskedAutoencoder | Predictor:
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


def _blank(states: Tensor, valid: Tensor) -> Tensor:
    return states.masked_fill(~valid[:, :, None], torch.nan)


def _lists(values: FloatArray, absent: npt.NDArray[np.bool_]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    mask = pa.array(absent) if absent.any() else None
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)
