"""Rows that occur twice, exactly or nearly, in one data set or in two.

Rows are equal where all their inputs are. Strings are nearly equal where the sets of their 5-byte
pieces share at least 80 % (Jaccard index). Candidates come from MinHash signatures in bands
(Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3) and each is
checked exactly: none is wrong, and of the pairs at the threshold 1.5 % are overlooked.

Shapes: R rows, N inputs, P pairs.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from anymae.config import NUM_SPECIAL, Section
from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.data.kinds.base import pieces, sample
from anymae.randomness import mix

THRESHOLD = 0.8
PIECE = 5
BANDS, BAND_SIZE = 8, 4

MOST_IN_BUCKET = 256
"""Rows with the same band that one row is compared with at most."""

MOST_BYTES = 5_000_000
"""Bytes of the rows compared for near duplicates at most; beyond, a sample is."""

_BLOCK_INPUTS = 1 << 21
_FACTORS = mix(torch.arange(1, 1 + BANDS * BAND_SIZE)).numpy().astype(np.uint64) | np.uint64(1)


Pairs = tuple[IntArray, IntArray]
"""Rows that are alike, `(P,)` each."""


class Repeats(Section):
    """How many rows of a data set repeat others: earlier ones, or those of another data set."""

    exact: int
    """Rows equal to one of the others."""
    near: int | None
    """Of the rows compared, those nearly equal, but not equal, to one of the others; `None` where
    inputs are no strings."""
    threshold: float = THRESHOLD
    """Share of their 5-byte pieces that near duplicates have in common at least."""
    compared: int
    """Rows that were compared for near duplicates: all, or an evenly spread sample."""


def find_duplicates(dataset: Dataset) -> Repeats:
    """Count the rows that repeat an earlier one, exactly or nearly.

    Returns:
        The counts; long data sets are compared nearly on a sample, whose size is told.
    """
    hashes = row_hashes(dataset, np.arange(len(dataset)))
    exact = len(hashes) - len(np.unique(hashes))
    if dataset.input.kind != "bytes":
        return Repeats(exact=exact, near=None, compared=0)
    compared = _sample(dataset)
    # Each distinct string once: what is left are near duplicates alone.
    rows = compared[np.sort(np.unique(hashes[compared], return_index=True)[1])]
    labels = _clusters(len(dataset), [_near_pairs(dataset, rows)])
    near = len(rows) - len(np.unique(labels[rows]))
    return Repeats(exact=exact, near=near, compared=len(compared))


def duplicate_groups(dataset: Dataset) -> IntArray:
    """Number rows so that exact and near duplicates, and theirs, have the same number.

    Returns:
        `(rows,)`, the first row of each group: usable as a group column, so that no near copy of a
        training row is tested on.
    """
    everything = np.arange(len(dataset))
    hashes = row_hashes(dataset, everything)
    first, back = np.unique(hashes, return_index=True, return_inverse=True)[1:]
    pairs = [(first[back], everything)]
    if dataset.input.kind == "bytes":
        pairs.append(_near_pairs(dataset, np.sort(first)))
    return _clusters(len(dataset), pairs)


def shared_rows(dataset: Dataset, other: Dataset) -> Repeats:
    """Count the rows of a data set that also occur in another.

    Args:
        dataset: Its rows are counted.
        other: Opened with the preparation of `dataset`, so that inputs can be compared.

    Returns:
        The counts.
    """
    mine = row_hashes(dataset, np.arange(len(dataset)))
    theirs = row_hashes(other, np.arange(len(other)))
    equal = np.isin(mine, theirs)
    if dataset.input.kind != "bytes":
        return Repeats(exact=int(equal.sum()), near=None, compared=0)
    compared = _sample(dataset)
    rows = compared[~equal[compared]]
    keys, other_keys = _band_keys(dataset, rows), _band_keys(other, np.arange(len(other)))
    found = np.zeros(len(dataset), np.bool_)
    for band in range(BANDS):
        order = np.argsort(other_keys[band], kind="stable")
        place, stop = (
            np.searchsorted(other_keys[band][order], keys[band], side=side)
            for side in ("left", "right")
        )
        for _ in range(MOST_IN_BUCKET):
            open_ = np.flatnonzero((place < stop) & ~found[rows])
            if not len(open_):
                break
            alike = _similarity(dataset, rows[open_], other, order[place[open_]]) >= THRESHOLD
            found[rows[open_[alike]]] = True
            place[open_] += 1
    return Repeats(exact=int(equal.sum()), near=int(found.sum()), compared=len(compared))


def row_hashes(dataset: Dataset, index: IntArray) -> IntArray:
    """Return a 64-bit hash of all inputs of each row, `(R,)`; equal rows have equal ones.

    Different rows of 10 million share a hash with a chance of about 3 in a million.
    """
    hashes = np.zeros(len(index), np.int64)
    for places in row_blocks(dataset, index):
        inputs, valid = dataset.whole(index[places])
        words = inputs.reshape(len(places), -1)
        if words.dtype == np.float32:
            # The sum with 0 makes -0.0 the 0.0 that it equals.
            words = (words + np.float32(0)).view(np.int32).astype(np.int64) + 1
            if valid is not None:
                words *= np.repeat(valid, words.shape[1] // valid.shape[1], axis=1)
        scrambled = mix(torch.from_numpy(words.astype(np.int64)))
        weights = mix(torch.arange(1, words.shape[1] + 1)) | 1
        hashes[places] = (scrambled * weights).sum(1).numpy()
    return hashes


def row_blocks(dataset: Dataset, index: IntArray) -> Iterator[IntArray]:
    """Cut positions of `index` into blocks of rows of similar length and bounded size."""
    lengths = None if dataset.full_lengths is None else dataset.full_lengths[index]
    most = _BLOCK_INPUTS // dataset.input.channels
    for places, _ in pieces(np.arange(len(index)), lengths, dataset.longest, most):
        yield places


def _sample(dataset: Dataset) -> IntArray:
    """Return all rows, or evenly spread ones of about `MOST_BYTES` bytes together."""
    lengths = dataset.full_lengths
    assert lengths is not None, "strings differ in length"
    total = int(lengths.sum(dtype=np.int64))
    count = min(len(dataset), max(1, len(dataset) * MOST_BYTES // max(1, total)))
    return sample(np.arange(len(dataset)), count)


def _pieces(dataset: Dataset, index: IntArray) -> IntArray:
    """Return the scrambled 5-byte pieces of strings, `(R, N)`.

    A string of fewer bytes is one piece; behind the end of a string its first piece is repeated.
    """
    tokens = dataset.whole(index).inputs.astype(np.int64)
    tokens[tokens < NUM_SPECIAL] = 0
    lengths = (tokens > 0).sum(1)
    width = max(1, tokens.shape[1] - PIECE + 1)
    codes = np.zeros((len(index), width), np.int64)
    for offset in range(min(PIECE, tokens.shape[1])):
        # A token takes nine bits, five of them make a number of their own.
        codes |= tokens[:, offset : offset + width] << (9 * offset)
    real = np.arange(width) < np.maximum(lengths - PIECE + 1, 1)[:, None]
    return mix(torch.from_numpy(np.where(real, codes, codes[:, :1]))).numpy()


def _band_keys(dataset: Dataset, index: IntArray) -> npt.NDArray[np.uint64]:
    """Return what rows must share in one band at least to be compared, `(BANDS, R)`."""
    keys = np.zeros((BANDS, len(index)), np.uint64)
    for places in row_blocks(dataset, index):
        words = _pieces(dataset, index[places]).view(np.uint64)
        for number, factor in enumerate(_FACTORS):
            least = (words * factor).min(1)
            band = number // BAND_SIZE
            keys[band, places] = (keys[band, places] ^ least) * _FACTORS[0]
    return keys


def _near_pairs(dataset: Dataset, rows: IntArray) -> Pairs:
    """Return pairs of rows that are nearly equal; each row meets its neighbours in every band."""
    found = []
    for keys in _band_keys(dataset, rows):
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
        begins = np.maximum.accumulate(np.where(np.append(True, ~same), np.arange(len(order)), 0))
        later = np.flatnonzero(same) + 1
        found += [np.stack([order[later - 1], order[later]])]
        found += [np.stack([order[begins[later]], order[later]])]
    pairs = np.unique(np.sort(np.concatenate(found, axis=1), axis=0), axis=1)
    one, other = rows[pairs[0]], rows[pairs[1]]
    alike = _similarity(dataset, one, dataset, other) >= THRESHOLD
    return one[alike], other[alike]


def _similarity(
    dataset: Dataset, one: IntArray, others: Dataset, other: IntArray
) -> npt.NDArray[np.float64]:
    """Return the Jaccard index of the pieces of each pair of rows, `(P,)`."""
    found = np.zeros(len(one))
    for places in row_blocks(dataset, one):
        mine, theirs = _pieces(dataset, one[places]), _pieces(others, other[places])
        union = _num_distinct(np.concatenate([mine, theirs], axis=1))
        found[places] = (_num_distinct(mine) + _num_distinct(theirs)) / union - 1
    return found


def _num_distinct(codes: IntArray) -> IntArray:
    ordered = np.sort(codes, axis=1)
    steps: IntArray = np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1)
    return steps + 1


def _clusters(count: int, pairs: list[Pairs]) -> IntArray:
    """Return the least row connected to each row, `(R,)`."""
    # A quarter of a second that `inspect` needs for groups alone.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(count, count))
    number = connected_components(graph, directed=False)[1]
    least: IntArray = np.unique(number, return_index=True)[1][number]
    return least
