"""Counter-based randomness: a draw is a function of what it is for, not of what was drawn before.

The mask and the crop of a row depend on (seed, purpose, epoch, row, input) alone, hence not on
the batch, padding, accumulation, workers or processes, and no random state has to be stored. The
mixing function is SplitMix64's finalizer (Steele, Lea, Flood 2014), on wrapping int64.

Shapes: B rows, N inputs.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FACTOR_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_FACTOR_2 = 0x94D049BB133111EB - (1 << 64)


class Purpose(IntEnum):
    """What a draw decides; different purposes of one row are independent."""

    QUERY = 1
    HEAD = 2
    TIE = 3
    FILL = 4
    HIDE = 5
    SPAN = 6
    BLOCK = 7
    CROP = 8
    ORDER = 9
    SPLIT = 10
    DROP = 11
    RATIO = 12
    RACE = 13
    COSINE = 14


def mix(values: Tensor) -> Tensor:
    """Scramble int64 values so that near inputs give unrelated outputs.

    Returns:
        int64 of the same shape; a bijection.
    """
    # Each result is new, so that what follows can overwrite it.
    values = (values ^ _shift(values, 30)).mul_(_FACTOR_1)
    values = (values ^ _shift(values, 27)).mul_(_FACTOR_2)
    return values.bitwise_xor_(_shift(values, 31))


def row_keys(rows: Tensor, *, seed: int, epoch: int | Tensor = 0) -> Tensor:
    """Make the key from which everything random about a row follows.

    Args:
        rows: Row numbers of the data set, `(B,)` int64.
        seed: The run's seed.
        epoch: Pass over the data, a number or `(B,)` int64.

    Returns:
        `(B,)` int64.

    >>> keys = row_keys(torch.tensor([4, 9]), seed=0, epoch=2)
    >>> bool(keys[1] == row_keys(torch.tensor([9]), seed=0, epoch=2)[0])
    True
    """
    key = mix(torch.tensor(_wrap(seed + _GOLDEN), device=rows.device))
    key = mix(key + _GOLDEN * (torch.as_tensor(epoch, device=rows.device) + 1))
    return mix(key + _GOLDEN * (rows + 1))


class Draws(NamedTuple):
    """Random numbers of each row, by purpose and index.

    >>> draws = Draws(row_keys(torch.arange(2), seed=0))
    >>> draws.bits(Purpose.HIDE, 5).shape
    torch.Size([2, 5])
    """

    keys: Tensor
    """`(B,)` int64, from `row_keys` or at random."""

    def bits(self, purpose: Purpose, count: int) -> Tensor:
        """Return `(B, count)` int64, uniform in [0, 2**31); column i depends on (key, i) alone."""
        return self.bits_for((purpose,), count)[0]

    def bits_for(self, purposes: Sequence[Purpose], count: int) -> tuple[Tensor, ...]:
        """Return `bits` of several purposes, computed together: small batches cost calls."""
        starts = torch.stack([self._start(purpose) for purpose in purposes], 1)
        return _numbers(starts, torch.arange(count, device=self.keys.device)).unbind(1)

    def bits_at(self, purpose: Purpose, columns: Tensor) -> Tensor:
        """Return the columns of `bits` that `columns`, `(count,)` or `(B, count)`, numbers."""
        return _numbers(self._start(purpose), columns)

    def uniform(self, purpose: Purpose, count: int) -> Tensor:
        """Return `(B, count)` float32, uniform in (0, 1)."""
        return (_shift(self.bits(purpose, count), 8) + 0.5) * 2.0**-23

    def below(self, purpose: Purpose, count: int, bound: int) -> Tensor:
        """Return `(B, count)` int64, uniform in [0, bound)."""
        return self.below_at(purpose, torch.arange(count, device=self.keys.device), bound)

    def below_at(self, purpose: Purpose, columns: Tensor, bound: int) -> Tensor:
        """Return the columns of `below` that `columns`, `(count,)` or `(B, count)`, numbers."""
        return (self.bits_at(purpose, columns) * bound) >> 31

    def _start(self, purpose: Purpose) -> Tensor:
        """Return where the numbers of a purpose start, `(B,)`, not yet mixed."""
        return self.keys ^ _wrap(_GOLDEN * int(purpose))


def fresh_draws(count: int, *, device: torch.device, generator: torch.Generator | None) -> Draws:
    """Draw keys for `count` rows from `generator`, or from torch's global one."""
    where = generator.device if generator is not None else device
    keys = torch.randint(-(2**62), 2**62, (count,), generator=generator, device=where)
    return Draws(keys.to(device))


def _numbers(starts: Tensor, columns: Tensor) -> Tensor:
    """Return int64 in [0, 2**31) for starts `(B,)` or `(B, P)`, along a last dimension."""
    return _shift(mix(mix(starts)[..., None] + _GOLDEN * (columns + 1)), 33)


def _shift(values: Tensor, by: int) -> Tensor:
    """Shift right, filling with zeros (int64's own shift repeats the sign)."""
    return (values >> by).bitwise_and_((1 << (64 - by)) - 1)


def _wrap(value: int) -> int:
    """Bring a Python integer into int64's range, as its wrapping arithmetic would."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
