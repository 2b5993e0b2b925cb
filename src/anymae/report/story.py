"""Masks of several models over the same pictures, side by side.

Shapes: B pictures, H x W pixels, N = H * W inputs.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from anymae.data.dataset import Dataset
from anymae.data.preparation import Preparation
from anymae.model import MaskedAutoencoder
from anymae.report.examples import Example, co_masking, reconstruct
from anymae.report.figures import as_image, seen_and_filled, strips, unit_rgb
from anymae.report.page import Block
from anymae.report.rows import pictures
from anymae.report.runs import loss_blocks
from anymae.training.log import Entry

SHOWN = 10
"""Pictures that are drawn."""

ASKED = 6
"""Pixels for which it is drawn what is hidden with them."""


def masks_picture(
    models: Mapping[str, MaskedAutoencoder], datasets: Mapping[str, Dataset]
) -> bytes:
    """Draw pictures, and for each model what it sees of them and what it makes of that: a PNG."""
    rows: dict[str, npt.NDArray[np.float64]] = {}
    for name, model in models.items():
        examples = _examples(model, datasets[name], SHOWN)
        shown = pictures(examples, model.config.input, _preparation(model))
        rows.setdefault("digits", unit_rgb(shown[0], shown[0]))
        seen, filled = seen_and_filled(*shown)
        rows |= {f"{name}: seen": seen, f"{name}: filled in": filled}
    return strips(rows)


def story_blocks(
    models: Mapping[str, MaskedAutoencoder],
    datasets: Mapping[str, Dataset],
    picture: bytes,
    logs: dict[str, list[Entry]],
) -> list[Block]:
    """Show masks and reconstructions, what is hidden together, and the losses.

    Args:
        models: By name.
        datasets: The same pictures as each model's inputs.
        picture: From `masks_picture`.
        logs: Metrics of each model's run.
    """
    together = {
        name: co_masking(_examples(model, datasets[name], len(datasets[name])))
        for name, model in models.items()
    }
    grid = next(iter(models.values())).config.input.grid
    assert grid is not None
    asked = _spread(grid)
    maps = {
        f"{name} masks": np.stack([_around_zero(of[place].reshape(grid)) for place in asked])
        for name, of in together.items()
    }
    for pictures_of in maps.values():
        for number, place in enumerate(asked):
            pictures_of[number, place // grid[1], place % grid[1]] = 0.0
    return [
        Block(
            title="What is hidden, and what becomes of it",
            html=as_image(picture, "digits with hidden pixels and reconstructions"),
            note="Blue pixels were hidden. The digits were not in pretraining.",
        ),
        Block(
            title="What is hidden together",
            html=as_image(strips(maps), "pixels that are hidden together"),
            note="When the black pixel is hidden, red ones are hidden more often than usual, blue "
            "ones less often.",
        ),
        *loss_blocks(logs),
    ]


def _examples(model: MaskedAutoencoder, dataset: Dataset, count: int) -> list[Example]:
    return reconstruct(model, dataset.batch(np.arange(count)))


def _preparation(model: MaskedAutoencoder) -> Preparation | None:
    return None if model.data is None else Preparation.from_json(model.data)


def _spread(grid: tuple[int, int]) -> list[int]:
    """Choose places along the diagonal band of a picture."""
    rows = np.linspace(1, grid[0] - 2, ASKED).round().astype(int)
    columns = np.linspace(2, grid[1] - 3, ASKED).round().astype(int)
    return [int(row * grid[1] + column) for row, column in zip(rows, columns, strict=True)]


def _around_zero(values: npt.NDArray[np.float64], most: float = 0.5) -> npt.NDArray[np.float64]:
    """Colour numbers: white is 0, red more, blue less."""
    from matplotlib import colormaps

    colours: npt.NDArray[np.float64] = colormaps["RdBu_r"](values / (2 * most) + 0.5)[..., :3]
    return colours
