"""What goes wrong on the way is stopped in time, captured, and told with what to do."""

import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymae.config import TrainingConfig
from anymae.errors import ConfigError, DataError, FolderError, NonFiniteError, OutOfMemoryError
from anymae.files import read_tensors
from anymae.report import write_report
from anymae.training import loop, memory
from anymae.training.monitor import ReconstructionMonitor
from anymae.training.reconstruction import ReconstructionObjective
from anymae.training.replay import replay
from anymae.training.step import Stepper
from runs import history, small, strings, weights

LOSS_SUM = ReconstructionObjective.loss_sum


@pytest.fixture
def exploding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that blow up at step 7, so that the loss of that step is not a number."""

    def loss_sum(self: Any, model: Any, batch: Any, counters: Any) -> torch.Tensor:
        if counters.step == 7:
            with torch.no_grad():
                model.embedding.content.weight[batch.inputs[0, 0]] = torch.nan
        return LOSS_SUM(self, model, batch, counters)

    monkeypatch.setattr(ReconstructionObjective, "loss_sum", loss_sum)


def test_a_run_that_diverges_over_rows_of_other_lengths_is_stopped_in_time(tmp_path: Path) -> None:
    data = [row + "C" * (28 - len(row)) for row in strings(120)]
    settings = {"training.clip": None, "training.warmup": 0}
    with pytest.raises(NonFiniteError):
        small(tmp_path / "run", data, learning_rate=1e10, settings=settings, batch_size=16)


def test_what_is_replayed_is_a_file(tmp_path: Path) -> None:
    for odd in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FolderError, match="is no file; name a nonfinite-step file of a run"):
            replay(odd)


@pytest.mark.usefixtures("exploding")
def test_a_captured_step_of_packed_strings_is_read_again_as_it_was(tmp_path: Path) -> None:
    settings = {"data.pack": True, "data.length": 40}
    with pytest.raises(NonFiniteError):
        small(tmp_path / "run", no_examples=True, settings=settings, batch_size=8, steps=24)
    (capture,) = (tmp_path / "run").glob("nonfinite-step-*.safetensors")
    again = replay(capture, strings())
    assert set(again.bad_rows) <= set(read_tensors(capture)["pass-0.rows"].tolist())
    assert again.bad_rows


@pytest.mark.usefixtures("exploding")
@pytest.mark.parametrize("no_examples", [False, True])
def test_a_step_that_is_not_finite_is_captured_and_can_be_replayed(
    tmp_path: Path, no_examples: bool
) -> None:
    case: dict[str, Any] = {
        "no_examples": no_examples,
        "settings": {"encoder.dropout": 0.1, "data.length": 16, "training.accumulate": 2},
        "batch_size": 16,
    }
    run = tmp_path / "my run"
    with pytest.raises(
        NonFiniteError, match=r"not finite at step 7.*--replay '/.*\.safetensors'`"
    ) as caught:
        small(run, **case)
    assert caught.value.exit_code == 3
    assert not (run / "model.safetensors").exists()
    assert (run / "checkpoints" / "step-00000004").is_dir()
    capture = run / "nonfinite-step-00000007.safetensors"
    held = read_tensors(capture)
    assert ("pass-0.inputs" in held) is not no_examples
    if no_examples:
        with pytest.raises(DataError, match="give the data"):
            replay(capture)
    again = replay(capture, strings() if no_examples else None)
    assert again.step == 7
    assert np.isnan(again.loss) and np.isnan(again.captured_loss)
    assert again.bad_rows
    assert set(again.bad_rows) <= set(held["pass-0.rows"].tolist() + held["pass-1.rows"].tolist())


PLANTED = "Zq9-planted-Zq9"


def holding(run: Path, content: bytes) -> set[str]:
    """The files of a run that hold some bytes, in a page perhaps letter by letter."""
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {"README.md", "report.html", "metrics.jsonl", "run.yaml"} < {p.name for p in files}
    return {
        str(path.relative_to(run))
        for path, held in files.items()
        if content in held or (path.suffix == ".html" and content in re.sub(rb"<[^>]*>", b"", held))
    }


@pytest.mark.usefixtures("exploding")
def test_without_examples_no_file_of_a_run_holds_a_string(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = tmp_path / "private.csv", tmp_path / "run"
    rows = [PLANTED + text for text in strings()]
    data.write_text("secret\n" + "\n".join(rows) + "\n")
    with pytest.raises(NonFiniteError):
        small(run, data, no_examples=True)
    monkeypatch.setattr(ReconstructionObjective, "loss_sum", LOSS_SUM)
    small(run, data, no_examples=True, resume=True)
    write_report([run])
    assert not holding(run, PLANTED.encode())
    # Where they are is said once, for the replay and the verbs that follow.
    assert holding(run, str(tmp_path).encode()) == {"run.yaml"}
    data.unlink()
    write_report([run])
    assert list(run.glob("nonfinite-*")) and not holding(run, PLANTED.encode())
    tokens = np.array([byte + 6 for byte in PLANTED.encode()])
    for kind in (np.uint8, np.int16, np.int32, np.int64):
        assert not holding(run, tokens.astype(kind).tobytes())


def test_categories_are_kept_in_one_file(tmp_path: Path) -> None:
    rows = [f"{PLANTED if row % 9 == 0 else 'ab'[row % 2]},{row / 4}" for row in range(90)]
    (tmp_path / "t.csv").write_text("k,x\n" + "\n".join(rows) + "\n")
    small(tmp_path / "run", tmp_path / "t.csv", no_examples=True)
    write_report([tmp_path / "run"])
    assert holding(tmp_path / "run", PLANTED.encode()) == {"data.json"}


def test_a_finite_step_replays_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture of a good step, forced, gives its loss and gradient again."""
    from anymae.training.step import StepResult

    monkeypatch.setattr(StepResult, "is_finite", property(lambda self: False))
    settings = {"encoder.dropout": 0.1, "training.clip": None}
    with pytest.raises(NonFiniteError):
        small(tmp_path / "run", settings=settings)
    again = replay(tmp_path / "run" / "nonfinite-step-00000000.safetensors")
    assert again.loss == pytest.approx(again.captured_loss, rel=1e-6)
    assert again.grad_norm == pytest.approx(again.captured_grad_norm, rel=1e-6)
    assert again.bad_rows == ()


