"""What comes out of embed, predict and score lines up with the rows, whatever happens."""

import copy
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from anymae.config import DataConfig, ModelConfig, parse
from anymae.data.batch import Batch
from anymae.data.dataset import open_data
from anymae.errors import (
    AnymaeWarning,
    ConfigError,
    DataError,
    FolderError,
    OutOfMemoryError,
    UserInputError,
)
from anymae.hub import save
from anymae.inference import (
    ComputeConfig,
    embed,
    embed_to_file,
    predict,
    predict_to_file,
    score,
    score_to_file,
    stream,
)
from anymae.inference.computations import Embeddings, Reading, Scores
from anymae.inference.compute import batches
from anymae.model import MaskedAutoencoder
from anymae.nn.readout import KernelReadout, layer_statistics
from anymae.predictor import Ensemble, Predictor
from anymae.task import ReadoutConfig, TaskConfig
from models import pretrained, strings
from runs import Cut

SKIP = DataConfig(on_bad_row="skip")


def drawn(data: object, encoder: str = "transformer") -> MaskedAutoencoder:
    return pretrained(data, encoder, depth=2, spread=0.2)


@pytest.fixture(scope="module")
def text() -> list[str]:
    return [*strings(60, "CNO()=1", shortest=1, longest=29), "C" * 37]


@pytest.fixture(scope="module")
def model(text: list[str]) -> MaskedAutoencoder:
    torch.manual_seed(1)
    return drawn(text)


def alone(model: MaskedAutoencoder, row: str) -> np.ndarray:
    """The embedding of one row by the definition."""
    inputs = torch.tensor([[*(byte + 6 for byte in row.encode()), 5]])
    with torch.no_grad():
        return model.encode(inputs).latents[0].mean(0).numpy()


