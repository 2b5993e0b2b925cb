"""MNIST's 10,000 published test images, pixel by pixel."""

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

FILE = "images/mnist_t10k.npz"
NUM_TEST, NUM_VALID = 2_000, 1_000

_RECIPE = {
    "preset": "tiny",
    "encoder": {
        "kind": "perceiver", "width": 96, "depth": 4, "num_heads": 6, "num_latents": 32,
        "input_width": 32, "qk_width": 96, "read_qk_width": 96,
    },
}  # fmt: skip
_TRAINING = {"batch_size": 64, "learning_rate": 2e-3}
_MASKING = {
    "guided": {"ratio": 0.7, "inputs_per_query": 48},
    "random": {"ratio": 0.7},
    "block": {"ratio": 0.7},
}
_FINETUNE = FineTuning(epochs=5, least_steps=150, most_steps=300)


def _task(name: str, num_labels: int) -> Task:
    return Task(
        name=name, type="multiclass", metric="accuracy", baseline="pixels",
        num_classes=10, num_labels=num_labels, curve="images",
    )  # fmt: skip


@SUITES.register("images")
class Images(Suite):
    """Ten classes of handwritten digits, 784 inputs an image."""

    title = "Images (MNIST)"
    about = (
        "The 10,000 images of MNIST's published test file, the only part used: every pixel an "
        "input, a perceiver. 2,000 images are the test, the same for every seed, 1,000 validate, "
        "7,000 are pretrained on and give the labels. Numbers for the whole of MNIST cannot be "
        "compared. The paper's images are ImageNet-100."
    )
    files = (FILE,)
    arms = ("guided", "random", "block", "none", "baseline", "baseline+embedding")
    tasks = by_name(_task("100", 100), _task("1k", 1_000))
    config = DataConfig(kind="image")
    budgets = {  # noqa: RUF012 - the base class declares it
        "mini": mini_budget(("100",), kind="perceiver"),
        "cpu": Budget(
            summary="0.3 M parameters, 1,200 steps of 64 images",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 1200}},
            masking=_MASKING,
            finetune=_FINETUNE,
        ),
        "long": Budget(
            summary="0.3 M parameters, 15,000 steps of 64 images",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 15_000}},
            masking=_MASKING,
            finetune=_FINETUNE,
        ),
    }

    def _read(self, task: Task, seed: int) -> tuple[np.ndarray, np.ndarray, Parts]:
        with np.load(self.folder / FILE) as data:
            images, labels = data["images"], data["labels"]
        order = np.random.default_rng(0).permutation(len(images))
        rest = hold_out(np.sort(order[NUM_TEST:]), NUM_VALID, seed)
        return images, labels, Parts(*rest, np.sort(order[:NUM_TEST]))