def test_a_capture_holds_the_masks_of_the_step_in_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anymae.training.step import StepResult

    seen: list[torch.Tensor] = []

    def loss_sum(self: Any, model: Any, batch: Any, counters: Any) -> torch.Tensor:
        made = self._reconstruct(model, batch, counters)
        seen.append(made.masked)
        return made.loss_sum

    monkeypatch.setattr(ReconstructionObjective, "loss_sum", loss_sum)
    monkeypatch.setattr(StepResult, "is_finite", property(lambda self: False))
    data = np.random.default_rng(0).normal(size=(600, 48, 1)).astype(np.float32)
    settings = {"masking.draw": "top", "masking.random_start": 0, "masking.random_floor": 0}
    keywords = {"batch_size": 256, "precision": "bf16", "settings": settings}
    with pytest.raises(NonFiniteError):
        small(tmp_path / "run", data, **keywords)
    held = read_tensors(tmp_path / "run" / "nonfinite-step-00000000.safetensors")
    assert torch.equal(held["pass-0.masked"], seen[0])


def test_weights_that_are_not_finite_replace_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = Stepper.apply

    def leap(self: Any, counters: Any) -> float:
        rate = apply(self, counters)
        if counters.step == 7:
            with torch.no_grad():
                next(self.model.parameters()).view(-1)[0] = torch.inf
        return rate

    monkeypatch.setattr(Stepper, "apply", leap)
    with pytest.raises(NonFiniteError, match="not finite after step 8"):
        small(tmp_path / "run", settings={"training.keep_checkpoints": 1})
    kept = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert kept == ["step-00000004"]


def numbers() -> Any:
    import pandas as pd

    x = np.random.default_rng(0).normal(size=120)
    return pd.DataFrame({"x": x, "v": 2 * x + 1, "w": -x, "color": np.where(x > 0, "red", "blue")})


