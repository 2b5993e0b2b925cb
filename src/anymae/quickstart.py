"""The whole story on real data in about three minutes: what a model hides, and what it is worth.

scikit-learn's digits (1,797 handwritten digits of 8 x 8 pixels, every pixel an input) are split
once: 1,297 to pretrain on without labels, 500 to test on. Two runs that differ in their masking
alone go side by side; then a linear classifier on frozen features is trained with few labels.

What was tuned (share hidden, steps, how features are read, the classifier's strength) was tuned by
pretraining on 997 of the 1,297 digits and looking at the other 300, with other draws of labels.
The 500 test digits were not looked at for that.

Shapes: R rows, 64 pixels, D width of the encoder.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from anymae.config import DataConfig
from anymae.data.batch import IntArray
from anymae.errors import AnymaeError, FolderError
from anymae.files import require_free, require_writable, write_bytes, write_file
from anymae.hub import load
from anymae.inference.rows import open_rows
from anymae.model import MaskedAutoencoder
from anymae.report.page import Block, write_page
from anymae.report.story import masks_picture, story_blocks
from anymae.training.log import read_metrics

STEPS = 2500
"""Optimizer steps of each run."""

LABELS = (50, 200)
"""Labels that a classifier is given."""

DRAWS = 10
"""Times that these are drawn, alike for all features."""

COMPONENTS = 64
"""Principal components that features are reduced to: as many as there are pixels."""

STRENGTH = 10.0
"""C of the logistic regression, for all features."""

ARMS = ("guided", "random")
"""The maskings of the runs, which differ in nothing else."""

_SETTINGS = (
    "masking.ratio=0.5",
    # Twice the preset's: the number of steps was tuned together with it.
    "training.learning_rate=2e-3",
    "training.keep=last",
    "training.threads=1",
)
_DIGITS = "digits.npz"
_WRITTEN = ("masks.png", "report.html", *ARMS, _DIGITS)
_SPLIT_SEED, _NUM_POOL = 12345, 1297

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Story:
    """What the quickstart found."""

    accuracies: dict[str, dict[int, tuple[float, ...]]]
    """Share of the test digits told right: by features, number of labels and draw."""
    commands: tuple[str, ...]
    """What was run, to be repeated by hand."""
    picture: Path
    page: Path
    seconds: float

    def rows(self) -> list[list[str]]:
        """Return a table: features, then mean and standard deviation for each number of labels."""
        return [
            [name, *(f"{np.mean(of[n]):.3f} ± {np.std(of[n], ddof=1):.3f}" for n in LABELS)]
            for name, of in self.accuracies.items()
        ]

    def verdicts(self) -> list[str]:
        """Compare guided masks with everything else, draw by draw."""
        found = []
        for name, of in self.accuracies.items():
            if name == "guided masks":
                continue
            parts = []
            for count in LABELS:
                gain = np.subtract(self.accuracies["guided masks"][count], of[count])
                wins = int((gain > 0).sum())
                parts.append(f"{gain.mean():+.3f} with {count} labels ({wins} of {DRAWS} draws)")
            found.append(f"guided masks against {name}: {', '.join(parts)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        paths = {"picture": str(self.picture), "page": str(self.page)}
        return asdict(self) | paths | {"seconds": round(self.seconds, 1)}


def quickstart(
    out: str | Path = "quickstart",
    *,
    steps: int = STEPS,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Story:
    """Pretrain on digits with guided and with random masks, and see what few labels are worth.

    Args:
        out: Folder for both runs, `masks.png` and `report.html`.
        steps: Optimizer steps of each run.
        seed: Of both runs.
        overwrite: Replace what an earlier quickstart left in `out`.
        progress: Told how many steps of both runs are done, and of how many.

    Returns:
        Accuracies, and where picture and page are.

    Raises:
        FolderError: `out` holds something already.
        AnymaeError: A run failed; the message is its own.
    """
    started = time.monotonic()
    out = Path(out)
    _clear(out, overwrite=overwrite)
    images, labels = _digits()
    pool, test = _split(len(images))
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / _DIGITS, lambda staged: np.savez_compressed(staged, images=images[pool]))
    commands = {name: _command(out, name, steps=steps, seed=seed) for name in ARMS}
    _run(commands, out, steps * len(ARMS), progress)
    models = {name: cast("MaskedAutoencoder", load(out / name)) for name in ARMS}
    features = {
        "guided masks": _features(models["guided"], images),
        "random masks": _features(models["random"], images),
        "no pretraining": _features(_untrained(models["guided"], seed), images),
        "raw pixels": images.reshape(len(images), -1).astype(np.float64),
    }
    story = Story(
        accuracies={
            name: few_label_accuracies(reduce(of, pool), labels, pool=pool, test=test)
            for name, of in features.items()
        },
        commands=tuple(shlex.join(["anymae", *command]) for command in commands.values()),
        picture=out / "masks.png",
        page=out / "report.html",
        seconds=0.0,
    )
    _write(story, models, images[test], labels[test])
    return replace(story, seconds=time.monotonic() - started)


def reduce(features: FloatArray, pool: IntArray) -> FloatArray:
    """Reduce features to principal components of the unlabelled rows `pool`, of unit size.

    All components are scaled alike, so that raw pixels are merely turned.

    Returns:
        `(R, COMPONENTS)`, with a mean square of 1 over `pool`.
    """
    from sklearn.decomposition import PCA

    components = PCA(COMPONENTS, random_state=0).fit(features[pool]).transform(features)
    scaled: FloatArray = components / np.sqrt(np.square(components[pool]).mean())
    return scaled


def few_label_accuracies(
    features: FloatArray, labels: IntArray, *, pool: IntArray, test: IntArray
) -> dict[int, tuple[float, ...]]:
    """Train a linear classifier with few labels, again and again.

    Args:
        features: `(R, F)`.
        labels: `(R,)`.
        pool: Rows from which labelled ones are drawn; draw number d is alike for all features.
        test: Rows to be told.

    Returns:
        For each number of labels the accuracy of each draw.
    """
    from sklearn.linear_model import LogisticRegression

    found: dict[int, tuple[float, ...]] = {}
    draws = [np.random.default_rng(draw).permutation(pool) for draw in range(DRAWS)]
    for count in LABELS:
        few = [draw[:count] for draw in draws]
        fits = (
            LogisticRegression(C=STRENGTH, max_iter=2000).fit(features[d], labels[d]) for d in few
        )
        found[count] = tuple(float(fit.score(features[test], labels[test])) for fit in fits)
    return found


def _digits() -> tuple[npt.NDArray[np.uint8], IntArray]:
    """Return pictures `(1797, 8, 8)` and which digit each is."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.int64)


