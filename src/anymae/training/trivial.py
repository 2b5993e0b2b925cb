"""What a predictor that looks at nothing would lose: the bar that a model has to get under.

It knows what training rows are like on average: how often each byte occurs, the mean of each
column or position, how often each category occurs in its column.

Shapes: B rows, N inputs, V outputs of an input, K numbers an input.
"""

import torch
from torch import Tensor

from anymae.config import VOCABULARY, InputConfig
from anymae.data.batch import Batch, IntArray, valid_of
from anymae.data.dataset import Dataset
from anymae.data.sampler import by_length, spaced
from anymae.model import Reconstruction, take_inputs
from anymae.nn.heads import Head

MOST_SAMPLED = 4096
"""Training rows to which the predictor is fitted."""

BATCH_SIZE = 64


def fit_trivial(dataset: Dataset, rows: IntArray) -> Tensor:
    """Fit the predictor to a sample of the training rows at positions `rows`.

    Returns:
        `(N, V)`, as the model's head would predict each position, of every row alike.
    """
    sample = by_length(spaced(rows, MOST_SAMPLED), dataset.lengths, BATCH_SIZE)
    batches = [dataset.batch(part) for part in sample]
    return _FITS[dataset.input.kind](dataset.input, batches)


def trivial_losses(predictions: Tensor, head: Head, inputs: Tensor, made: Reconstruction) -> Tensor:
    """Return the losses of the inputs that a model had to reconstruct, `(B, k)`; 0 for filler.

    Args:
        predictions: What `fit_trivial` returns.
        head: The model's, which knows the loss.
        inputs: `(B, N)` or `(B, N, K)`.
        made: What the model was asked.
    """
    here = predictions.to(inputs.device)[made.hidden]
    losses = head.losses(here, take_inputs(inputs, made.hidden), made.hidden, made.filled)
    return torch.where(made.filled, losses, 0)


def _byte_frequencies(inputs: InputConfig, sample: list[Batch]) -> Tensor:
    counts = torch.ones(VOCABULARY)
    for batch in sample:
        real = batch.inputs if batch.valid is None else batch.inputs[batch.valid]
        counts += torch.bincount(real.flatten(), minlength=VOCABULARY)
    return (counts / counts.sum()).log().expand(inputs.length, -1)


def _means(inputs: InputConfig, sample: list[Batch]) -> Tensor:
    """Return the mean at each position, or over all where positions mean nothing: `(N, K)`."""
    total = torch.zeros(inputs.length, inputs.channels)
    counts = torch.zeros(inputs.length, 1)
    for batch in sample:
        length = batch.inputs.shape[1]
        valid = valid_of(batch)[:, :, None]
        total[:length] += torch.where(valid, batch.inputs, 0).sum(0)
        counts[:length] += valid.sum(0)
    overall = total.sum(0) / counts.sum().clamp(min=1)
    if inputs.positions == "none":
        return overall.expand(inputs.length, -1)
    return torch.where(counts > 0, total / counts.clamp(min=1), overall)


def _cells(inputs: InputConfig, sample: list[Batch]) -> Tensor:
    """Return a mean or log frequencies for each column, `(N, V)`."""
    means = _means(inputs, sample)
    most = max(1, *inputs.categories)
    predictions = torch.full((inputs.length, most), torch.finfo(torch.float32).min)
    predictions[:, :1] = means
    for column, categories in enumerate(inputs.categories):
        if not categories:
            continue
        counts = torch.ones(categories)
        for batch in sample:
            codes = batch.inputs[:, column, 0][valid_of(batch)[:, column]].long()
            counts += torch.bincount(codes, minlength=categories)
        predictions[column, :categories] = (counts / counts.sum()).log()
    return predictions


_FITS = {"bytes": _byte_frequencies, "values": _means, "image": _means, "table": _cells}
