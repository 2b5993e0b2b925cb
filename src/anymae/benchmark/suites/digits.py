"""Scikit-learn's digits: 1,797 images of 8 x 8 pixels, on every machine without a download."""

import numpy as np

from anymae.benchmark.suite import (
    SUITES,
    Budget,
    FineTuning,
    Suite,
    Task,
    by_name,
    hold_out,
    mini_budget,
)
from anymae.config import DataConfig
from anymae.data.splits import Parts

NUM_TEST, NUM_VALID = 500, 200

_RECIPE = {"preset": "tiny", "encoder": {"width": 64, "depth": 4, "num_heads": 4}}
_TRAINING = {"batch_size": 64, "learning_rate": 2e-3}
_MASKING = {"guided": {"ratio": 0.5}, "random": {"ratio": 0.5}, "block": {"ratio": 0.5}}


def _task(name: str, num_labels: int | None) -> Task:
    return Task(
        name=name, type="multiclass", metric="accuracy", baseline="pixels",
        num_classes=10, num_labels=num_labels, curve="digits",
    )  # fmt: skip


@SUITES.register("digits")
class Digits(Suite):
    """Ten classes of handwritten digits."""

    title = "Digits (scikit-learn)"
    about = (
        "1,797 images of 8 x 8 pixels, each pixel an input. 500 test images, the same for every "
        "seed; 200 for validation; the other 1,097 are pretrained on and give the labels."
    )
    files = ()
    arms = ("guided", "random", "random-again", "block", "none", "baseline", "baseline+embedding")
    tasks = by_name(_task("50", 50), _task("200", 200), _task("all", None))
    config = DataConfig(kind="image")
    budgets = {  # noqa: RUF012 - the base class declares it
        "mini": mini_budget(("50",)),
        "cpu": Budget(
            summary="0.15 M parameters, 2,000 steps of 64",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 2000}},
            masking=_MASKING,
            finetune=FineTuning(epochs=20, least_steps=200, most_steps=400),
        ),
        "long": Budget(
            summary="0.15 M parameters, 20,000 steps of 64",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 20_000}},
            masking=_MASKING,
            finetune=FineTuning(epochs=20, least_steps=200),
        ),
    }

    def _read(self, task: Task, seed: int) -> tuple[np.ndarray, np.ndarray, Parts]:
        from sklearn.datasets import load_digits

        data = load_digits()
        # 16 grey levels, stored as floats; as bytes the array is an image.
        images = data.images.astype(np.uint8)
        order = np.random.default_rng(0).permutation(len(images))
        rest = hold_out(np.sort(order[NUM_TEST:]), NUM_VALID, seed)
        return images, data.target, Parts(*rest, np.sort(order[:NUM_TEST]))