def _split(count: int) -> tuple[IntArray, IntArray]:
    order = np.random.RandomState(_SPLIT_SEED).permutation(count)
    return np.sort(order[:_NUM_POOL]), np.sort(order[_NUM_POOL:])


def _clear(out: Path, *, overwrite: bool) -> None:
    """Make room, touching only what a quickstart writes, the digits last: they tell it."""
    if not overwrite or not out.is_dir() or not any(out.iterdir()):
        require_free(out)
        return
    if not (out / _DIGITS).exists():
        raise FolderError(f"{out} holds no quickstart to replace; name a new folder with --out")
    require_writable(out)
    for name in _WRITTEN:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _command(out: Path, name: str, *, steps: int, seed: int) -> list[str]:
    """Return the words of the command that pretrains one arm."""
    words = ["pretrain", str(out / _DIGITS), "--out", str(out / name), "--preset", "tiny"]
    words += ["--steps", str(steps), "--seed", str(seed), "--device", "cpu"]
    settings = (f"masking.kind={name}", *_SETTINGS)
    return words + [word for setting in settings for word in ("--set", setting)]


def _run(
    commands: Mapping[str, Sequence[str]], out: Path, total: int, progress: Progress | None
) -> None:
    """Run commands of `anymae` side by side, one thread each, and tell how far they are."""

    def tell() -> None:
        if progress is not None:
            progress(sum(_steps_done(out / name) for name in commands), total)

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    running = {}
    with ExitStack() as stack:  # which no process outlives
        for name, command in commands.items():
            log = stack.enter_context(TemporaryFile("w+"))
            process = subprocess.Popen(
                [sys.executable, "-m", "anymae", *command, "--json"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            running[name] = process, log
        is_over = False
        while not is_over:
            is_over = all(process.poll() is not None for process, _ in running.values())
            for name, (process, log) in running.items():
                if process.poll():
                    log.seek(0)
                    last = (log.read().strip() or "it said nothing").splitlines()[-1]
                    raise AnymaeError(f"pretraining with {name} masks failed: {last}")
            if not is_over:
                tell()
                time.sleep(0.5)
    tell()  # the last steps fell between two looks


def _steps_done(folder: Path) -> int:
    entries = read_metrics(folder / "metrics.jsonl")
    return int(entries[-1]["step"]) if entries else 0


def _untrained(like: MaskedAutoencoder, seed: int) -> MaskedAutoencoder:
    """Return the same network as it was before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskedAutoencoder(like.config)
    model.data = like.data
    return model.eval()


def _features(model: MaskedAutoencoder, images: npt.NDArray[np.uint8]) -> FloatArray:
    """Return the encoder's output at each pixel, side by side: `(R, 64 D)`."""
    dataset = open_rows(model, images, DataConfig())
    with torch.inference_mode():
        latents = model.encode(dataset.batch(np.arange(len(images))).inputs).latents
    return latents.flatten(1).numpy().astype(np.float64)


def _write(
    story: Story,
    models: Mapping[str, MaskedAutoencoder],
    images: npt.NDArray[np.uint8],
    labels: IntArray,
) -> None:
    """Write picture and page from test digits."""
    datasets = {name: open_rows(model, images, DataConfig()) for name, model in models.items()}
    picture = masks_picture(models, datasets)
    write_bytes(story.picture, picture)
    table = Block(
        title="What few labels are worth",
        text=f"Share of 500 test digits told right by a linear classifier; mean and standard "
        f"deviation over {DRAWS} draws of the labels.",
        columns=["features", *(f"{count} labels" for count in LABELS)],
        rows=story.rows(),
        note="; ".join(story.verdicts()) + ".",
    )
    logs = {name: read_metrics(story.page.parent / name / "metrics.jsonl") for name in models}
    how = Block(
        title="How this was made",
        text="Pretraining saw 1,297 unlabelled digits, the test digits are 500 others. Features "
        "are the frozen encoder's output at all 64 pixels, reduced to 64 principal components; "
        "settings were chosen on digits and label draws other than those reported here.",
        rows=[[command] for command in story.commands],
    )
    shown = story_blocks(models, datasets, labels=labels, picture=picture, logs=logs)
    write_page(story.page, "A model that chooses its own masks", [table, *shown, how])
