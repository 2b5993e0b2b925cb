"""Pictures as pixels or square patches, in raster order.

Shapes: B rows, H x W pixels of C colours, p side of a patch, N = H/p * W/p inputs, K = p * p * C.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anymae.config import DataConfig, InputConfig
from anymae.data.batch import Arrays, IntArray
from anymae.data.frame import Frame
from anymae.data.kinds.base import FAR, KINDS, BadRows, Stack, Statistics, sample
from anymae.data.roles import Roles
from anymae.errors import DataError

FIT_ROWS = 10_000
"""Pictures that mean and spread are taken from at most."""

_SUMMED = 1 << 23
"""Numbers that are summed together: all of 10,000 pictures of 28 x 28 pixels."""


@KINDS.register("image")
class ImageRows:
    """Pictures of one size."""

    lengths = None
    notes: tuple[str, ...] = ()

    def __init__(self, frame: Frame, roles: Roles, config: DataConfig) -> None:
        self._pictures = Stack(
            [pixels if pixels.ndim == 4 else pixels[..., None] for pixels in frame.arrays()]
        )
        height, width = self._pictures.shape[1:3]
        self.patch = config.patch
        if height % self.patch or width % self.patch:
            raise DataError(
                f"pictures of {height} x {width} pixels cannot be cut into patches of side "
                f"{self.patch}; choose a data.patch that divides both"
            )
        self.grid = height // self.patch, width // self.patch
        self.longest = self.grid[0] * self.grid[1]
        self.bad = self._scan()

    def _scan(self) -> tuple[BadRows, ...]:
        if not np.issubdtype(self._pictures.dtype, np.floating):
            return ()
        pixels = int(np.prod(self._pictures.shape[1:]))
        size, every = max(1, (1 << 22) // max(1, pixels)), np.arange(len(self._pictures))
        pieces = (every[first : first + size] for first in range(0, len(every), size))
        bad = [piece[~np.isfinite(self._pictures.take(piece)).all((1, 2, 3))] for piece in pieces]
        rows = np.concatenate([*bad, np.zeros(0, np.int64)])
        return (BadRows("has a pixel that is no finite number", rows),) if len(rows) else ()

    def fit(self, rows: IntArray) -> Statistics:
        """Learn mean and standard deviation of each colour, from at most 10,000 pictures."""
        rows, (height, width, colours) = sample(rows, FIT_ROWS), self._pictures.shape[1:]
        size, count = max(1, _SUMMED // (height * width * colours)), len(rows) * height * width

        def flat() -> Iterator[npt.NDArray[Any]]:
            for first in range(0, len(rows), size):
                yield self._pictures.take(rows[first : first + size]).reshape(-1, colours)

        # `std` over all of them would hold them in float64.
        mean = np.sum([piece.sum(0, dtype=np.float64) for piece in flat()], 0) / count
        squares = np.sum([np.square(piece - mean).sum(0) for piece in flat()], 0)
        std = np.sqrt(squares / count)
        return {
            "mean": mean.tolist(),
            "std": np.where(std > 0, std, 1.0).tolist(),
            "patch": self.patch,
            "grid": list(self.grid),
        }

    def differences(self, statistics: Statistics) -> list[str]:
        """Tell if the pictures have another size or number of colours."""
        found = []
        if list(self.grid) != statistics["grid"] or self.patch != statistics["patch"]:
            size, side = self._size(self.grid, self.patch), self.patch
            expected = self._size(statistics["grid"], statistics["patch"])
            found.append(
                f"pictures have {size} pixels in patches of side {side}, "
                f"not {expected} in patches of side {statistics['patch']}"
            )
        if self._pictures.shape[3] != len(statistics["mean"]):
            colours, expected_colours = self._pictures.shape[3], len(statistics["mean"])
            found.append(f"pictures have {colours} colours, not {expected_colours}")
        return found

    @staticmethod
    def _size(grid: Sequence[int], patch: int) -> str:
        return f"{grid[0] * patch} x {grid[1] * patch}"

    def reader(self, statistics: Statistics) -> "ImageReader":
        """Return what reads batches with `statistics`."""
        return ImageReader(self._pictures, statistics)

    @staticmethod
    def restore(statistics: Statistics, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return pictures `(B, H, W, C)` in the pixels' own units."""
        (down, across), side = statistics["grid"], statistics["patch"]
        patches = inputs.reshape(len(inputs), down, across, side, side, -1)
        pictures = patches.transpose(0, 1, 3, 2, 4, 5)
        pictures = pictures.reshape(len(inputs), down * side, across * side, -1)
        restored: npt.NDArray[np.float64] = pictures * np.asarray(statistics["std"])
        restored += np.asarray(statistics["mean"])
        return restored


class ImageReader:
    """Reads batches of standardised patches."""

    unseen: tuple[str, ...] = ()

    def __init__(self, pictures: Stack, statistics: Statistics) -> None:
        self._pictures = pictures
        self._grid, self._patch = tuple(statistics["grid"]), statistics["patch"]
        # Floats of 32 bits hold the usual pixels, and of others, far from 0, not their differences.
        usual = pictures.dtype.kind in "bui" and pictures.dtype.itemsize <= 2
        self._kind: np.dtype[np.floating[Any]] = np.dtype("float32" if usual else "float64")
        self._mean = np.asarray(statistics["mean"], self._kind)
        self._std = np.asarray(statistics["std"], self._kind)

    def input(self, length: int) -> InputConfig:
        """Describe the inputs for the model."""
        channels = self._patch**2 * len(self._mean)
        return InputConfig(
            kind="image", length=length, channels=channels, patch=self._patch, grid=self._grid
        )

    def read(self, rows: IntArray, first: IntArray, width: int) -> Arrays:
        """Return `(B, N, K)`; pictures are read whole, so `first` and `width` say nothing."""
        scaled = (self._pictures.take(rows).astype(self._kind) - self._mean) / self._std
        pixels: npt.NDArray[np.float32] = np.clip(scaled, -FAR, FAR).astype(np.float32)
        down, across = self._grid
        side, colours = self._patch, len(self._mean)
        cut = pixels.reshape(len(rows), down, side, across, side, colours)
        cut = cut.transpose(0, 1, 3, 2, 4, 5).reshape(len(rows), down * across, side**2 * colours)
        return Arrays(np.ascontiguousarray(cut), None)
