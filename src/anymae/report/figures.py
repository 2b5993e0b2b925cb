"""Figures as PNG, made without a display and without pyplot's global state.

Shapes: B examples, H x W pixels of C colours, N inputs, K numbers an input.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anymae.report.examples import Example

_HIDDEN = (0.36, 0.55, 0.94)
"""Colour of what was hidden: blue is in no grey picture."""

MOST_DRAWN = 3
"""Numbers of an input that are drawn."""


def as_image(png: bytes, text: str) -> str:
    """Return an HTML image that holds the PNG itself.

    Args:
        png: The picture.
        text: What it shows, for those who cannot see it.
    """
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'


def picture_grid(
    pictures: npt.NDArray[Any],
    hidden: npt.NDArray[np.bool_],
    filled: npt.NDArray[Any],
    names: Sequence[str],
) -> bytes:
    """Draw pictures in three rows: as they are, as the model sees them, as it fills them in.

    Args:
        pictures: `(B, H, W, C)`.
        hidden: `(B, H, W)`, True where a pixel was hidden.
        filled: `(B, H, W, C)`.
        names: What stands above each picture, `(B,)`.
    """
    seen, guessed = seen_and_filled(pictures, hidden, filled)
    shown = unit_rgb(pictures, pictures)
    rows = {"as it is": shown, "as the model sees it": seen, "as it fills it in": guessed}
    return strips(rows, names)


def seen_and_filled(
    pictures: npt.NDArray[Any], hidden: npt.NDArray[np.bool_], filled: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what a model sees, hidden pixels in blue, and what it makes of it: `(B, H, W, 3)`."""
    seen = np.where(hidden[..., None], _HIDDEN, unit_rgb(pictures, pictures))
    return seen, unit_rgb(filled, pictures)


def unit_rgb(pictures: npt.NDArray[Any], scale: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Scale pictures so that `scale` fills [0, 1], and give grey ones three colours."""
    low, high = float(scale.min()), float(scale.max())
    unit = ((pictures - low) / max(high - low, 1e-12)).clip(0, 1)
    return unit[..., :3] if unit.shape[-1] >= 3 else np.repeat(unit[..., :1], 3, axis=-1)


def strips(rows: Mapping[str, npt.NDArray[Any]], above: Sequence[str] = ()) -> bytes:
    """Draw rows of pictures `(B, H, W, 3)` in [0, 1], each row with its name.

    Args:
        rows: By name.
        above: What stands above the first row's pictures.
    """
    count = max(len(pictures) for pictures in rows.values())
    figure = Figure(figsize=(1.6 + 0.9 * count, 0.2 + 0.95 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for place, axis in enumerate(line):
            axis.set_axis_off()
            if place < len(pictures):
                axis.imshow(pictures[place], interpolation="nearest")
        line[0].text(
            -0.1, 0.5, name.replace(" ", "\n", 1), transform=line[0].transAxes,
            ha="right", va="center", fontsize=8,
        )  # fmt: skip
    for axis, text in zip(axes[0], above, strict=False):
        axis.set_title(text, fontsize=8)
    return to_png(figure)


def series_grid(examples: Sequence[Example]) -> bytes:
    """Draw rows of numbers over their place: visible ones as dots, hidden ones with the guess."""
    count = examples[0].inputs.shape[1]
    figure = Figure(figsize=(8, 1.9 * len(examples)), layout="constrained")
    for axis, example in zip(
        figure.subplots(len(examples), 1, squeeze=False)[:, 0], examples, strict=True
    ):
        seen = np.flatnonzero(example.valid & ~example.masked)
        hidden = np.flatnonzero(example.masked)
        for channel in range(min(MOST_DRAWN, count)):
            colour = f"C{channel}"
            true, guess = example.inputs[:, channel], example.filled[:, channel]
            axis.plot(seen, true[seen], ".", color=colour, markersize=4)
            axis.plot(hidden, true[hidden], "o", color=colour, markersize=4, fillstyle="none")
            axis.plot(hidden, guess[hidden], "x", color=colour, markersize=5)
        axis.set_title(f"row {example.row}", loc="left", fontsize=8)
        _plain(axis)
    some = f"; first {MOST_DRAWN} of {count} numbers" if count > MOST_DRAWN else ""
    axis.set_xlabel(f"input (dot: seen, circle: hidden, cross: guess; standardised{some})")
    return to_png(figure)


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x: str, y: str
) -> bytes:
    """Draw named lines, each of x and y values."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axis = figure.subplots()
    drawn = [axis.plot(*line, linewidth=1.3)[0] for line in lines.values()]
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    numbers = [str(number) for number in range(len(drawn))]
    legend = axis.legend(drawn, numbers, frameon=False, fontsize=8)
    # Names are the user's: what begins with "_" is left out unless it is set afterwards.
    for text, name in zip(legend.get_texts(), lines, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    _plain(axis)
    return to_png(figure)


def matrix(values: npt.NDArray[Any], names: Sequence[str], label: str) -> bytes:
    """Draw a square matrix around zero."""
    size = min(9.0, 2.5 + 0.16 * len(values))
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axis = figure.subplots()
    most = max(float(np.abs(values).max()), 1e-9)
    shown = axis.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    if len(names) <= 40:
        # Names are the user's: one with dollars is no formula.
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6, parse_math=False)
        axis.set_yticks(range(len(names)), names, fontsize=6, parse_math=False)
    figure.colorbar(shown, ax=axis, shrink=0.8).set_label(label, fontsize=8)
    return to_png(figure)


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
