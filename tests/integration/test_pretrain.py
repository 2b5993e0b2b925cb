"""Data in, a run folder out: what is in it, and what can be done with it."""

import json
import math
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import anymae
from anymae.config import ModelConfig
from anymae.data.dataset import open_data
from anymae.errors import ConfigError, DataError, MissingExtraError
from anymae.files import read_tensors
from anymae.hub import read_config
from anymae.inference import score
from anymae.model import MaskedAutoencoder
from anymae.presets import get_preset
from anymae.recipes import load_recipe, make_recipe
from anymae.report.plan import plan
from anymae.training import resolve
from anymae.training.checkpoint import read_checkpoint
from anymae.training.monitor import ReconstructionMonitor
from anymae.training.objective import Counters, Look
from anymae.training.pretrain import Run, pretrain
from anymae.training.progress import Progress
from anymae.training.reconstruction import ReconstructionObjective
from anymae.training.resolve import resolve_job
from runs import Cut, cut_at, history, small, strings, weights
from tiny import tiny_config


def frame(rows: int = 90) -> Any:
    import pandas as pd

    source = np.random.default_rng(0)
    x = source.normal(size=rows)
    color = np.where(x > 0, "red", "blue")
    return pd.DataFrame({"x": x, "v": 2 * x + 1, "w": -x, "color": color, "label": x > 0})


def ragged(rows: int = 90) -> Any:
    import pyarrow as pa

    source = np.random.default_rng(0)
    jets = [source.normal(size=(n, 3)).tolist() for n in source.integers(3, 9, rows)]
    return pa.table({"jets": pa.array(jets)})


