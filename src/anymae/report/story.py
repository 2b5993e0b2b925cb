"""Masks of several models over the same pictures, side by side.

Shapes: B square pictures, N inputs, one for each pixel.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from anymae.data.dataset import Dataset
from anymae.model import MaskedAutoencoder
from anymae.report.examples import Example, reconstruct
from anymae.report.figures import as_image, seen_and_filled, strips, unit_rgb
from anymae.report.page import Block
from anymae.report.rows import pictures
from anymae.report.runs import loss_blocks
from anymae.training.log import Entry

SHOWN = 10
"""Pictures that are drawn."""


def masks_picture(
    models: Mapping[str, MaskedAutoencoder], datasets: Mapping[str, Dataset]
) -> bytes:
    """Draw pictures, and for each model what it sees of them and what it makes of that: a PNG."""
    rows: dict[str, npt.NDArray[np.float64]] = {}
    for name, model in models.items():
        examples = _examples(model, datasets[name], SHOWN)
        shown = pictures(examples, datasets[name].preparation)
        rows.setdefault("digits", unit_rgb(shown[0], shown[0]))
        seen, filled = seen_and_filled(*shown)
        rows |= {f"{name}: seen": seen, f"{name}: filled in": filled}
    return strips(rows)


def story_blocks(
    models: Mapping[str, MaskedAutoencoder],
    datasets: Mapping[str, Dataset],
    *,
    labels: npt.NDArray[np.int64],
    picture: bytes,
    logs: dict[str, list[Entry]],
) -> list[Block]:
    """Show masks and reconstructions, where masks fall, and the losses.

    Args:
        models: By name.
        datasets: The same pictures as each model's inputs.
        labels: What each picture shows, `(B,)`.
        picture: From `masks_picture`.
        logs: Metrics of each model's run.
    """
    counted = {
        name: _examples(model, datasets[name], len(datasets[name]))
        for name, model in models.items()
    }
    name = next(iter(models))
    drawn, _, _ = pictures(counted[name], datasets[name].preparation)
    return [
        Block(
            title="What is hidden, and what becomes of it",
            html=as_image(picture, "digits with hidden pixels and reconstructions"),
            note="Blue pixels were hidden. The digits were not in pretraining.",
        ),
        Block(
            title="Where masks fall",
            html=as_image(_where_masks_fall(counted, drawn, labels), "pixels hidden most often"),
            note="Mean of the digits of each class; then how often each pixel is hidden, from "
            "black, least often, to white, most often, on one scale for all masks.",
        ),
        *loss_blocks(logs),
    ]


def _where_masks_fall(
    counted: Mapping[str, list[Example]],
    drawn: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
) -> bytes:
    """Draw for each class the mean picture and how often its pixels are hidden: a PNG."""
    classes = np.unique(labels)
    often = {}
    for name, examples in counted.items():
        masked = np.stack([example.masked for example in examples]).reshape(drawn.shape[:3])
        often[name] = np.stack([masked[labels == one].mean(0) for one in classes])[..., None]
    scale = np.stack(list(often.values()))
    means = np.stack([drawn[labels == one].mean(0) for one in classes])
    rows = {"mean digit": unit_rgb(means, means)}
    return strips(rows | {f"{name} masks": unit_rgb(of, scale) for name, of in often.items()})


def _examples(model: MaskedAutoencoder, dataset: Dataset, count: int) -> list[Example]:
    return reconstruct(model, dataset.batch(np.arange(count)))
