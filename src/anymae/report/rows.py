"""Examples as text for a terminal and as HTML: characters, cells, numbers, pixels.

Values are shown in the user's units, which the preparation of the data knows.
"""

import itertools
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anymae.config import NUM_SPECIAL, SEP
from anymae.data.preparation import Preparation
from anymae.report.examples import Example
from anymae.report.figures import as_image, picture_grid, series_grid

HIDDEN = "░"
"""Stands for what was hidden, in text."""

_SHADES = " .:-=+*#%@"
_WIDTH = 80
_END = "¶"


class Piece(NamedTuple):
    """One character of a string, or one cell of a row."""

    name: str
    """Column of a cell, place of a number; empty for characters."""
    text: str
    hidden: bool
    guess: str
    """What the model made of it; the text itself where it was visible."""
    right: bool
    """True where that is the input itself: one text may stand for several."""


def as_text(examples: Sequence[Example], preparation: Preparation, *, guesses: bool = True) -> str:
    """Show examples in a terminal: the row, what was hidden, what the model made of it.

    Args:
        examples: Rows.
        preparation: Turns them back into the user's units.
        guesses: False leaves out what the model made of it.
    """
    parts = []
    for example in examples:
        head = f"row {example.row}: {example.masked.sum()} of {example.valid.sum()} inputs hidden"
        parts.append(f"{head}, loss {example.loss:.3f}" if guesses else head)
        match preparation.kind:
            case "bytes":
                parts += _lines_of(characters(example), guesses)
            case "image":
                parts += _shaded(example, preparation, guesses)
            case _:
                parts += [
                    f"  {piece.name:>16}  {piece.text:>12}"
                    + (f"  {HIDDEN}" if piece.hidden else "")
                    + (f" {piece.guess:>12}" if piece.hidden and guesses else "")
                    for piece in cells(example, preparation)
                ]
        parts.append("")
    return "\n".join(parts)


def as_html(examples: Sequence[Example], preparation: Preparation) -> str:
    """Show examples on a page; everything is inside the returned HTML."""
    names = "rows " + ", ".join(str(example.row) for example in examples)
    match preparation.kind:
        case "bytes":
            return "\n".join(_html_characters(example) for example in examples)
        case "table":
            return "\n".join(_html_cells(example, preparation) for example in examples)
        case "image":
            numbers = [f"row {example.row}" for example in examples]
            picture = picture_grid(*pictures(examples, preparation), numbers)
            return as_image(picture, f"pictures, what was hidden of them, and the guesses: {names}")
    return as_image(series_grid(examples), f"numbers, hidden ones and the guesses: {names}")


def characters(example: Example) -> list[Piece]:
    """Cut a row of tokens into characters; one is hidden where any of its bytes is."""
    tokens = example.inputs[example.valid]
    # UTF-8 continues with bytes 10xxxxxx.
    begins = (tokens < NUM_SPECIAL + 0x80) | (tokens >= NUM_SPECIAL + 0xC0)
    begins[:1] = True
    pieces = []
    for start, stop in itertools.pairwise([*np.flatnonzero(begins), len(tokens)]):
        part = slice(start, stop)
        pieces.append(
            Piece(
                name="",
                text=_decode(example.inputs[part]),
                hidden=bool(example.masked[part].any()),
                guess=_decode(example.filled[part]),
                right=bool((example.inputs[part] == example.filled[part]).all()),
            )
        )
    return pieces


def cells(example: Example, preparation: Preparation) -> list[Piece]:
    """Name each input of a row, with its value and the model's guess."""
    values, guesses = (
        _restored(array, example.valid, preparation) for array in (example.inputs, example.filled)
    )
    rights = (example.inputs == example.filled).all(-1)
    names = [str(position) for position in range(len(values))]
    if preparation.kind == "table":
        names = [_printable(column["name"]) for column in preparation.statistics["columns"]]
    return [
        Piece(name, value, bool(hidden), guess, bool(right))
        for name, value, hidden, guess, right in zip(
            names, values, example.masked, guesses, rights, strict=True
        )
    ]


