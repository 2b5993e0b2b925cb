"""The self-guided masked autoencoder: embed, mask, encode what is visible, decode what is hidden.

Shapes: B rows, N inputs, K numbers an input, E input width, M latents, D width, k hidden inputs.
Booleans: `valid`, `masked` and `visible` are True where an input is real, hidden from the
encoder, respectively seen by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anymae.config import InputConfig, ModelConfig
from anymae.errors import DataError
from anymae.masking import FirstAttention, make_masking
from anymae.masking.select import pack
from anymae.nn.decoder import Decoder
from anymae.nn.embedding import Embedding, TokenContent
from anymae.nn.encoder import Encoded, Encoder, last, make_encoder, take
from anymae.nn.heads import make_head
from anymae.nn.initial import initialise
from anymae.randomness import Draws, fresh_draws


@dataclass(frozen=True)
class Reconstruction:
    """What the model made of a batch with some inputs hidden."""

    loss_sum: Tensor
    """Sum of the loss over all hidden inputs of the batch, 0-D float32."""
    count: Tensor
    """Number of hidden inputs of the batch, 0-D int64."""
    masked: Tensor
    """`(B, N)`, True where an input was hidden."""
    listed: Tensor
    """Predictions by row, `(B, k, V or K)`; rows with fewer hidden inputs end in filler."""
    filled: Tensor
    """`(B, k)`, False for filler."""
    hidden: Tensor
    """`(B, k)` int64, the position of each prediction."""
    losses: Tensor
    """`(B, k)` float32, the loss of each prediction; 0 for filler."""

    @property
    def loss(self) -> Tensor:
        """Mean loss over the hidden inputs of the batch; 0 when nothing could be hidden."""
        return self.loss_sum / self.count.clamp(min=1)

    @property
    def predictions(self) -> Tensor:
        """`(masked.sum(), V or K)`, in the order of `masked.nonzero()`; of a set in no order."""
        return self.listed[self.filled]


class Backbone(nn.Module):
    """Embedding and encoder: what a pretrained model and all that is made from it share.

    Args:
        config: Sizes and options. Weights are drawn by the subclass, once it is complete.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.data: dict[str, Any] | None = None
        """The run's `data.json`: how raw rows become inputs. Carried along, not read here."""
        self.embedding = Embedding(config.input, width=config.encoder.input_width)
        self.encoder: Encoder = make_encoder(config.encoder)

    def encode(
        self, inputs: Tensor, valid: Tensor | None = None, masked: Tensor | None = None
    ) -> Encoded:
        """Encode the visible inputs; nothing is hidden unless `masked` says so.

        Args:
            inputs: `(B, N)` int64 or `(B, N, K)` float32.
            valid: `(B, N)` bool; `None` when all inputs are real.
            masked: `(B, N)` bool, or `(1, N)` for all rows; `None` when all are visible.

        Returns:
            Latents `(B, M, D)` and their validity `(B, M)`. Those of the transformer are the
            visible inputs, packed left, in order; M is N where nothing is masked on a GPU, else
            as many as the fullest row has.

        Raises:
            DataError: More inputs than the model has positions for, or other shapes or types.
        """
        return last(self.encode_layers(inputs, valid, masked))

    def encode_layers(
        self, inputs: Tensor, valid: Tensor | None = None, masked: Tensor | None = None
    ) -> Iterator[Encoded]:
        """Encode as `encode` does, and yield the state after each of the `depth + 1` layers.

        They are computed one by one: what the caller keeps of them stays in memory.
        """
        inputs, valid, masked = self._checked(inputs, valid, masked)
        embedded = self.embedding(inputs)
        if masked is None and valid is None:
            return self.encoder.hidden_states(embedded, None)
        # Away from a CPU, places that stay empty cost less than waiting for a value in each step.
        is_known = masked is None and inputs.device.type != "cpu"
        if masked is None:
            masked = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        visible = _visible(masked, valid)
        index, seen = pack(visible, inputs.shape[1] if is_known else _most_true(visible))
        return self.encoder.hidden_states(_shown(embedded, index, seen), seen)

    def _checked(
        self, inputs: Tensor, valid: Tensor | None, masked: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Refuse what does not fit, put 0 where nothing is real, and give each row its mask."""
        _require_inputs(inputs, self.config.input)
        if valid is not None:
            _require_flags("valid", valid, inputs)
            real = valid if inputs.dim() == 2 else valid[:, :, None]
            inputs = inputs.masked_fill(~real, 0)
        if masked is not None:
            if masked.dim() == 2 and masked.shape[0] == 1:
                masked = masked.expand(len(inputs), -1)
            _require_flags("masked", masked, inputs)
        return inputs, valid, masked


class MaskedAutoencoder(Backbone):
    """Reconstructs hidden inputs from visible ones, and chooses which to hide.

    Args:
        config: Sizes and options. Weights are drawn from torch's global generator.

    >>> from anymae.config import parse
    >>> config = parse(ModelConfig, {
    ...     "input": {"kind": "values", "length": 28},
    ...     "encoder": {"width": 16, "depth": 2, "num_heads": 2},
    ... })
    >>> model = MaskedAutoencoder(config)
    >>> out = model(torch.randn(4, 28, 1))
    >>> out.masked.sum(1).tolist(), out.predictions.shape
    ([8, 8, 8, 8], torch.Size([32, 1]))
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.decoder = Decoder(
            config.decoder, input_config=config.input, latent_width=config.encoder.width
        )
        self.head = make_head(config)
        self.masking = make_masking(config)
        initialise(self, config)

    def forward(
        self,
        inputs: Tensor,
        valid: Tensor | None = None,
        masked: Tensor | None = None,
        generator: torch.Generator | None = None,
        progress: float = 1.0,
        draws: Draws | None = None,
    ) -> Reconstruction:
        """Hide a share of the inputs and reconstruct them, in training and evaluation alike.

        Args:
            inputs: `(B, N)` int64 or `(B, N, K)` float32.
            valid: `(B, N)` bool; `None` when all inputs are real.
            masked: `(B, N)` bool, what to hide, or `(1, N)` for all rows; `None` lets the model's
                masking choose.
            generator: Source of the random choices; `None` takes torch's global one.
            progress: How far training has come, in [0, 1].
            draws: Random numbers tied to the rows; wins over `generator`.

        Raises:
            DataError: More inputs than the model has positions for, or other shapes or types.
        """
        inputs, valid, masked = self._checked(inputs, valid, masked)
        embedded = self.embedding(inputs)
        is_chosen = masked is None
        if masked is None:
            if draws is None:
                draws = fresh_draws(len(inputs), device=inputs.device, generator=generator)
            masked = self.mask(embedded, valid, draws, progress)
            # Known from N alone, so that nothing waits for a value on the host. One place at least,
            # as below: kernels take no empty list.
            num_hidden = max(1, self.masking.most_hidden(inputs.shape[1]))
            num_visible = inputs.shape[1] - self.masking.least_hidden(inputs.shape[1])
        else:
            masked = masked if valid is None else masked & valid
            num_hidden, num_visible = _most_true(masked), _most_true(_visible(masked, valid))
        index, seen = pack(_visible(masked, valid), num_visible)
        # Where all rows hide as many, no place is empty and no key has to be kept out.
        is_full = valid is None and num_hidden + num_visible == inputs.shape[1]
        # The masking leaves something visible in every row, where a caller may hide it all.
        shown = take(embedded, index) if is_chosen else _shown(embedded, index, seen)
        encoded = last(self.encoder.hidden_states(shown, None if is_full else seen))
        hidden, filled = pack(masked, num_hidden)
        predictions = self._decode(encoded, hidden)
        losses = self.head.losses(predictions, take_inputs(inputs, hidden), hidden, filled)
        losses = torch.where(filled, losses, 0)
        return Reconstruction(
            loss_sum=losses.sum(),
            count=filled.sum(),
            masked=masked,
            listed=predictions,
            filled=filled,
            hidden=hidden,
            losses=losses,
        )

    @torch.no_grad()
    def mask(self, embedded: Tensor, valid: Tensor | None, draws: Draws, progress: float) -> Tensor:
        """Choose what to hide, without gradient and in full precision.

        Args:
            embedded: `(B, N, E)`.
            valid: `(B, N)` bool; `None` when all inputs are real.
            draws: The rows' random numbers.
            progress: How far training has come, in [0, 1].

        Returns:
            `masked`, `(B, N)` bool.
        """
        with torch.autocast(embedded.device.type, enabled=False):
            # What the weights are kept in: float32, unless the whole model is something else.
            exact = embedded.to(self.encoder.first.query.weight.dtype)
            attention = FirstAttention(self.encoder, exact, valid)
            return self.masking(valid, draws, attention=attention, progress=progress)

    def _decode(self, encoded: Encoded, hidden: Tensor) -> Tensor:
        """Predict the inputs at `hidden` `(B, k)`: `(B, k, V or K)`."""
        decoded = self.decoder(encoded, hidden, self.embedding.positions)
        content = self.embedding.content
        tied = content.weight if isinstance(content, TokenContent) else None
        return self.head.predict(decoded, hidden, tied)


def _require_inputs(inputs: Tensor, config: InputConfig) -> None:
    """Refuse inputs of another shape or type than the model's; looks at no value."""
    if config.kind == "bytes":
        fits = inputs.dim() == 2 and inputs.dtype == torch.int64
        expected = "(rows, inputs) int64"
    else:
        fits = inputs.dim() == 3 and inputs.shape[2] == config.channels
        fits = fits and inputs.is_floating_point()
        expected = f"(rows, inputs, {config.channels}) float32"
    if not fits:
        raise DataError(
            f"the inputs are {_worded(inputs)}; expected {expected} for {config.kind}, as "
            "`Dataset.batch` makes them"
        )
    if any(config.categories) and inputs.shape[1] != config.length:
        raise DataError(
            f"a row has {inputs.shape[1]} cells and the table {config.length} columns; expected a "
            "cell for each, as `Dataset.batch` makes them"
        )
    if not inputs.shape[1]:
        raise DataError(
            f"the inputs are {_worded(inputs)}, rows without a place; expected one place at least, "
            "also for a row without inputs, with `valid` False there"
        )
    if inputs.shape[1] > config.length:
        raise DataError(
            f"a row has {inputs.shape[1]} inputs and the model takes at most "
            f"{config.length}; cut or split long rows, or raise input.length"
        )


def _require_flags(name: str, flags: Tensor, inputs: Tensor) -> None:
    """Refuse flags that are not one bool for each input."""
    if flags.dtype != torch.bool or flags.shape != inputs.shape[:2]:
        raise DataError(
            f"{name} is {_worded(flags)} beside inputs {_worded(inputs)}; expected one bool for "
            "each input, (rows, inputs)"
        )


def _worded(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _visible(masked: Tensor, valid: Tensor | None) -> Tensor:
    return ~masked if valid is None else valid & ~masked


def _most_true(flags: Tensor) -> int:
    """Count the True entries of the fullest row, 1 at least; waits for the values."""
    return max(1, int(flags.sum(1).max())) if len(flags) else 1


def _shown(embedded: Tensor, index: Tensor, seen: Tensor) -> Tensor:
    """Take visible inputs; of a row without any, whose places show its first one, nothing."""
    return take(embedded, index).masked_fill(~seen[:, :, None], 0)


def take_inputs(inputs: Tensor, index: Tensor) -> Tensor:
    """Pick inputs of each row, `(B, k)` or `(B, k, K)`, at positions `index` `(B, k)`."""
    return inputs.gather(1, index) if inputs.dim() == 2 else take(inputs, index)