def test_embeddings_are_means_over_valid_latents_in_order(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    found = embed(model, text, config=ComputeConfig(batch_inputs=100))
    assert found.shape == (61, 16)
    assert found.dtype == np.float32
    for row, expected in zip(text, found, strict=True):
        np.testing.assert_allclose(alone(model, row), expected, atol=1e-5)


def test_reading_layers_gives_mean_and_deviation_of_each_layer(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    found = embed(model, text, reading="layers")
    inputs = torch.tensor([[*(byte + 6 for byte in text[3].encode()), 5]])
    with torch.no_grad():
        layers = [encoded.latents[0] for encoded in model.encode_layers(inputs)]
    expected = torch.cat([part for x in layers for part in (x.mean(0), x.std(0, correction=0))])
    np.testing.assert_allclose(found[3], expected, atol=2e-3)
    assert layer_statistics(model.encode_layers(inputs)).shape == (1, 96)


def test_reading_kernel_gives_what_its_readout_gives(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    found = embed(model, text, reading="kernel")
    inputs = torch.tensor([[*(byte + 6 for byte in text[3].encode()), 5]])
    readout = KernelReadout(ReadoutConfig(kind="kernel"), model.config.encoder)
    with torch.no_grad():
        expected = readout.raw(model.encode_layers(inputs))[0]
    assert expected.shape == (readout.num_features,)
    np.testing.assert_allclose(found[3], expected, atol=1e-5)


def test_frames_come_back_as_frames(model: MaskedAutoencoder, text: list[str]) -> None:
    array = embed(model, text)
    frame = pd.DataFrame({"smiles": text}, index=[f"m{i}" for i in range(len(text))])
    found = embed(model, frame)
    assert found.index.equals(frame.index)
    np.testing.assert_array_equal(found.to_numpy(), array)
    assert isinstance(embed(model, pl.DataFrame({"smiles": text})), pl.DataFrame)
    some = embed(model, frame, data_config=DataConfig(where="smiles != 'CCC'"))
    assert len(some) == len(text) - text.count("CCC")


def test_a_model_is_left_as_it_was(model: MaskedAutoencoder, text: list[str]) -> None:
    model.train()
    embed(model, text)
    assert model.training
    model.eval()


def test_batches_hold_each_row_once_and_no_more_than_fits() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 500)
    found = list(batches(lengths, 1000))
    assert sorted(np.concatenate(found)) == list(range(500))
    for batch in found:
        padded = lengths[batch].max() * len(batch)
        assert padded <= 1000 or len(batch) == 1
    assert len(found) < 80


@pytest.mark.parametrize("suffix", ["parquet", "csv", "npy"])
def test_files_hold_one_row_for_each_row(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path, suffix: str
) -> None:
    rows = [*text[:5], None, *text[5:9]]
    data = pa.table({"smiles": rows, "name": [f"n{i}" for i in range(10)]})
    out = tmp_path / f"out.{suffix}"
    config = DataConfig(on_bad_row="skip", id="name")
    written = embed_to_file(model, data, out, data_config=config)
    assert written.rows == 10
    assert written.status["ok"] == 9
    assert json.loads(json.dumps(written.to_json()))["rows"] == 10
    expected = embed(model, data, data_config=config)
    assert np.isnan(expected[5]).all()
    assert not np.isnan(np.delete(expected, 5, 0)).any()
    if suffix == "npy":
        np.testing.assert_array_equal(np.load(out), expected)
        return
    table = pd.read_parquet(out) if suffix == "parquet" else pd.read_csv(out)
    assert list(table.columns[:3]) == ["row", "name", "status"]
    assert table.row.tolist() == list(range(10))
    assert table.name.tolist() == [f"n{i}" for i in range(10)]
    assert table.status[5] == "is empty or missing"
    assert (table.status.drop(5) == "ok").all()
    if suffix == "parquet":
        assert pq.read_schema(out).field("embedding").type == pa.list_(pa.float32(), 16)
        assert table.embedding[5] is None
        found = np.stack(table.embedding.drop(5))
    else:
        assert table.columns[3:].tolist() == [f"e{i}" for i in range(16)]
        found = table.iloc[:, 3:].drop(5).to_numpy(np.float32)
    np.testing.assert_allclose(found, np.delete(expected, 5, 0), rtol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name]


def test_row_numbers_are_those_of_the_source(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path
) -> None:
    data = pa.table({"smiles": [*text[:6], ""], "part": list("abababa")})
    out = tmp_path / "out.parquet"
    config = DataConfig(column=("smiles",), where="part == 'a'", on_bad_row="skip")
    written = embed_to_file(model, data, out, data_config=config)
    table = pd.read_parquet(out)
    assert table.row.tolist() == [0, 2, 4, 6]
    assert written.status == {"ok": 3, "is empty or missing": 1}


def test_a_cut_run_is_taken_up_and_gives_the_same_bytes(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_ROWS", 10)
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    embed_to_file(model, text, whole)

    def kill(done: int, _: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_to_file(model, text, cut, progress=kill)
    assert not cut.exists()
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cut.parquet.parts").iterdir()}
    assert len(kept) == 4
    seen, told = {}, []

    def watch(done: int, _: int) -> None:
        told.append(done)
        parts = (tmp_path / "cut.parquet.parts").iterdir()
        seen.update({p.name: p.stat().st_mtime_ns for p in parts})

    written = embed_to_file(model, text, cut, progress=watch)
    assert written.taken_up == 30
    # What was there took no time now.
    assert told == [*range(30, len(text), 10), len(text)]
    assert {name: seen[name] for name in kept} == kept
    assert cut.read_bytes() == whole.read_bytes()


def test_shards_of_scores_serve_any_reference(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_ROWS", 10)
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"

    def kill(done: int, _: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_to_file(model, text, cut, progress=kill)
    score_to_file(model, text, whole, reference=1)
    assert score_to_file(model, text, cut, reference=1).taken_up == 20
    assert cut.read_bytes() == whole.read_bytes()


def test_shards_of_another_model_are_not_taken_up(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_ROWS", 10)
    out = tmp_path / "out.npy"

    def kill(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_to_file(drawn(text), text, out, progress=kill)
    assert embed_to_file(model, text, out).taken_up == 0
    np.testing.assert_allclose(np.load(out), embed(model, text), atol=1e-5)


@pytest.mark.parametrize("name", ["notes.txt", "plan.json"])
@pytest.mark.parametrize("content", ["precious", "{}", '{"rows": 3}'])
def test_a_folder_of_the_users_own_is_not_taken_for_shards(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path, name: str, content: str
) -> None:
    own = tmp_path / "out.npy.parts" / name
    own.parent.mkdir()
    embed_to_file(model, text[:2], tmp_path / "out.npy")
    own.parent.mkdir()
    own.write_text(content)
    with pytest.raises(FolderError, match=r"out\.npy\.parts holds something else .* rename it"):
        embed_to_file(model, text[:2], tmp_path / "out.npy", overwrite=True)
    assert own.read_text() == content
    own.rename(own.with_name(".staged-plan.json"))
    embed_to_file(model, text[:2], tmp_path / "out.npy", overwrite=True)


def test_existing_or_unknown_outputs_are_refused(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("precious")
    with pytest.raises(FolderError, match="exists"):
        embed_to_file(model, text, out)
    assert out.read_text() == "precious"
    with pytest.raises(UserInputError, match=r"expected \.parquet, \.csv, \.npy"):
        embed_to_file(model, text, tmp_path / "out.xlsx")
    embed_to_file(model, text, out, overwrite=True)
    assert out.read_text() != "precious"


def test_long_rows_are_refused_or_averaged_over_windows(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    limit = model.config.input.length
    long = "CN" * limit
    with pytest.raises(DataError, match="too long"):
        embed(model, [long])
    found = embed(model, [text[0], long], data_config=DataConfig(too_long="window"))
    np.testing.assert_allclose(found[0], embed(model, text[:1])[0], atol=1e-6)
    tokens = torch.tensor([[*(byte + 6 for byte in long.encode()), 5]])
    spare = 2 * limit + 1 - limit
    starts = [0, spare // 2, spare]
    with torch.no_grad():
        parts = [model.encode(tokens[:, s : s + limit]).latents.mean(1) for s in starts]
    np.testing.assert_allclose(found[1], torch.cat(parts).mean(0), atol=1e-5)


def test_long_rows_of_an_array_are_refused_or_averaged_over_windows() -> None:
    series = np.random.default_rng(0).normal(size=(4, 20, 2))
    model = drawn(series[:, :12])
    with pytest.raises(DataError, match="each row has 20 inputs"):
        embed(model, series)
    found = embed(model, series, data_config=DataConfig(too_long="window"))
    parts = [embed(model, np.ascontiguousarray(series[:, s : s + 12])) for s in (0, 8)]
    np.testing.assert_allclose(found, np.mean(parts, 0), atol=1e-5)
    found = embed(model, series, data_config=DataConfig(too_long="truncate"))
    np.testing.assert_allclose(found, parts[0], atol=1e-6)


def test_one_row_with_one_missing_cell_is_embedded() -> None:
    table = pd.DataFrame({"a": np.arange(9) / 2, "b": np.arange(9) ** 2.0})
    model = drawn(table)
    row = pd.DataFrame({"a": [np.nan], "b": [4.0]})
    among = pd.concat([row, table], ignore_index=True)
    np.testing.assert_allclose(embed(model, row), embed(model, among)[:1], atol=1e-6)


@pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
def test_states_of_each_input(text: list[str], tmp_path: Path, encoder: str) -> None:
    model = drawn(text, encoder)
    out = tmp_path / "states.parquet"
    written = embed_to_file(model, [*text, ""], out, per_input=True, data_config=SKIP)
    said = any("is the decoder's state at its position" in note for note in written.notes)
    assert said == (encoder == "perceiver")
    states = pd.read_parquet(out).states
    assert states[len(text)] is None
    row = 7
    inputs = torch.tensor([[*(byte + 6 for byte in text[row].encode()), 5]])
    with torch.no_grad():
        encoded = model.encode(inputs)
        every = torch.arange(inputs.shape[1])[None]
        expected = encoded.latents
        if encoder == "perceiver":
            expected = model.decoder(encoded, every, model.embedding.positions)
    np.testing.assert_allclose(np.stack(states[row]), expected[0], atol=1e-5)
    with pytest.raises(UserInputError, match="Parquet"):
        embed_to_file(model, text, tmp_path / "states.npy", per_input=True)


def test_states_of_rows_in_windows_are_refused_before_anything_is_written(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_ROWS", 2)
    out, window = tmp_path / "states.parquet", DataConfig(too_long="window")
    with pytest.raises(UserInputError, match="choose --too-long truncate"):
        embed_to_file(model, [*text, "C" * 400], out, per_input=True, data_config=window)
    assert not list(tmp_path.iterdir())
    assert embed_to_file(model, text[:4], out, per_input=True, data_config=window).rows == 4


def test_states_of_a_table_leave_missing_cells_out(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).normal(size=(30, 5))
    model = drawn(cells)
    holed = cells[:4].copy()
    holed[1, 2] = np.nan
    out = tmp_path / "states.parquet"
    embed_to_file(model, holed, out, per_input=True)
    states = pd.read_parquet(out).states
    assert [vector is None for vector in states[1]] == [False, False, True, False, False]
    assert all(vector is not None for vector in states[0])


def test_a_perceiver_of_sets_has_no_states_of_its_members(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(30, 5, 3))
    dataset = open_data(points, DataConfig(positions="none"))
    sizes = {"kind": "perceiver", "width": 16, "depth": 2, "num_heads": 2, "num_latents": 4}
    config = parse(ModelConfig, {"input": dataset.input.model_dump(), "encoder": sizes})
    model = MaskedAutoencoder(config)
    model.data = dataset.preparation.to_json()
    with pytest.raises(UserInputError, match="no vector for each member"):
        embed_to_file(model, points, tmp_path / "states.parquet", per_input=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["bytes", "image"])
def test_a_shard_of_bad_rows_alone_has_no_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(stream, "SHARD_ROWS", 1)
    rows: Any = ["CCO", "", "C"]
    if kind == "image":
        rows = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(np.float32)
        rows[1, 0, 0] = np.nan
    model = drawn(np.delete(rows, 1, 0) if kind == "image" else ["CCO", "C"])
    out = tmp_path / "states.parquet"
    embed_to_file(model, rows, out, per_input=True, data_config=SKIP)
    states = pd.read_parquet(out).states
    assert [found is None for found in states] == [False, True, False]
    assert [len(states[row]) for row in (0, 2)] == ([16, 16] if kind == "image" else [4, 2])


def test_scores_are_the_loss_of_each_input_hidden_once(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    found = score(model, text, num_masks=50)
    # With as many masks as inputs, each input is hidden alone: the order does not matter.
    for row in (0, 17, 60):
        inputs = torch.tensor([[*(byte + 6 for byte in text[row].encode()), 5]])
        count = inputs.shape[1]
        losses = []
        for hidden in range(count):
            masked = torch.zeros(1, count, dtype=torch.bool)
            masked[0, hidden] = True
            losses.append(model(inputs, masked=masked).loss.item())
        assert found[row] == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize(("ratio", "num_masks"), [(0.3, 3), (0.1, 10), (0.4, 2), (0.9, 2)])
def test_scoring_hides_each_input_once_in_about_the_share_that_pretraining_hid(
    ratio: float,
    num_masks: int,
    model: MaskedAutoencoder,
    text: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masking = model.config.masking.model_copy(update={"ratio": ratio})
    other = copy.deepcopy(model)
    other.config = model.config.model_copy(update={"masking": masking})
    given, forward = [], MaskedAutoencoder.forward

    def spy(
        self: MaskedAutoencoder,
        inputs: torch.Tensor,
        valid: torch.Tensor | None = None,
        masked: torch.Tensor | None = None,
    ) -> object:
        given.append(masked)
        return forward(self, inputs, valid, masked)

    monkeypatch.setattr(MaskedAutoencoder, "forward", spy)
    score(other, text[-1:])
    masks = torch.cat(given)
    assert masks.shape == (num_masks, 38)
    assert masks.sum(0).tolist() == [1] * 38
    counts = masks.sum(1)
    assert counts.max() - counts.min() <= 1


def test_the_score_of_a_row_does_not_depend_on_its_company(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    together = score(model, text)
    for row in (0, 17, 60):
        assert score(model, text[row : row + 1])[0] == pytest.approx(together[row], abs=1e-5)


def test_scores_follow_the_seed_and_equal_rows_score_alike(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    first = score(model, [*text, text[0]])
    assert first[0] == pytest.approx(first[-1], abs=1e-6)
    np.testing.assert_array_equal(first, score(model, [*text, text[0]]))
    assert (score(model, text, seed=1) != first[:-1]).any()
    with pytest.raises(UserInputError, match="at least 2"):
        score(model, text, num_masks=1)


def test_scores_against_a_reference(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path
) -> None:
    plain = score(model, text)
    score_to_file(model, text, tmp_path / "a.csv", reference=3)
    table = pd.read_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(table.difference, plain - plain[3], atol=1e-5)
    assert table.inputs.tolist() == [len(row) + 1 for row in text]
    score_to_file(model, text, tmp_path / "b.csv", reference=text[3])
    assert pd.read_csv(tmp_path / "b.csv").difference[3] == pytest.approx(0, abs=1e-5)
    with pytest.raises(UserInputError, match=r"need a column of their own"):
        score_to_file(model, text, tmp_path / "a.npy", reference=3)
    long = DataConfig(too_long="truncate")
    score_to_file(model, text, tmp_path / "d.csv", reference="C" * 999, data_config=long)
    for odd in ("", "C" * 999):
        with pytest.raises(UserInputError, match=rf"^the reference '{odd}' is no row of its own"):
            score_to_file(model, text, tmp_path / "c.csv", reference=odd)
    for absent in (999, -1):
        with pytest.raises(UserInputError, match=f"reference row {absent}"):
            score_to_file(model, text, tmp_path / "c.csv", reference=absent)


def test_a_reference_may_be_named_by_its_id(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path
) -> None:
    data = pa.table({"smiles": text, "name": ["wt", *(f"v{n % 2}" for n in range(1, len(text)))]})
    named = DataConfig(column=("smiles",), id="name")
    score_to_file(model, data, tmp_path / "a.csv", reference="wt", data_config=named)
    found = pd.read_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(found.difference, found.score - found.score[0], atol=1e-5)
    assert score_to_file(model, text, tmp_path / "c.csv", reference=np.int64(3)).rows == len(text)
    numbers = pa.table({"smiles": text, "name": np.arange(len(text))[::-1] + 1})
    told = score_to_file(model, numbers, tmp_path / "d.csv", reference=5, data_config=named).notes
    assert any(f"row number; of the id 5 is row {len(text) - 5}" in note for note in told)
    assert pd.read_csv(tmp_path / "d.csv").difference[5] == pytest.approx(0, abs=1e-5)
    last = len(text)  # no row's number
    score_to_file(model, numbers, tmp_path / "e.csv", reference=last, data_config=named)
    assert pd.read_csv(tmp_path / "e.csv").difference[0] == pytest.approx(0, abs=1e-5)
    with pytest.raises(UserInputError, match="rows have the id 'v1'; name the one"):
        score_to_file(model, data, tmp_path / "b.csv", reference="v1", data_config=named)


def test_a_reference_string_unlike_the_training_data_is_told(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path
) -> None:
    told = score_to_file(model, text, tmp_path / "a.csv", reference="@@@").notes
    assert any(note.startswith("the reference '@@@': ") and "b'@'"[1:] in note for note in told)
    assert not score_to_file(model, text, tmp_path / "b.csv", reference=text[0]).notes


def test_data_are_opened_once_for_a_reference_among_them(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, real = [], open_data

    def spy(data: object, *asked: Any, **settings: Any) -> Any:
        opened.append(data)
        return real(data, *asked, **settings)

    monkeypatch.setattr("anymae.inference.rows.open_data", spy)
    score_to_file(model, text, tmp_path / "a.csv", reference=3)
    assert opened == [text]


def test_scores_of_windows_tell_the_inputs_of_the_whole_row(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path
) -> None:
    limit = model.config.input.length
    long = ["CN" * limit, "CNO" * limit, "CNO" * (limit // 2)]
    rows, windows = [*text, *long], DataConfig(too_long="window")
    score_to_file(model, rows, tmp_path / "a.csv", data_config=windows)
    table = pd.read_csv(tmp_path / "a.csv")
    assert table.inputs.tolist() == [len(row) + 1 for row in rows]
    # The score itself stays the mean over the windows.
    spare = 2 * limit + 1 - limit
    parts = [long[0][start : start + limit] for start in (0, spare // 2)]
    with torch.no_grad():
        batches = [torch.tensor([[byte + 6 for byte in part.encode()]]) for part in parts]
        batches.append(torch.tensor([[*(b + 6 for b in long[0][spare:].encode()), 5]]))
        of = Scores(model)
        sums = torch.cat([of(Batch(b, None, torch.zeros(1, dtype=torch.int64))) for b in batches])
    expected = float(sums[:, 0].sum() / sums[:, 1].sum())
    assert table.score[len(text)] == pytest.approx(expected, abs=1e-5)


def test_a_row_with_one_input_has_no_score(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).normal(size=(30, 3))
    model = drawn(cells)
    cells[2, 1:] = np.nan
    found = score(model, cells)
    assert np.isnan(found[2])
    assert not np.isnan(np.delete(found, 2)).any()
    score_to_file(model, cells, tmp_path / "a.parquet")
    assert pd.read_parquet(tmp_path / "a.parquet").inputs[2] == 1
    with pytest.raises(UserInputError, match="reference 2 has one input and so no score"):
        score_to_file(model, cells, tmp_path / "b.parquet", reference=2)
    with pytest.raises(UserInputError, match="'xx' is a string and the run reads table inputs"):
        score_to_file(model, cells, tmp_path / "b.parquet", reference="xx")
    assert not list(tmp_path.glob("b.parquet*"))


TASKS = {
    "regression": TaskConfig(
        type="regression", targets=("a", "b"), mean=(5.0, -1.0), std=(2.0, 0.1)
    ),
    "binary": TaskConfig(type="binary", targets=("toxic",), classes=("no", "yes")),
    "multiclass": TaskConfig(type="multiclass", targets=("fold",), classes=("x", "y", "z")),
    "multilabel": TaskConfig(type="multilabel", targets=("a", "b", "c")),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_predictions_say_what_the_network_says(
    model: MaskedAutoencoder, text: list[str], task: TaskConfig, tmp_path: Path
) -> None:
    predictor = Predictor.from_pretrained(model, task)
    with torch.no_grad():
        predictor.output.weight.normal_()
        outputs = predictor.eval()(torch.tensor([[*(b + 6 for b in text[2].encode()), 5]]))[0]
    found = predict(predictor, text)
    match task.type:
        case "regression":
            expected = outputs * torch.tensor([2.0, 0.1]) + torch.tensor([5.0, -1.0])
            names = ["predicted_a", "predicted_b"]
        case "binary":
            expected = torch.stack([1 - outputs.sigmoid(), outputs.sigmoid()]).squeeze(1)
            names = ["predicted_toxic", "probability_no", "probability_yes"]
        case "multiclass":
            expected = outputs.softmax(0)
            names = ["predicted_fold", "probability_x", "probability_y", "probability_z"]
        case _:
            expected = outputs.sigmoid()
            names = ["probability_a", "probability_b", "probability_c"]
    np.testing.assert_allclose(found.mean[2], expected, atol=1e-5)
    assert found.table.column_names == ["row", "status", *names]
    if task.classes:
        best = task.classes[int(expected.argmax())]
        assert found.classes[2] == found.table[names[0]][2].as_py() == best
    else:
        with pytest.raises(UserInputError, match=f"a {task.type} model answers without classes"):
            _ = found.classes
    predict_to_file(predictor, [*text, ""], tmp_path / "p.parquet", data_config=SKIP)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.slice(0, len(text)).select(names).equals(found.table.select(names))
    assert all(table[name][len(text)].as_py() is None for name in names)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "npy"])
@pytest.mark.parametrize("members", [1, 2])
def test_predictions_far_from_zero_keep_their_digits(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path, suffix: str, members: int
) -> None:
    """Seconds since 1970, which float32 counts by 128."""
    far = TaskConfig(type="regression", targets=("y",), mean=(1.7e9,), std=(10.0,))
    near = far.model_copy(update={"mean": (0.0,)})
    each = [Predictor.from_pretrained(model, far) for _ in range(members)]
    asked: Any = Ensemble(each) if members > 1 else each[0]
    found = predict(asked, text)
    for one in each:
        one.task = near
    if members > 1:
        asked.task = near.model_copy(update={"members": members})
    expected = predict(asked, text)
    assert np.ptp(expected.mean) > 1e-3
    np.testing.assert_allclose(found.mean - 1.7e9, expected.mean, atol=1e-6)
    if members > 1:
        np.testing.assert_allclose(found.std, expected.std, atol=1e-6)  # type: ignore[arg-type]
    asked.task = asked.task.model_copy(update={"mean": (1.7e9,)})
    out = tmp_path / f"out.{suffix}"
    predict_to_file(asked, text, out)
    if suffix == "npy":
        written = np.load(out)[:, 0]
        assert written.dtype == np.dtype("<f8")
    else:
        read: Any = {"parquet": pd.read_parquet, "csv": pd.read_csv}[suffix]
        written = read(out)["predicted_y"].to_numpy()
    np.testing.assert_allclose(written, found.mean[:, 0], rtol=0, atol=1e-6)


def test_an_ensemble_answers_with_mean_and_spread(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    members = [Predictor.from_pretrained(model, TASKS["binary"]) for _ in range(3)]
    found = predict(Ensemble(members), text)
    single = np.stack([predict(member, text).mean for member in members])
    np.testing.assert_allclose(found.mean, single.mean(0), atol=1e-6)
    assert found.std is not None
    np.testing.assert_allclose(found.std, single.std(0, ddof=1), atol=1e-6)
    assert "probability_yes_std" in found.table.column_names
    with pytest.raises(UserInputError, match="ensemble of 3"):
        embed(Ensemble(members), text)


def test_a_spread_never_takes_the_place_of_a_target(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    task = TaskConfig(type="regression", targets=("y", "y_std"), mean=(0.0, 5.0), std=(1.0, 2.0))
    members = [Predictor.from_pretrained(model, task) for _ in range(2)]
    found = predict(Ensemble(members), text)
    names = ["predicted_y", "predicted_y_std_", "predicted_y_std", "predicted_y_std_std"]
    assert found.table.column_names == ["row", "status", *names]
    expected = np.stack([found.mean[:, 0], found.std[:, 0], found.mean[:, 1], found.std[:, 1]])  # type: ignore[index]
    np.testing.assert_array_equal([found.table[name].to_numpy() for name in names], expected)


def test_models_are_refused_for_what_they_cannot_do(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    with pytest.raises(UserInputError, match="anymae finetune"):
        predict(model, text)
    with pytest.raises(UserInputError, match="pretraining run"):
        score(Predictor.from_pretrained(model, TASKS["binary"]), text)


def test_a_model_without_its_data_reads_bytes_only(
    model: MaskedAutoencoder, text: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embed(model, text)
    monkeypatch.setattr(model, "data", None)
    np.testing.assert_array_equal(embed(model, text), expected)
    cells = drawn(np.random.default_rng(0).normal(size=(30, 3)))
    cells.data = None
    with pytest.raises(UserInputError, match=r"no data\.json"):
        embed(cells, np.zeros((2, 3)))


def test_bf16_is_close_and_unknown_devices_are_refused(
    model: MaskedAutoencoder, text: list[str]
) -> None:
    exact = embed(model, text)
    rough = embed(model, text, config=ComputeConfig(precision="bf16"))
    assert not np.array_equal(rough, exact)
    assert np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()
    with pytest.raises(UserInputError, match="not on this machine"):
        embed(model, text, config=ComputeConfig(device="cuda:99"))


@pytest.mark.parametrize("fastest", ["fp32", "bf16"])
def test_the_precision_auto_is_the_faster_one_and_known_by_its_name(
    model: MaskedAutoencoder,
    text: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fastest: Literal["fp32", "bf16"],
) -> None:
    monkeypatch.setattr(stream, "SHARD_ROWS", 10)
    monkeypatch.setattr("anymae.inference.compute.fastest_precision", lambda device: fastest)

    def kill(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    out = tmp_path / "out.npy"
    with pytest.raises(KeyboardInterrupt):
        embed_to_file(model, text, out, config=ComputeConfig(precision="auto"), progress=kill)
    named = ComputeConfig(precision=fastest)
    assert embed_to_file(model, text, out, config=named).taken_up == 10
    chosen = embed(model, text, config=ComputeConfig(precision="auto"))
    np.testing.assert_array_equal(chosen, embed(model, text, config=named))
    other = embed(
        model, text, config=ComputeConfig(precision="bf16" if fastest == "fp32" else "fp32")
    )
    assert not np.array_equal(chosen, other)


def test_data_unlike_the_training_data_are_named(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path
) -> None:
    assert embed_to_file(model, text, tmp_path / "a.npy").notes == ()
    written = embed_to_file(model, [*text, "xyz"], tmp_path / "b.npy")
    assert written.notes == (
        "the data look unlike the training data: 3 bytes did not occur in training: 'x', 'y', 'z'",
    )
    short = embed_to_file(model, ["C" * 39] * 50, tmp_path / "c.npy")
    assert "rows have 40 inputs in the median" in short.notes[0]


def test_the_median_reconstruction_is_compared_with_that_of_the_training(
    model: MaskedAutoencoder, text: list[str], tmp_path: Path
) -> None:
    each = score(model, text)
    median = float(np.nanmedian(each))
    assert model.data is not None
    made = copy.deepcopy(model)
    # A few odd rows move the mean and not the median.
    trained = {"fits": median, "is exceeded": median / 2}
    for name, typical in trained.items():
        made.data = {**model.data, "median_score": typical}
        save(made, tmp_path / name)
        for given in (made, tmp_path / name):
            out = tmp_path / "out.npy"
            notes = embed_to_file(given, text, out, overwrite=True).notes
            named = f"{median:.3g} an input in the median row; in the median validation row"
            assert any(named in note for note in notes) == (name == "is exceeded")
    assert embed_to_file(model, text, tmp_path / "unknown.npy").notes == ()
    predictor = Predictor.from_pretrained(made, TaskConfig(type="multilabel", targets=("a",)))
    assert predict_to_file(predictor, text, tmp_path / "answers.npy").notes == ()


@pytest.mark.parametrize("function", [embed, predict, score])
def test_unlike_data_in_memory_are_warned_of_where_they_are_given(
    function: Callable[..., object], model: MaskedAutoencoder, text: list[str]
) -> None:
    given: object = model
    if function is predict:
        given = Predictor.from_pretrained(model, TaskConfig(type="multilabel", targets=("a",)))
    with pytest.warns(AnymaeWarning) as told:
        function(given, ["C" * 39, "xC" * 19] * 10)
    assert [str(one.message).partition(": ")[2] for one in told] == [
        "1 bytes did not occur in training: 'x'",
        "rows have 39.5 inputs in the median; 98 % of the training rows had 2 to 33",
    ]
    assert {one.filename for one in told} == {__file__}


@pytest.mark.parametrize("function", [embed, score])
def test_categories_that_training_lacked_are_warned_of(function: Callable[..., object]) -> None:
    columns = {"kind": ["a", "b", "c"] * 8, "x": np.arange(24) / 7}
    trained = drawn(columns)
    with pytest.warns(AnymaeWarning, match="'kind': 1 cells hold categories that are not among"):
        function(trained, {"kind": ["a", "z"], "x": [0.5, 0.7]})


def test_white_space_that_is_stripped_is_no_warning(model: MaskedAutoencoder) -> None:
    assert embed(model, ["CCO ", "CCC"]).shape[0] == 2


def test_a_csv_file_has_no_cells_for_ids_that_are_lists(
    model: MaskedAutoencoder, tmp_path: Path
) -> None:
    data = pa.table({"smiles": ["CCO", "CC"], "tags": [["a"], ["b", "c"]]})
    read = {"column": "smiles", "id": "tags"}
    with pytest.raises(DataError, match=r"'tags' holds lists, .* name a .parquet file"):
        embed_to_file(model, data, tmp_path / "out.csv", data_config=read)
    embed_to_file(model, data, tmp_path / "out.parquet", data_config=read)
    assert pq.read_table(tmp_path / "out.parquet")["tags"].to_pylist() == [["a"], ["b", "c"]]


def test_keys_say_how_data_are_read(model: MaskedAutoencoder) -> None:
    data = {"one": ["CCO", ""], "two": ["C", "N"]}
    found = embed(model, data, data_config={"column": "one", "on_bad_row": "skip"})
    assert np.isnan(found[1]).all()
    with pytest.raises(ConfigError, match="data_config: unknown key 'colum'; did you mean"):
        embed(model, data, data_config={"colum": "one"})


@pytest.mark.parametrize("name", ["row", "status"])
def test_an_id_column_named_like_an_output_is_refused(
    model: MaskedAutoencoder, tmp_path: Path, name: str
) -> None:
    data = pd.DataFrame({"smiles": ["CCO", "CC"], name: ["a", "b"]})
    with pytest.raises(DataError, match="as a column of every output"):
        embed_to_file(
            model, data, tmp_path / "out.csv", data_config=DataConfig(column=("smiles",), id=name)
        )


def test_shards_of_other_columns_are_not_taken_up(
    model: MaskedAutoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pd.DataFrame({"one": ["CCO", "CC"] * 40, "two": ["OO", "NNN"] * 40})
    out = tmp_path / "out.npy"
    monkeypatch.setattr(stream, "SHARD_ROWS", 30)
    first, second = (DataConfig(column=(name,)) for name in ("one", "two"))

    def cut(done: int, rows: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_to_file(model, data, out, data_config=first, progress=cut)
    assert embed_to_file(model, data, out, data_config=second).taken_up == 0
    np.testing.assert_array_equal(np.load(out), embed(model, data, data_config=second))


def test_an_output_that_is_called_like_another_is_kept(
    model: MaskedAutoencoder, tmp_path: Path
) -> None:
    task = TaskConfig(type="regression", targets=("y", "y_"), mean=(0.0, 0.0), std=(1.0, 1.0))
    predictor = Predictor.from_pretrained(model, task)
    data = pd.DataFrame({"smiles": ["CCO", "CC"], "predicted_y": ["a", "b"]})
    config = DataConfig(column=("smiles",), id="predicted_y")
    out = tmp_path / "out.parquet"
    predict_to_file(predictor, data, out, data_config=config)
    table = pq.read_table(out)
    assert table.column_names == ["row", "predicted_y", "status", "predicted_y__", "predicted_y_"]
    mean = predict(predictor, data, data_config=config).mean
    for place, name in enumerate(("predicted_y__", "predicted_y_")):
        np.testing.assert_allclose(table[name].to_numpy(), mean[:, place], rtol=1e-6)


def test_weights_that_a_device_has_no_memory_for_are_one_sentence(
    model: MaskedAutoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = []

    def full(self: MaskedAutoencoder, *_: object) -> MaskedAutoencoder:
        moves.append(self)
        if len(moves) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self

    with monkeypatch.context() as patched:
        patched.setattr(MaskedAutoencoder, "to", full)
        with pytest.raises(OutOfMemoryError, match="out of memory on cpu for the weights"):
            embed(model, ["CCO"], config=ComputeConfig(device="cpu"))
    assert len(moves) == 2, "what was moved by then goes back"


def test_an_unknown_reading_is_one_sentence(model: MaskedAutoencoder) -> None:
    with pytest.raises(UserInputError, match="expected mean or layers or kernel"):
        embed(model, ["CCO"], reading="median")  # type: ignore[arg-type]


def test_bad_rows_have_no_class(model: MaskedAutoencoder) -> None:
    task = TaskConfig(type="binary", targets=("y",), classes=("no", "yes"))
    predictor = Predictor.from_pretrained(model, task)
    found = predict(predictor, ["CCO", ""], data_config=DataConfig(on_bad_row="skip"))
    assert found.classes[0] in task.classes and found.classes[1] is None


def test_a_window_without_values_has_no_say() -> None:
    series = np.random.default_rng(0).normal(size=(30, 8, 2)).astype(np.float32)
    model = drawn(series)
    padded = np.full((2, 24, 2), np.nan, np.float32)
    padded[:, :8] = series[:2]
    padded[1, 8:] = series[2:4].reshape(16, 2)
    window = DataConfig(too_long="window")
    alone, found = (embed(model, rows, data_config=window) for rows in (padded[:, :8], padded))
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-5, atol=1e-6)
    assert np.isfinite(score(model, padded, data_config=window)).all()


def test_single_rows_are_not_called_short(model: MaskedAutoencoder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed(model, ["C" * 39])
    with pytest.warns(AnymaeWarning, match="inputs in the median"):
        embed(model, ["C" * 39] * 30)


def starving(most: int, tried: list[int]) -> Any:
    """A computation for which more than `most` rows at once are too many."""
    compute = Embeddings.__call__

    def call(self: Embeddings, batch: Batch) -> torch.Tensor:
        tried.append(len(batch.rows))
        if len(batch.rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(self, batch)

    return call


@pytest.mark.parametrize("named", [None, 400])
def test_where_memory_runs_out_smaller_batches_go_on(
    model: MaskedAutoencoder,
    text: list[str],
    named: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config, tried = ComputeConfig(device="cpu", batch_inputs=named), []
    whole = embed(model, text, config=config)
    monkeypatch.setattr(Embeddings, "__call__", starving(3, tried))
    found = embed(model, text, config=config)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
    assert sum(rows for rows in tried if rows <= 3) == len(text), "a row was computed twice"
    assert (tried[0] < len(text)) is (named is not None), "not begun with what was asked for"
    said = [record.message for record in caplog.records if "memory" in record.message]
    assert len(said) == 1
    assert re.search(r"ran out; .* in batches of at most \d+ inputs", said[0])
    caplog.clear()
    monkeypatch.setattr("anymae.inference.stream.SHARD_ROWS", 10)
    embed_to_file(model, text, tmp_path / "out.npy", config=config)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), whole, rtol=1e-5, atol=1e-6)
    assert sum("memory" in record.message for record in caplog.records) <= 2, "at each shard"


def test_a_single_row_that_does_not_fit_is_told_without_flags_of_other_verbs(
    model: MaskedAutoencoder, text: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Embeddings, "__call__", starving(0, []))
    with pytest.raises(OutOfMemoryError, match=r"a single row, of at most \d+ inputs; ") as caught:
        embed(model, text, config=ComputeConfig(device="cpu"))
    assert "--" not in str(caught.value)


def cut_after_a_shard(done: int, rows: int) -> None:
    if done:
        raise Cut


@pytest.mark.parametrize("other", [{"seed": 1}, {"num_masks": 5}])
def test_shards_of_other_masks_or_seeds_are_not_taken_up(
    other: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_ROWS", 10)
    texts = strings(30)
    model, out, whole = pretrained(texts, spread=0.2), tmp_path / "cut.csv", tmp_path / "w.csv"
    with pytest.raises(Cut):
        score_to_file(model, texts, out, progress=cut_after_a_shard)
    assert score_to_file(model, texts, out, **other).taken_up == 0
    score_to_file(model, texts, whole, **other)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("turn", "reading"), [(-1, "mean"), (1, "layers")])
def test_shards_of_other_rows_or_another_reading_are_not_taken_up(
    turn: int, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_ROWS", 10)
    texts, out = strings(30), tmp_path / "out.npy"
    model, asked = pretrained(texts), texts[::turn]
    with pytest.raises(Cut):
        embed_to_file(model, texts, out, progress=cut_after_a_shard)
    assert embed_to_file(model, asked, out, reading=reading).taken_up == 0
    np.testing.assert_allclose(np.load(out), embed(model, asked, reading=reading), atol=1e-5)


def test_rows_shorter_than_those_of_the_training_are_told(tmp_path: Path) -> None:
    texts = strings(60, shortest=6)
    notes = embed_to_file(pretrained(texts), ["C"] * 30, tmp_path / "out.npy").notes
    assert any("rows have 2 inputs in the median" in note for note in notes)