def pictures(
    examples: Sequence[Example], preparation: Preparation
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], npt.NDArray[Any]]:
    """Return pictures, which of their pixels were hidden, and the reconstructions.

    Returns:
        `(B, H, W, C)`, `(B, H, W)` bool, `(B, H, W, C)`.
    """
    inputs = preparation.input
    assert inputs.grid is not None
    shown, filled = (
        preparation.restore(np.stack(arrays))
        for arrays in ([e.inputs for e in examples], [e.filled for e in examples])
    )
    masked = np.stack([example.masked for example in examples]).reshape(-1, *inputs.grid)
    hidden = masked.repeat(inputs.patch, axis=1).repeat(inputs.patch, axis=2)
    return shown, hidden, filled


def _restored(
    array: npt.NDArray[Any], valid: npt.NDArray[np.bool_], preparation: Preparation
) -> list[str]:
    """Word the inputs of one row in the user's units."""
    if preparation.kind == "table":
        known = np.where(valid[:, None], array, np.nan)
        row = preparation.restore(known[None]).to_pylist()[0]
        return [_word(value) for value in row.values()]
    return [
        ", ".join(_word(float(number)) for number in row) if real else "missing"
        for row, real in zip(preparation.restore(array[None])[0], valid, strict=True)
    ]


def _word(value: object) -> str:
    if value is None or value != value:
        return "missing"
    # A sum with 0 has no sign where nothing is left of it.
    return f"{value + 0.0:.4g}" if isinstance(value, float) else _printable(str(value))


def _printable(text: str) -> str:
    """Replace what would steer a terminal, or break a line."""
    return "".join(sign if sign.isprintable() else "�" for sign in text)


def _decode(tokens: npt.NDArray[np.int64]) -> str:
    if len(tokens) == 1 and tokens[0] == SEP:
        return _END
    raw = (tokens[tokens >= NUM_SPECIAL] - NUM_SPECIAL).astype(np.uint8)
    text = raw.tobytes().decode("utf-8", "replace")
    return _printable(text)


def _lines_of(pieces: Sequence[Piece], guesses: bool) -> Iterator[str]:
    for start in range(0, len(pieces), _WIDTH):
        line = pieces[start : start + _WIDTH]
        yield "  row      " + "".join(piece.text for piece in line)
        yield "  hidden   " + "".join(HIDDEN if piece.hidden else piece.text for piece in line)
        if guesses:
            yield "  guessed  " + "".join(piece.guess for piece in line)
    if not guesses:
        return
    hidden = [piece for piece in pieces if piece.hidden]
    right = sum(piece.right for piece in hidden)
    yield f"  {right} of {len(hidden)} hidden characters guessed right"


def _shaded(example: Example, preparation: Preparation, guesses: bool) -> Iterator[str]:
    """Draw row, mask and reconstruction side by side, the brightness as a sign."""
    picture, hidden, filled = (part[0] for part in pictures([example], preparation))
    low, high = float(picture.min()), float(picture.max())
    last = len(_SHADES) - 1
    shares = ((shown.mean(-1) - low) / max(high - low, 1e-12) for shown in (picture, filled))
    levels = ((share * last).round().clip(0, last).astype(int) for share in shares)
    true, guess = (np.array(list(_SHADES))[level] for level in levels)
    shown = [true, np.where(hidden, HIDDEN, true), *([guess] if guesses else [])]
    for lines in zip(*shown, strict=True):
        yield "  " + "   ".join("".join(line) for line in lines)


def _html_characters(example: Example) -> str:
    signs = []
    for piece in characters(example):
        text, guess = escape(piece.text), escape(piece.guess)
        if not piece.hidden:
            signs.append(text)
        elif piece.right:
            signs.append(f'<span class="right">{text}</span>')
        else:
            signs.append(f'<span class="wrong" title="guessed {guess}">{text}</span>')
    return f'<p class="row"><b>{example.row}</b> <code>{"".join(signs)}</code></p>'


def _html_cells(example: Example, preparation: Preparation) -> str:
    rows = "".join(
        f"<tr><td>{escape(piece.name)}</td><td>{escape(piece.text)}</td>"
        + (
            f'<td class="hidden">{escape(piece.guess)}</td></tr>'
            if piece.hidden
            else "<td></td></tr>"
        )
        for piece in cells(example, preparation)
    )
    head = "<tr><th>column</th><th>value</th><th>guess where hidden</th></tr>"
    return f"<h3>row {example.row}</h3><table>{head}{rows}</table>"
