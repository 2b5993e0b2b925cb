"""Who trains is told how far it is: by a callback, or by a bar where a notebook shows one."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anymae.data.dataset import open_data
from anymae.model import MaskedAutoencoder
from anymae.presets import build_config
from anymae.task import FinetuneConfig
from anymae.training import progress
from anymae.training.finetune import finetune
from anymae.training.progress import Progress, Tally, notebook_progress
from runs import small, strings

TABLE = {"smiles": strings(40), "y": np.arange(40.0)}
SHORT = {"steps": 4, "batch_size": 16, "patience": None}


@pytest.fixture(scope="module")
def model() -> MaskedAutoencoder:
    dataset = open_data(strings(40))
    made = MaskedAutoencoder(build_config("tiny", dataset.input))
    made.data = dataset.preparation.to_json()
    return made


class Notebook:
    """Stands for IPython in the kernel of a notebook, and keeps what it shows."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool = False) -> Any:
        assert raw
        self.shown.append(data)
        return SimpleNamespace(update=self.display)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    made, package, display = Notebook(), ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.display = made.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    return made


def test_trainings_are_told_of_as_one_and_an_early_stop_counts_as_done() -> None:
    told: list[Progress] = []
    tally = Tally(told.append, 30)
    for steps, taken in ((10, 10), (10, 3), (10, 10)):
        report = tally.part(steps)
        for step in range(1, taken + 1):
            report(Progress(step, steps, 0.5, 100.0, 9.0))
    assert [now.step for now in told] == [*range(1, 14), *range(21, 31)]
    assert {now.steps for now in told} == {30}
    assert told[-1].seconds_left == 0 < told[0].seconds_left


def test_fine_tuning_tells_of_heads_rates_and_seeds(model: MaskedAutoencoder) -> None:
    told: list[Progress] = []
    config = FinetuneConfig(seeds=2, learning_rates=(1e-4, 1e-3))
    finetune(model, TABLE, target="y", config=config, training=SHORT, progress=told.append)
    # Two heads of 4 steps, two rates for the first seed and one for the second.
    assert [now.step for now in told] == list(range(1, 21))
    assert {now.steps for now in told} == {20}
    assert all(now.rows_per_second > 0 and np.isfinite(now.loss) for now in told)


def test_a_notebook_shows_a_bar_while_it_trains(
    model: MaskedAutoencoder, notebook: Notebook, tmp_path: Path
) -> None:
    training = {**SHORT, "learning_rate": 1e-3}
    finetune(model, TABLE, target="y", training=training)
    assert '<progress value="8" max="8">' in notebook.shown[-2]["text/html"]
    assert "8 of 8 steps, loss " in notebook.shown[-2]["text/plain"]
    assert notebook.shown[-1]["text/html"] == ""
    notebook.shown.clear()
    small(tmp_path / "run", steps=2)
    assert "2 of 2 steps" in notebook.shown[-2]["text/html"]
    notebook.shown.clear()
    finetune(model, TABLE, target="y", training=training, progress=lambda now: None)
    assert notebook.shown == []


def test_nothing_is_shown_or_imported_outside_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with notebook_progress(None) as told:
        assert told is None
    assert "IPython" not in sys.modules
    terminal = ModuleType("IPython")
    terminal.get_ipython = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    with notebook_progress(None) as told:
        assert told is None