DATA: dict[str, tuple[Any, str]] = {
    "strings": (strings, "bytes"),
    "frame": (frame, "table"),
    "matrix": (lambda: np.random.default_rng(0).normal(size=(90, 5)), "table"),
    "series": (lambda: np.random.default_rng(0).normal(size=(90, 6, 2)), "values"),
    "ragged": (ragged, "values"),
    "images": (
        lambda: np.random.default_rng(0).integers(0, 255, (90, 4, 4)).astype("uint8"),
        "image",
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_every_kind_of_data_trains_under_every_encoder(tmp_path: Path, name: str) -> None:
    make, kind = DATA[name]
    for encoder in ("transformer", "perceiver"):
        settings = {"encoder.kind": encoder, "encoder.num_latents": 4}
        run = small(tmp_path / encoder, make(), steps=4, settings=settings)
        assert run.model.config.input.kind == kind
        assert run.model.config.encoder.kind == encoder
        assert {"valid_loss", "trivial_loss", "verdict", "words"} <= run.metrics.keys()
        again = anymae.load(run.folder)
        for one, two in zip(run.model.parameters(), again.parameters(), strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("preset", ["paper-chemistry", "paper-protein"])
@pytest.mark.parametrize("name", DATA)
def test_a_published_length_of_strings_is_that_of_strings_alone(name: str, preset: str) -> None:
    make, kind = DATA[name]
    data = make()
    published = get_preset(preset).input["length"]
    job = resolve_job(data, make_recipe({"preset": preset}))
    assert job.config.input.kind == kind
    found = open_data(data).input.length
    assert job.dataset.input.length == (published if kind == "bytes" else found)
    assert job.recipe.data.length == (published if kind == "bytes" else None)
    if kind == "bytes":
        asked = resolve_job(data, make_recipe({"preset": preset, "data": {"length": 20}}))
        assert asked.dataset.input.length == asked.recipe.data.length == 20


def test_the_preset_is_that_of_the_device_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(device: str, *, has_gpu: bool) -> tuple[str | None, str]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
        job = resolve_job(strings(), make_recipe({"training": {"device": device}}))
        return job.recipe.preset, job.preset_rule

    assert chosen("auto", has_gpu=True)[0] == "small"
    assert chosen("cpu", has_gpu=True) == chosen("auto", has_gpu=False)
    assert chosen("auto", has_gpu=False)[0] == "tiny"
    assert chosen("cuda:1", has_gpu=True)[0] == "small"


def test_a_run_of_no_named_length_takes_its_passes_whatever_a_step_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "FEWEST_STEPS", 2)
    job = resolve_job(strings(1_000), make_recipe({"preset": "tiny"}))
    rows = len(job.dataset.parts.train)
    for batch in (64, 128, 500, rows, 10 * rows):
        assert resolve.steps_of(job, batch) == max(2, math.ceil(10 * rows / batch))
    assert job.training.steps is None and "10 passes" in " ".join(job.notes)
    run = small(tmp_path / "run", strings(), steps=None, settings={"training.accumulate": 2})
    rows = len(open_data(strings()).parts.train)
    steps = math.ceil(10 * rows / 64)
    assert load_recipe(run.folder / "run.yaml").training["steps"] == steps
    assert plan(strings(), settings={"training.batch_size": 64}).steps == steps


def test_a_run_that_never_leaves_its_warm_up_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = {"training.warmup": 100.0, "training.learning_rate": 1e-3}
    run = small(tmp_path / "run", strings(), steps=4, settings=long)
    assert "the warm-up of 100 steps is no shorter than the run of 4" in caplog.text
    assert "set training.warmup=0.1" in caplog.text
    assert "peak learning rate 4e-05 at the end" in (run.folder / "README.md").read_text()
    notes = plan(strings(), settings={**long, "training.steps": 4}).job.notes
    assert any("warm-up of 100 steps" in note for note in notes)


def test_steps_that_would_take_long_are_timed_on_few_rows_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded: list[int] = []
    load = ReconstructionObjective.load

    def watched(self: Any, rows: np.ndarray, epoch: int) -> Any:
        loaded.append(len(rows))
        return load(self, rows, epoch)

    monkeypatch.setattr(ReconstructionObjective, "load", watched)
    caplog.set_level("INFO", logger="anymae")
    settings = {"training.batch_size": 64, "training.steps": 4, "training.device": "cpu"}
    plan(strings(), settings=settings)
    monkeypatch.setattr(sys.modules[plan.__module__], "MOST_SECONDS", 1e-6, raising=False)
    made = plan(strings(), settings=settings)
    assert loaded == [8, 64, 8, 1]
    assert made.rows_at_once == 64
    assert made.seconds == 4 * made.step_seconds
    assert "timing a few steps on this cpu" in caplog.text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pretrain")
    path = folder / "data.csv"
    path.write_text("smiles,y\n" + "".join(f"{text},{len(text)}\n" for text in strings()))
    return small(folder / "run", path, column="smiles", target="y", steps=12)


def test_a_run_folder_holds_what_it_should(run: Run) -> None:
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        "README.md",
        "checkpoints",
        "config.json",
        "data.json",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
        "run.yaml",
    }
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["threads"] == 1 and environment["device"] == "cpu"
    assert environment["seconds"] > 0 and environment["peak_memory_mb"] > 0
    assert environment["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    card = (run.folder / "README.md").read_text()
    parts = ["## How to cite", "## Methods", "## This run"]
    assert [line for line in card.splitlines() if line.startswith("## ")] == parts
    cited, methods, results = (card.partition(part)[2].partition("\n## ")[0] for part in parts)
    assert "@inproceedings{xie2024selfguided," in cited
    assert "pretrained on 88 rows, without labels; 2 rows more were held out" in methods
    assert "12 steps of 32 rows (4 passes)" in methods and "in fp32 on CPUs" in methods
    weights = sum(weight.numel() for weight in run.model.parameters())
    assert f"({weights:,} parameters in all)" in methods
    loss = f"{run.metrics['valid_loss']:.4g}"
    assert f"held-out rows with a loss of {loss} for" in methods
    assert f"| valid_loss | {loss} |" in results
    kinds = [entry["kind"] for entry in run.history]
    assert kinds.count("valid") == 4 and kinds[-1] == "end"
    assert run.history[0]["step"] == 0
    for entry in run.history:
        if entry["kind"] == "train":
            assert entry["grad_norm"] > 0 and 0 <= entry["data_wait"] <= 1
            assert entry["rows_per_second"] > 0 and entry["memory_mb"] > 0


def test_a_run_knows_what_reconstruction_costs_in_the_median_validation_row(run: Run) -> None:
    assert run.model.data is not None
    assert json.loads((run.folder / "data.json").read_text()) == run.model.data
    dataset = open_data(strings())
    rows = [strings()[row] for row in dataset.parts.valid]
    expected = float(np.median(score(run.model, rows)))
    assert run.model.data["median_score"] == pytest.approx(expected, rel=1e-5)


def test_it_learns(tmp_path: Path) -> None:
    data = strings(600)
    learned = small(tmp_path / "run", data, steps=120, learning_rate=1e-2, batch_size=64)
    assert learned.metrics["verdict"] == "learning"
    assert learned.metrics["valid_loss"] < 0.7 * learned.metrics["trivial_loss"]


def test_the_best_look_is_kept_unless_the_last_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ReconstructionMonitor.__call__

    def worst_away_from_16(
        self: ReconstructionMonitor, model: nn.Module, counters: Counters
    ) -> Look:
        look = honest(self, model, counters)
        return look._replace(loss=look.loss + abs(counters.step - 16))

    monkeypatch.setattr(ReconstructionMonitor, "__call__", worst_away_from_16)
    best = small(tmp_path / "best", data=strings(600), steps=24)
    last = small(tmp_path / "last", data=strings(600), steps=24, settings={"training.keep": "last"})
    looks = {e["step"]: e["valid_loss"] for e in best.history if e["kind"] == "valid" and e["step"]}
    assert best.metrics["best_step"] == min(looks, key=lambda step: looks[step]) == 16
    assert best.metrics["valid_loss"] == min(looks.values())
    assert last.metrics["best_step"] == 24
    kept = {p.name for p in (best.folder / "checkpoints").iterdir()}
    assert "step-00000016" in kept


def test_a_run_is_repeated_from_its_recipe(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "anymae")
    recipe = run.folder / "run.yaml"
    anymae_run = pretrain(recipe=recipe, out=tmp_path / "again")
    assert f"the data are those of {run.folder}, to the byte" in caplog.text
    assert weights(anymae_run.folder) == weights(run.folder)
    other = tmp_path / "other.csv"
    other.write_text("smiles,y\n" + "".join(f"{text},1\n" for text in strings(seed=1)))
    pretrain(other, recipe=recipe, out=tmp_path / "other", steps=2)
    assert f"the data differ from those of {run.folder}: the content differs" in caplog.text


def test_the_recipe_of_a_run_leaves_nothing_open(run: Run) -> None:
    recipe = load_recipe(run.folder / "run.yaml")
    config = ModelConfig.model_validate(read_config(run.folder))
    assert recipe.encoder == config.encoder.model_dump(mode="json")
    assert recipe.masking == config.masking.model_dump(mode="json")
    assert recipe.training["steps"] == 12 and recipe.training["threads"] == 1
    assert recipe.data.column == ("smiles",) and recipe.data.length == config.input.length


@pytest.mark.parametrize("no_examples", [False, True])
def test_a_recipe_names_local_files_from_everywhere_unless_nothing_is_to_be_told_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_examples: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt"):
        Path(name).write_text("\n".join(strings(40)))
    made = small(tmp_path / "run", "a.txt", valid="b.txt", steps=2, no_examples=no_examples)
    named = load_recipe(made.folder / "run.yaml").data
    expected = [name if no_examples else str(tmp_path / name) for name in ("a.txt", "b.txt")]
    assert [named.path, named.valid] == expected
    for path in made.folder.glob("*") if no_examples else ():
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()


def test_a_null_in_a_recipe_stays_null(tmp_path: Path) -> None:
    made = small(tmp_path / "run", steps=2, settings={"training.clip": None})
    assert load_recipe(made.folder / "run.yaml").training["clip"] is None


def test_a_run_starts_from_the_weights_of_another(run: Run, tmp_path: Path) -> None:
    continued = pretrain(
        strings(seed=1),
        out=tmp_path / "more",
        init=run.folder,
        steps=2,
        batch_size=16,
        learning_rate=1e-30,
        device="cpu",
    )
    assert weights(continued.folder) == weights(run.folder)
    assert continued.model.config.input == run.model.config.input
    assert continued.model.data is not None
    for wrong in ({"preset": "small"}, {"settings": {"encoder.width": 32}}):
        with pytest.raises(ConfigError, match="brings its own sizes"):
            pretrain(strings(), out=tmp_path / "no", init=run.folder, **wrong)


def test_a_run_starts_from_a_model_that_has_no_data(tmp_path: Path) -> None:
    """A converted checkpoint: the model says what inputs have to look like."""
    model = MaskedAutoencoder(tiny_config(length=24))
    anymae.save(model, tmp_path / "converted")
    case: dict[str, Any] = {"init": tmp_path / "converted", "steps": 1, "batch_size": 16}
    made = pretrain(strings(), out=tmp_path / "run", device="cpu", **case)
    assert made.model.config == model.config
    with pytest.raises(DataError, match="cannot be read as bytes"):
        pretrain(np.zeros((50, 24)), out=tmp_path / "no", device="cpu", **case)
    assert not (tmp_path / "no").exists()


def test_targets_are_never_inputs(tmp_path: Path) -> None:
    plain = small(tmp_path / "a", frame(), steps=2)
    assert plain.model.config.input.length == 4
    named = small(tmp_path / "b", frame(), steps=2, target="w")
    assert named.model.config.input.length == 3


def test_a_probe_is_logged_at_each_look(tmp_path: Path) -> None:
    found = small(tmp_path / "run", frame(600), steps=8, probe_target="color")
    looks = [entry for entry in found.history if entry["kind"] == "valid"]
    assert len(looks) == 3 and all(0 <= look["probe_roc_auc"] <= 1 for look in looks)
    assert found.model.config.input.length == 3
    with pytest.raises(DataError, match="did you mean 'color'"):
        small(tmp_path / "no", frame(), steps=8, probe_target="colour")
    assert not (tmp_path / "no").exists()
    with pytest.raises(ConfigError, match=r"leave out data\.pack"):
        small(tmp_path / "no", targets(), probe_target="even", settings={"data.pack": True})
    assert not (tmp_path / "no").exists()


def test_a_probe_knows_no_class_that_its_rows_do_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = frame(600)
    data["color"] = ["red", "blue"] * 300
    data.loc[np.arange(100, 103), "color"] = "rare"
    monkeypatch.setattr("anymae.training.session.MOST_LOOKED_AT", 20)
    small(tmp_path / "run", data, steps=4, probe_target="color")


def test_a_probe_without_labels_to_be_judged_by_is_refused_first(tmp_path: Path) -> None:
    data = frame(600)
    data["part"] = ["train"] * 500 + ["valid"] * 100
    data["color"] = ["red", "blue"] * 250 + [None] * 100
    with pytest.raises(DataError, match=r"no value in the 100 validation rows .*--probe-target"):
        small(tmp_path / "run", data, steps=4, probe_target="color", split="part")
    assert not (tmp_path / "run").exists()


def test_a_probe_whose_rows_have_no_value_is_told_by_its_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = frame(600)
    data["few"] = [None] * 200 + [1.0, 2.0] + [None] * 398
    monkeypatch.setattr("anymae.training.session.MOST_LOOKED_AT", 5)
    with pytest.raises(DataError, match="another column with --probe-target"):
        small(tmp_path / "run", data, steps=4, probe_target="few")


def test_a_report_shows_validation_rows_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anymae.report import runs

    frame(200).to_csv(tmp_path / "data.csv", index=False)
    found = small(tmp_path / "run", tmp_path / "data.csv", steps=2, seed=3)
    shown: list[Any] = []

    def opened(*args: Any, **keywords: Any) -> Any:
        shown.append(open_data(*args, **keywords))
        return shown[-1]

    monkeypatch.setattr(runs, "open_data", opened)
    runs.write_report([found.folder], out=tmp_path / "report.html")
    expected = open_data(tmp_path / "data.csv", seed=3).parts.valid
    assert shown[0].parts.valid.tolist() == expected.tolist()


def targets() -> Any:
    import pyarrow as pa

    return pa.table({"text": strings(), "even": [len(text) % 2 for text in strings()]})


def test_progress_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[Progress] = []
    small(tmp_path / "run", progress=told.append)
    assert [each.step for each in told] == list(range(1, 13))
    assert all(each.steps == 12 and each.rows_per_second > 0 for each in told)
    assert told[-1].seconds_left == 0


def test_a_run_shows_itself_in_a_notebook(run: Run) -> None:
    html = run._repr_html_()
    assert "valid_loss" in html and str(run.folder) in html


def test_pretraining_and_embedding_open_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    made = small(tmp_path / "run", steps=2)
    found = anymae.embed(made.model, strings(5))
    assert found.shape == (5, 16) and np.isfinite(found).all()


def test_an_unknown_tracker_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tensorboard'"):
        small(tmp_path / "run", track="tensorbord")
    assert not (tmp_path / "run").exists()


def test_a_missing_tracker_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymae.training.processes.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"anymae\[track\]"):
        small(tmp_path / "run", track="tensorboard")
    assert not (tmp_path / "run").exists()


def test_tensorboard_receives_the_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = small(tmp_path / "run", track="tensorboard")
    events = list(made.folder.rglob("events.out.tfevents.*"))
    assert events
    found = EventAccumulator(str(events[0].parent))
    found.Reload()
    losses = {event.step: event.value for event in found.Scalars("valid/valid_loss")}
    logged = {e["step"]: e["valid_loss"] for e in made.history if e["kind"] == "valid"}
    assert losses == pytest.approx(logged)


def test_several_runs_in_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    first = small(tmp_path / "a")
    with pytest.raises(Cut):
        small(tmp_path / "b", progress=cut_at(3), seed=5)
    second = small(tmp_path / "c")
    assert weights(first.folder) == weights(second.folder)
    assert history(first.folder) == history(second.folder)


@pytest.mark.parametrize("extra", [{"settings": {"data.pack": True, "data.length": 40}}, {}])
def test_strings_are_packed_when_asked(tmp_path: Path, extra: dict[str, Any]) -> None:
    settings = {"training.checkpoint_every": 2, **extra.get("settings", {})}
    small(tmp_path / "uncut", steps=6, batch_size=8, settings=settings)
    with pytest.raises(Cut):
        small(tmp_path / "cut", steps=6, batch_size=8, settings=settings, progress=cut_at(5))
    small(tmp_path / "cut", steps=6, batch_size=8, settings=settings, resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "uncut")


def test_a_run_ends_with_the_weights_of_its_best_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ReconstructionMonitor.__call__

    def best_at_8(self: ReconstructionMonitor, model: nn.Module, counters: Counters) -> Look:
        return honest(self, model, counters)._replace(loss=1.0 + abs(counters.step - 8))

    monkeypatch.setattr(ReconstructionMonitor, "__call__", best_at_8)
    run = small(tmp_path / "run", strings(600), steps=16)
    kept = read_tensors(run.folder / "model.safetensors")
    best = read_checkpoint(run.folder / "checkpoints/step-00000008").model
    last = read_checkpoint(run.folder / "checkpoints/step-00000016").model
    assert all(torch.equal(kept[name], best[name]) for name in best)
    assert any(not torch.equal(kept[name], last[name]) for name in last)
