"""What is predicted about a hidden input and how far off it was, for each kind of input.

A head predicts the inputs at positions `hidden`, `(B, k)`, and tells the loss of each prediction
in float32; `filled`, `(B, k)`, is False for filler.

Shapes: B rows, k hidden inputs, W decoder width, V tokens, K numbers an input, C columns.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymae.config import VOCABULARY, ModelConfig
from anymae.registry import Registry


def full(x: Tensor) -> Tensor:
    """Return at least float32: losses are never computed in half precision."""
    return x if x.dtype == torch.float64 else x.float()


HEADS: Registry[type[nn.Module]] = Registry("head")


@HEADS.register("bytes")
class TokenHead(nn.Module):
    """Logits over the tokens, cross-entropy; the matrix may be the token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        own = not config.decoder.tie_output
        self.weight = nn.Parameter(torch.empty(VOCABULARY, config.decoder.width)) if own else None
        self.bias = nn.Parameter(torch.empty(VOCABULARY))

    def predict(self, decoded: Tensor, hidden: Tensor, tied: Tensor | None) -> Tensor:
        """Return logits `(B, k, V)`; `tied` is the token embedding `(V, W)`."""
        weight = self.weight if self.weight is not None else tied
        assert weight is not None
        return F.linear(decoded, weight, self.bias)

    def losses(
        self, predictions: Tensor, targets: Tensor, hidden: Tensor, filled: Tensor
    ) -> Tensor:
        """Return the cross-entropy in nats, `(B, k)`, for targets `(B, k)` int64."""
        return F.cross_entropy(full(predictions).transpose(1, 2), targets, reduction="none")

    @torch.no_grad()
    def begin_at(self, predictions: Tensor) -> None:
        """Begin at the mean of logits `(N, V)` over positions."""
        self.bias.copy_(predictions.mean(0))


@HEADS.register("image")
@HEADS.register("values")
class ValueHead(nn.Module):
    """The K numbers themselves, squared error averaged over them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.decoder.width, config.input.channels)

    def predict(self, decoded: Tensor, hidden: Tensor, tied: Tensor | None) -> Tensor:
        """Return `(B, k, K)` standardised values."""
        out: Tensor = self.linear(decoded)
        return out

    def losses(
        self, predictions: Tensor, targets: Tensor, hidden: Tensor, filled: Tensor
    ) -> Tensor:
        """Return the mean squared error over K, `(B, k)`, for targets `(B, k, K)`."""
        return (full(predictions) - targets).square().mean(-1)

    @torch.no_grad()
    def begin_at(self, predictions: Tensor) -> None:
        """Begin at the mean of values `(N, K)` over positions."""
        self.linear.bias.copy_(predictions.mean(0))


@HEADS.register("set")
class SetHead(ValueHead):
    """Members of a set, in no order: each is compared with the nearest on the other side.

    Asking all hidden members with one query, or by rank, taught less
    (`benchmarks/set_queries.py`).
    """

    def losses(
        self, predictions: Tensor, targets: Tensor, hidden: Tensor, filled: Tensor
    ) -> Tensor:
        """Return half of (nearest target of prediction i + nearest prediction of target i).

        Distances are mean squared differences over K, `(B, k)`, for targets `(B, k, K)`.
        """
        predictions = full(predictions)
        targets = targets.to(predictions.dtype)
        # Autocast would take the products in half precision, and what is left of their difference
        # to the squares is noise.
        with torch.autocast(predictions.device.type, enabled=False):
            across = predictions @ targets.transpose(1, 2)
        own = predictions.square().sum(-1)[:, :, None] + targets.square().sum(-1)[:, None]
        distance = (own - 2 * across).clamp(min=0) / targets.shape[-1]
        far = torch.finfo(distance.dtype).max
        distance = distance.masked_fill(~(filled[:, :, None] & filled[:, None]), far)
        return (distance.amin(1) + distance.amin(2)) / 2


@HEADS.register("table")
class CellHead(nn.Module):
    """A number, or logits over the column's own categories.

    One matrix holds all outputs: row 0 for every number, then each categorical column's rows. A
    categorical column's cross-entropy is divided by the log of its number of categories, so that
    guessing costs about 1 in every column and none drowns the others.
    """

    reads: Tensor
    is_output: Tensor
    scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        counts = torch.tensor(config.input.categories)
        self.only_numbers = not any(config.input.categories)
        starts = 1 + counts.cumsum(0) - counts
        self.linear = nn.Linear(config.decoder.width, 1 + sum(config.input.categories))
        slots = torch.arange(max(1, *config.input.categories))
        is_output = slots < counts.clamp(min=1)[:, None]
        reads = torch.where(counts > 0, starts, 0)[:, None] + slots
        scale = torch.where(counts > 1, counts.clamp(min=2).log(), 1.0)
        self.register_buffer("reads", reads.where(is_output, 0), persistent=False)
        self.register_buffer("is_output", is_output, persistent=False)
        self.register_buffer("scale", torch.where(counts > 0, scale, 0.0), persistent=False)

    def predict(self, decoded: Tensor, hidden: Tensor, tied: Tensor | None) -> Tensor:
        """Return `(B, k, V)`, V the most categories of a column.

        A number stands in slot 0; slots that a column does not have hold the lowest number.
        """
        outputs = self.linear(decoded)
        if self.only_numbers:
            return cast("Tensor", outputs[..., :1])
        predictions: Tensor = outputs.gather(2, self.reads[hidden])
        lowest = torch.finfo(predictions.dtype).min
        return predictions.masked_fill(~self.is_output[hidden], lowest)

    def losses(
        self, predictions: Tensor, targets: Tensor, hidden: Tensor, filled: Tensor
    ) -> Tensor:
        """Return squared error or scaled cross-entropy, `(B, k)`, for targets `(B, k, 1)`."""
        predictions, targets = full(predictions), targets.squeeze(-1)
        error = (predictions[..., 0] - targets).square()
        if self.only_numbers:
            return error
        scale = self.scale[hidden]
        code = torch.where(scale > 0, targets, 0).long()
        surprise = F.cross_entropy(predictions.transpose(1, 2), code, reduction="none")
        return torch.where(scale > 0, surprise / scale.clamp(min=1e-3), error)

    @torch.no_grad()
    def begin_at(self, predictions: Tensor) -> None:
        """Begin at each column's logits, `(C, V)`; numbers share an output and begin at 0."""
        self.linear.bias.zero_()
        categorical = self.is_output & (self.scale > 0)[:, None]
        self.linear.bias[self.reads[categorical]] = predictions[categorical]


Head = TokenHead | ValueHead | CellHead


def make_head(config: ModelConfig) -> Head:
    """Build the head for the config's input kind."""
    name = "set" if config.input.positions == "none" else config.input.kind
    return cast("Head", HEADS[name](config))