@pytest.mark.parametrize("at", [0, 7], ids=["first look", "later look"])
def test_a_look_at_weights_that_went_too_far_ends_as_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    apply = Stepper.apply

    def leap(self: Any, counters: Any) -> float:
        rate = apply(self, counters)
        if counters.step == at:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.mul_(1e30)
        return rate

    monkeypatch.setattr(Stepper, "apply", leap)
    settings = {"training.validate_every": at + 1, "training.checkpoint_every": 3}
    with pytest.raises(NonFiniteError, match=f"not finite after step {at + 1}") as caught:
        small(tmp_path / "run", numbers(), probe_target="color", settings=settings)
    assert caught.value.exit_code == 3
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").glob("*")}
    assert kept == ({"step-00000003", "step-00000006"} if at else set())


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    small(tmp_path / "run", steps=2)
    with pytest.raises(FolderError, match="no capture"):
        replay(tmp_path / "run" / "model.safetensors")


def limited(most: int) -> Any:
    """An objective for which more than `most` rows are too many."""

    def loss_sum(self: Any, model: Any, batch: Any, counters: Any) -> torch.Tensor:
        if len(batch.inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return LOSS_SUM(self, model, batch, counters)

    return loss_sum


def test_running_out_of_memory_names_the_equivalent_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReconstructionObjective, "loss_sum", limited(16))
    monkeypatch.setattr(memory, "peak_memory", lambda device: 3 * 2**30)
    with pytest.raises(OutOfMemoryError) as caught:
        small(tmp_path / "run")
    sentence = str(caught.value)
    assert caught.value.exit_code == 2
    assert "32 rows of 32 inputs, peak 3.0 GiB" in sentence
    assert "half the memory: --set training.batch_size=16 --set training.accumulate=2" in sentence


def test_a_smaller_command_has_as_many_rows_to_a_step() -> None:
    for batch, accumulate, passes in ((15, 2, (5, 6)), (7, 1, (1, 7)), (8, 3, (4, 6))):
        config = TrainingConfig(batch_size=batch, accumulate=accumulate)
        error = memory.out_of_memory(config, length=8, device=torch.device("cpu"))
        rows, times = passes
        assert f"training.batch_size={rows} --set training.accumulate={times}," in str(error)


def starve(*args: Any, **keywords: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("minutes", [None, 0.01], ids=["steps", "minutes"])
@pytest.mark.parametrize(
    "place",
    [(torch.optim.AdamW, "step"), (ReconstructionMonitor, "__call__")],
    ids=["step", "look"],
)
def test_running_out_of_memory_is_told_wherever_it_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[type, str], minutes: float | None
) -> None:
    monkeypatch.setattr(*place, starve)
    length = {"steps": 12} if minutes is None else {"steps": None, "minutes": minutes}
    with pytest.raises(OutOfMemoryError, match=r"32 rows of 32 inputs.*training.batch_size=16"):
        small(tmp_path / "run", **length)


def test_half_the_batch_and_twice_the_passes_are_the_same_run(tmp_path: Path) -> None:
    small(tmp_path / "whole")
    small(tmp_path / "halves", batch_size=16, settings={"training.accumulate": 2})
    for one, two in zip(history(tmp_path / "whole"), history(tmp_path / "halves"), strict=True):
        for name in {"loss", "valid_loss", "grad_norm"} & one.keys():
            assert one[name] == pytest.approx(two[name], rel=1e-4)


def test_a_failed_cpu_allocation_is_told_the_same_way() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.is_out_of_memory(caught.value)
    assert memory.is_out_of_memory(MemoryError())
    assert not memory.is_out_of_memory(RuntimeError("shapes do not match"))


