"""A run that begins with the weights of another goes on, and is repeated, from the same ones."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import anymae
from anymae.errors import ConfigError, FolderError
from anymae.files import read_json
from anymae.recipes import load_recipe
from anymae.training.folder import RunFolder
from anymae.training.pretrain import Run, pretrain
from anymae.training.reconstruction import ReconstructionObjective
from runs import Cut, cut_at, history, small, strings, weights


def numbers(shift: float) -> pd.DataFrame:
    """A table of numbers whose columns have another mean and scale with each shift."""
    x = np.random.default_rng(0).normal(size=90)
    return pd.DataFrame({"x": shift + x, "y": (1 + shift) * x, "z": x**2 - shift})


def more(out: Path, **keywords: Any) -> Run:
    """Train on other data than the first run's; sizes come from where it begins."""
    settings = {"training.validate_every": 4, "training.threads": 1}
    case = {"steps": 12, "batch_size": 32, "device": "cpu", "settings": settings, **keywords}
    return pretrain(case.pop("data", numbers(5.0)), out=out, **case)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("first") / "run", numbers(0.0), steps=4).folder


@pytest.fixture(scope="module")
def uncut(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return more(tmp_path_factory.mktemp("uncut") / "run", init=first).folder


@pytest.mark.parametrize("cut", [2, 6], ids=["before a checkpoint", "after one"])
def test_it_resumes_to_the_bytes_of_the_uncut_run(
    first: Path, uncut: Path, tmp_path: Path, cut: int
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Cut):
        more(run, init=first, progress=cut_at(cut))
    more(run, resume=True)
    assert weights(run) == weights(uncut)
    assert history(run) == history(uncut)
    statistics = read_json(first / "data.json")["statistics"]
    assert read_json(run / "data.json")["statistics"] == statistics


def test_a_kill_while_the_folder_is_begun_loses_nothing(
    first: Path, uncut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: RunFolder, *more: Any) -> None:
        raise Cut

    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(RunFolder, "_describe", cut)
        more(tmp_path / "run", init=first)
    more(tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == weights(uncut)


def test_a_checkpoint_of_other_weights_is_not_gone_on_from(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = tmp_path / "run", small(tmp_path / "other", numbers(0.0), steps=5).folder
    with pytest.raises(Cut):
        more(run, init=first, progress=cut_at(6))

    def cut(self: RunFolder) -> None:
        raise Cut

    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(RunFolder, "clear", cut)
        more(run, init=other, overwrite=True)
    with pytest.raises(ConfigError, match="cannot go on from step 4 as another run: init is"):
        more(run, resume=True)


def test_weights_that_are_gone_or_changed_are_missed_before_a_checkpoint_only(
    first: Path, uncut: Path, tmp_path: Path
) -> None:
    origin = shutil.copytree(first, tmp_path / "origin")
    early, late = tmp_path / "early", tmp_path / "late"
    for run, cut in ((early, 2), (late, 6)):
        with pytest.raises(Cut):
            more(run, init=origin, progress=cut_at(cut))
    other = small(tmp_path / "other", numbers(0.0), steps=5).folder
    shutil.copy(other / "model.safetensors", origin)
    with pytest.raises(ConfigError, match=r"weights of .*origin.* have changed"):
        more(early, resume=True)
    shutil.rmtree(origin)
    with pytest.raises(ConfigError, match=r"weights of .*origin.*there is no folder"):
        more(early, resume=True)
    more(late, resume=True)
    assert weights(late) == weights(uncut)
    shutil.copytree(first, origin)
    more(early, resume=True)
    assert weights(early) == weights(uncut)


def test_its_command_can_be_requeued_until_it_is_finished(
    first: Path, uncut: Path, tmp_path: Path
) -> None:
    run, case = tmp_path / "run", {"init": first, "resume": True}
    for cut in (2, 6):
        with pytest.raises(Cut):
            more(run, progress=cut_at(cut), **case)
    for _ in range(2):
        more(run, **case)
        assert weights(run) == weights(uncut)
        assert history(run) == history(uncut)


def test_weights_other_than_it_began_with_are_refused(first: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", small(tmp_path / "other", numbers(0.0), steps=5).folder
    with pytest.raises(Cut):
        more(run, init=first, progress=cut_at(6))
    with pytest.raises(ConfigError, match=r"weights of .*other.* are not those"):
        more(run, init=other, resume=True)
    with pytest.raises(ConfigError, match="did not begin with another's weights"):
        more(first, init=other, resume=True)


def test_a_recipe_of_other_weights_is_not_gone_on_with(first: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", small(tmp_path / "other", numbers(0.0), steps=5).folder
    with pytest.raises(Cut):
        more(run, init=first, progress=cut_at(6))
    asked = load_recipe(run / "run.yaml").model_copy(update={"init": str(other)})
    with pytest.raises(ConfigError, match=r"weights of .*other.* are not those"):
        more(run, recipe=asked, resume=True)
    plain = tmp_path / "plain"
    with pytest.raises(Cut):
        small(plain, numbers(0.0), progress=cut_at(6))
    with pytest.raises(ConfigError, match="did not begin with another's weights"):
        more(plain, recipe=asked, resume=True)


def test_its_recipe_repeats_it_or_says_what_is_missing(
    first: Path, uncut: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(uncut / "run.yaml")
    assert recipe.init == str(first)
    made = pretrain(numbers(5.0), recipe=uncut / "run.yaml", out=tmp_path / "again")
    assert weights(made.folder) == weights(uncut)
    gone = recipe.model_copy(update={"init": str(tmp_path / "gone")})
    with pytest.raises(ConfigError, match=r"weights of .*gone.*there is no folder"):
        pretrain(numbers(5.0), recipe=gone, out=tmp_path / "no")
    changed = recipe.model_copy(update={"init_sha256": "0" * 64})
    with pytest.raises(ConfigError, match="have changed"):
        pretrain(numbers(5.0), recipe=changed, out=tmp_path / "no")
    assert not (tmp_path / "no").exists()
    # Another run to begin with may be named in place of the recipe's.
    other = pretrain(numbers(5.0), recipe=changed, init=first, out=tmp_path / "other")
    assert weights(other.folder) == weights(uncut)


def test_strings_are_packed_in_later_runs_too(tmp_path: Path) -> None:
    packed = {"data.pack": True, "data.length": 40}
    small(tmp_path / "one", steps=2, settings=packed)
    read: list[int] = []
    load = ReconstructionObjective.load

    def counted(self: Any, index: Any, epoch: int) -> Any:
        batch = load(self, index, epoch)
        read.append(len(batch.inputs) - len(index))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReconstructionObjective, "load", counted)
        settings = {"data.pack": True, "training.threads": 1}
        pretrain(strings(), init=tmp_path / "one", out=tmp_path / "two", steps=2, batch_size=8,
                 device="cpu", settings=settings)  # fmt: skip
    assert read and max(read) < 0


def test_a_model_without_data_is_gone_on_with_too(first: Path, tmp_path: Path) -> None:
    model = anymae.load(small(tmp_path / "strings", steps=2).folder)
    model.data = None
    anymae.save(model, tmp_path / "converted")
    case: dict[str, Any] = {"data": ["CCO", "NCC", "CCCC"] * 30, "init": tmp_path / "converted"}
    more(tmp_path / "uncut", **case)
    with pytest.raises(Cut):
        more(tmp_path / "run", **case, progress=cut_at(6))
    shutil.rmtree(tmp_path / "converted")
    more(tmp_path / "run", data=case["data"], resume=True)
    assert weights(tmp_path / "run") == weights(tmp_path / "uncut")
    for name in ("data.json", "config.json", "run.yaml"):
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "uncut" / name).read_text()


def test_a_recipe_names_where_it_begins_from_every_folder(
    first: Path, uncut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(first.parent)
    with pytest.raises(Cut):
        more(tmp_path / "run", init="run", progress=cut_at(6))
    recipe = load_recipe(tmp_path / "run" / "run.yaml")
    assert recipe.init == str(first)
    more(tmp_path / "run", resume=True, recipe=recipe.model_copy(update={"init": "run"}))
    monkeypatch.chdir(tmp_path)
    pretrain(numbers(5.0), recipe=recipe, out=tmp_path / "again")
    assert weights(tmp_path / "again") == weights(tmp_path / "run") == weights(uncut)


def test_a_run_does_not_replace_the_one_that_it_begins_with(first: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(first, run)
    with pytest.raises(FolderError, match="is the run to start from; name another"):
        more(run, init=run, overwrite=True)
    assert weights(run) == weights(first)
