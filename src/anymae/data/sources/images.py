"""Folders of images of one size, read by pillow."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from anymae.data.cache import Sink
from anymae.data.frame import VALUES
from anymae.data.sources.base import SOURCES, CachedSource, Files
from anymae.errors import DataError, first_line

_BLOCK = 256
_GREY = ("1", "L", "LA")


@SOURCES.register("images")
class ImageSource(CachedSource):
    """A folder of PNG or JPEG files, each a row of 8-bit pixels.

    Grey if all of them are, else red, green, blue. The file's name is column `id`, the subfolder
    that it lies in column `label`.
    """

    extensions = (".png", ".jpg", ".jpeg")
    format = "images"
    unit = "image"
    named_by = "id"

    def settings(self, files: Files) -> dict[str, Any]:
        """Return the names of the images, which become cells."""
        return {"labels": list(files.labels)}

    def fill(self, files: Files, sink: Sink) -> None:
        """Copy the pixels."""
        names = files.labels
        size, mode, broken = _survey(files)
        sink.shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
        kind = pa.list_(pa.uint8(), int(np.prod(sink.shape)))
        nested = any(Path(name).parent.name for name in names)
        for start in range(0, len(names), _BLOCK):
            block = names[start : start + _BLOCK]
            rows, bad = [], {}
            for place in range(len(block)):
                pixels = broken.get(start + place) or _pixels(files.paths[start + place], mode)
                if isinstance(pixels, str):
                    bad[place] = pixels
                rows.append(None if isinstance(pixels, str) else pixels.reshape(-1))
            columns = {"id": pa.array(block, pa.large_string()), VALUES: pa.array(rows, kind)}
            if nested:
                folders = [Path(name).parent.name or None for name in block]
                columns["label"] = pa.array(folders, pa.large_string())
            sink.add(pa.table(columns), bad=bad)


def _survey(files: Files) -> tuple[tuple[int, int], str, dict[int, str]]:
    """Read the headers: the size that all have, the mode that fits all, the unreadable ones."""
    size: tuple[int, int] | None = None
    mode, broken = "L", {}
    for number, (path, name) in enumerate(files):
        try:
            with Image.open(path) as picture:
                found, kind = picture.size, picture.mode
        except Exception as error:  # pillow's readers raise all sorts of things
            broken[number] = f"cannot be read ({first_line(error)})"
            continue
        if kind.startswith(("I", "F")):
            raise DataError(f"{name} has more than 8 bits per pixel; convert it, or stack a .npy")
        if size is not None and found != size:
            raise DataError(
                f"{name} has {found[0]} x {found[1]} pixels, the images before it "
                f"{size[0]} x {size[1]}; resize them to one size"
            )
        size = found
        mode = mode if kind in _GREY else "RGB"
    if size is None:
        raise DataError(f"{files.name}: none of {len(files.paths)} images can be read")
    return size, mode, broken


def _pixels(path: Path, mode: str) -> npt.NDArray[np.uint8] | str:
    """Return the pixels of an image, or what is wrong with it."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert(mode))
    except Exception as error:  # pillow's readers raise all sorts of things
        return f"cannot be read ({first_line(error)})"