def test_the_batch_that_fits_is_found_at_the_longest_rows_and_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def loss_sum(self: Any, model: Any, batch: Any, counters: Any) -> torch.Tensor:
        seen.append(tuple(batch.inputs.shape[:2]))
        return limited(20)(self, model, batch, counters)

    monkeypatch.setattr(ReconstructionObjective, "loss_sum", loss_sum)
    data = strings(400)
    small(tmp_path / "run", data, batch_size="auto", steps=4)
    longest = max(length for _, length in seen)
    assert longest == max(map(len, data)) + 1
    assert all(length == longest for _, length in seen[:4])
    assert "batch_size: 16\n" in (tmp_path / "run" / "run.yaml").read_text()
    monkeypatch.setattr(ReconstructionObjective, "loss_sum", LOSS_SUM)
    small(tmp_path / "named", data, batch_size=16, steps=4)
    assert weights(tmp_path / "run") == weights(tmp_path / "named")


def test_packed_batches_are_tried_as_large_as_they_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def loss_sum(self: Any, model: Any, batch: Any, counters: Any) -> torch.Tensor:
        seen.append(len(batch.inputs))
        return limited(24)(self, model, batch, counters)

    monkeypatch.setattr(ReconstructionObjective, "loss_sum", loss_sum)
    settings = {"data.pack": True, "data.length": 80}
    small(tmp_path / "run", strings(2000), batch_size="auto", steps=4, settings=settings)
    assert "batch_size: 16\n" in (tmp_path / "run" / "run.yaml").read_text()
    # A few rows on the main processor, then 8, 16 and 32, and training with 16.
    assert all(
        size <= found <= 1.3 * size for size, found in zip((8, 16, 32), seen[1:4], strict=True)
    )
    assert seen[4] == pytest.approx(16, abs=5)


def test_no_batch_that_fits_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReconstructionObjective, "loss_sum", limited(4))
    with pytest.raises(ConfigError, match="not even 8 rows fit"):
        small(tmp_path / "run", batch_size="auto")
    assert not (tmp_path / "run").exists()


def test_recomputing_activations_keeps_less_and_changes_no_bit(tmp_path: Path) -> None:
    from anymae.config import ModelConfig
    from anymae.model import MaskedAutoencoder
    from anymae.training.memory import SavedBytes
    from tiny import tiny_config, tiny_inputs

    config: ModelConfig = tiny_config(length=24)
    inputs = tiny_inputs(config, 16)
    kept = {}
    for recompute in (False, True):
        model = MaskedAutoencoder(config)
        model.encoder.recompute = recompute
        saved = SavedBytes(model)
        with saved:
            model(inputs)
        kept[recompute] = saved.total
    assert kept[True] < 0.7 * kept[False]
    small(tmp_path / "plain")
    small(tmp_path / "recomputed", settings={"training.recompute": True})
    assert weights(tmp_path / "plain") == weights(tmp_path / "recomputed")


@pytest.mark.parametrize(
    ("pause", "fewest", "told"), [(0.02, 0.05, True), (0.02, 60.0, False), (0.0, 1.0, False)]
)
def test_waiting_for_data_is_warned_of_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    pause: float,
    fewest: float,
    told: bool,
) -> None:
    load = ReconstructionObjective.load

    def slow(self: Any, index: Any, epoch: int) -> Any:
        time.sleep(pause)
        return load(self, index, epoch)

    monkeypatch.setattr(ReconstructionObjective, "load", slow)
    monkeypatch.setattr(loop, "FEWEST_SECONDS", fewest)
    small(tmp_path / "run")
    assert caplog.text.count("of the time is spent waiting for data") == int(told)
    assert ("training.workers=2" in caplog.text) is told


STEPS_THAT_TAKE_64_MB = """
import resource, torch
from anymae.training.memory import freed_memory_kept

def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with freed_memory_kept():
    print(sum(faults_of_a_step() > 1000 for _ in range(40)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep it")
def test_memory_that_a_step_frees_is_there_for_the_next() -> None:
    # A process of its own: what ran before decides how the heap of this one is cut up.
    done = subprocess.run(
        [sys.executable, "-c", STEPS_THAT_TAKE_64_MB], capture_output=True, text=True, check=True
    )
    # The system would hand out 64 MB, 16,384 pages, in every step; the heap settles after a few.
    assert int(done.stdout) < 20
