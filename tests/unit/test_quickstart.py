"""The quickstart: digits that are tested were seen by no run, and the numbers are real."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anymae import quickstart as module
from anymae.errors import AnymaeError, FolderError
from anymae.hub import load
from anymae.quickstart import DRAWS, LABELS, Story, few_label_accuracies, quickstart, reduce


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, Path, list[tuple[int, int]]]:
    """A quickstart of two steps, its folder, and the progress that was told."""
    out = tmp_path_factory.mktemp("q") / "quickstart"
    progress: list[tuple[int, int]] = []
    story = quickstart(out, steps=2, progress=lambda done, total: progress.append((done, total)))
    return story, out, progress


def test_no_run_sees_a_test_digit(told: tuple[Story, Path, object]) -> None:
    images, _ = module._digits()
    pool, test = module._split(len(images))
    assert len(pool) + len(test) == len(images) == 1797
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"pretrains on {len(pool):,} handwritten digits" in readme
    assert f"the accuracy on {len(test)} others" in readme
    assert not set(pool) & set(test)
    stored = np.load(told[1] / "digits.npz")["images"]
    assert np.array_equal(stored, images[pool])
    for arm in ("guided", "random"):
        model = load(told[1] / arm)
        assert model.data is not None
        assert model.data["rows"] == len(pool)


def test_the_runs_differ_in_their_masking_alone(told: tuple[Story, Path, object]) -> None:
    guided, random = (
        json.loads((told[1] / arm / "config.json").read_text()) for arm in ("guided", "random")
    )
    assert guided["masking"].pop("kind") == "guided"
    assert random["masking"].pop("kind") == "random"
    assert guided == random
    recipes = [(told[1] / arm / "run.yaml").read_text() for arm in ("guided", "random")]
    lines = [set(recipe.splitlines()) for recipe in recipes]
    differing = {line.split(":")[0].strip() for line in lines[0] ^ lines[1]}
    assert differing == {"kind"}


def test_the_table_holds_every_draw(told: tuple[Story, Path, object]) -> None:
    story = told[0]
    assert list(story.accuracies) == [
        "guided masks", "random masks", "no pretraining", "raw pixels",
    ]  # fmt: skip
    for of in story.accuracies.values():
        assert {count: len(draws) for count, draws in of.items()} == dict.fromkeys(LABELS, DRAWS)
    name, *cells = story.rows()[3]
    draws = story.accuracies[name][50]
    assert cells[0] == f"{np.mean(draws):.3f} ± {np.std(draws, ddof=1):.3f}"
    gains = np.subtract(story.accuracies["guided masks"][50], draws)
    verdict = next(line for line in story.verdicts() if "raw pixels" in line)
    assert f"{gains.mean():+.3f} with 50 labels ({(gains > 0).sum()} of 10 draws)" in verdict


def test_picture_and_page_are_there_and_the_page_tells_how(
    told: tuple[Story, Path, object],
) -> None:
    story = told[0]
    assert story.picture.read_bytes().startswith(b"\x89PNG")
    page = story.page.read_text()
    assert page.count("data:image/png;base64") == 3
    for row in story.rows():
        assert f"<td>{row[0]}</td><td>{row[1]}</td><td>{row[2]}</td>" in page
    for command in story.commands:
        assert command in page
    assert json.loads(json.dumps(story.to_json()))["page"] == str(story.page)


def test_progress_is_told_of_both_runs(told: tuple[Story, Path, list[tuple[int, int]]]) -> None:
    assert {total for _, total in told[2]} == {4}
    done = [steps for steps, _ in told[2]]
    assert done == sorted(done) and done[-1] == 4


def test_an_earlier_quickstart_is_replaced_on_demand_only(
    told: tuple[Story, Path, object], tmp_path: Path
) -> None:
    out = tmp_path / "quickstart"
    shutil.copytree(told[1], out)
    with pytest.raises(FolderError, match="holds something"):
        quickstart(out, steps=2)
    (out / "mine").write_text("keep")
    module._clear(out, overwrite=True)
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_folders_of_others_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "random").mkdir()
    (tmp_path / "random" / "mine").write_text("keep")
    with pytest.raises(FolderError, match="holds no quickstart"):
        quickstart(tmp_path, steps=2, overwrite=True)
    assert (tmp_path / "random" / "mine").read_text() == "keep"


class AtOnce(subprocess.Popen[bytes]):
    """A process that is over before anybody looks."""

    def __init__(self, *words: Any, **keywords: Any) -> None:
        super().__init__(*words, **keywords)
        self.wait()


@pytest.mark.parametrize("process", [subprocess.Popen, AtOnce])
def test_a_run_that_fails_is_named_with_its_own_words(
    process: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", process)
    monkeypatch.setattr(module, "_command", lambda *_, **__: ["pretrain", "--wrong"])
    with pytest.raises(AnymaeError, match=r"with \w+ masks failed: anymae: .*--wrong"):
        quickstart(tmp_path / "q", steps=2)


def test_reducing_raw_pixels_changes_no_distance() -> None:
    images, _ = module._digits()
    pixels = images[:200].reshape(200, -1).astype(float)
    reduced = reduce(pixels, np.arange(150))
    assert np.square(reduced[:150]).mean() == pytest.approx(1.0)
    before = np.linalg.norm(pixels[:50, None] - pixels[None, 50:100], axis=-1)
    after = np.linalg.norm(reduced[:50, None] - reduced[None, 50:100], axis=-1)
    np.testing.assert_allclose(after / before, (after / before).mean(), rtol=1e-6)


def test_labels_are_drawn_from_the_pool_alike_for_all_features() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    features = np.eye(3)[labels] * 5
    pool, test = np.arange(300), np.arange(300, 400)
    perfect = few_label_accuracies(features, labels, pool=pool, test=test)
    assert all(set(draws) == {1.0} for draws in perfect.values())
    wrong = labels.copy()
    wrong[test] = (labels[test] + 1) % 3
    assert few_label_accuracies(features, wrong, pool=pool, test=test)[50] == (0.0,) * DRAWS
