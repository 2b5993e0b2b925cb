"""Examples show what was hidden and guessed, in the user's units; pages hold everything inside."""

import itertools
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymae.config import NUM_SPECIAL, SEP, DataConfig
from anymae.data.batch import Batch
from anymae.data.dataset import Dataset, open_data
from anymae.errors import UserInputError
from anymae.evaluation import store
from anymae.hub import save
from anymae.model import MaskedAutoencoder
from anymae.report.examples import Example, co_masking, reconstruct, reconstruct_rows
from anymae.report.figures import curves, matrix, seen_and_filled, series_grid, strips
from anymae.report.page import Block, render_page, write_page
from anymae.report.rows import _word, as_html, as_text, cells, characters, pictures
from anymae.report.runs import example_blocks, write_report
from anymae.report.show import show_rows
from anymae.training.log import read_metrics
from runs import Cut, cut_at, small, strings, tuned
from tiny import tiny_config, tiny_inputs

PNG = b"\x89PNG\r\n"
STRINGS = open_data(["CCO"]).preparation


def example(text: str, hidden: set[int], guesses: dict[int, str]) -> Example:
    """A row of bytes in which the bytes `hidden` are guessed as in `guesses`."""
    tokens = np.array([byte + NUM_SPECIAL for byte in text.encode()] + [SEP])
    filled = tokens.copy()
    for place, guess in guesses.items():
        filled[place] = guess.encode()[0] + NUM_SPECIAL
    masked = np.isin(np.arange(len(tokens)), list(hidden))
    return Example(3, tokens, np.ones(len(tokens), bool), masked, filled, 0.5)


@pytest.mark.parametrize("kind", ["bytes", "values", "table", "image"])
def test_visible_inputs_are_shown_as_they_are_and_hidden_ones_as_guessed(kind: str) -> None:
    model = MaskedAutoencoder(tiny_config(kind)).eval()
    inputs = tiny_inputs(model.config, 4)
    rows = torch.tensor([5, 2, 9, 1])
    examples = reconstruct(model, Batch(inputs, None, rows), seed=3)
    assert [e.row for e in examples] == rows.tolist()
    for number, shown in enumerate(examples):
        assert np.array_equal(shown.inputs, inputs[number])
        assert np.array_equal(shown.filled[~shown.masked], shown.inputs[~shown.masked])
        masked = torch.from_numpy(shown.masked)[None]
        with torch.no_grad():
            out = model(inputs[number : number + 1], masked=masked)
        assert shown.loss == pytest.approx(float(out.loss), rel=1e-4)
        guess = out.predictions
        if kind == "bytes":
            assert np.array_equal(shown.filled[shown.masked], guess.argmax(-1))
        elif kind == "table":
            for place, value in zip(shown.masked.nonzero()[0], guess, strict=True):
                is_category = model.config.input.categories[place] > 0
                expected = float(value.argmax()) if is_category else float(value[0])
                assert float(shown.filled[place, 0]) == pytest.approx(expected, abs=1e-5)
        else:
            np.testing.assert_allclose(shown.filled[shown.masked], guess, atol=1e-5)


def test_guesses_of_a_set_stand_beside_the_members_that_they_fit() -> None:
    config = tiny_config("values", length=9)
    config = config.model_copy(
        update={"input": config.input.model_copy(update={"positions": "none"})}
    )
    model = MaskedAutoencoder(config).eval()
    valid = torch.ones(3, 9, dtype=torch.bool)
    valid[2, 6:] = False
    inputs = tiny_inputs(config, 3)
    for shown in reconstruct(model, Batch(inputs, valid, torch.arange(3)), seed=1):
        members, guesses = shown.inputs[shown.masked], shown.filled[shown.masked]
        with torch.no_grad():
            one = inputs[shown.row : shown.row + 1]
            masked = torch.from_numpy(shown.masked)[None]
            out = model(one, valid=valid[shown.row : shown.row + 1], masked=masked)
        slots = out.predictions.numpy()
        cost = np.square(members[:, None] - slots).sum(-1)
        best = min(
            itertools.permutations(range(len(members))),
            key=lambda order: sum(cost[i, j] for i, j in enumerate(order)),
        )
        assert len(members) > 1
        np.testing.assert_allclose(guesses, slots[list(best)], atol=1e-5)


def test_a_rows_mask_depends_on_its_number_and_the_seed_alone() -> None:
    model = MaskedAutoencoder(tiny_config()).eval()
    inputs = tiny_inputs(model.config, 3)
    together = reconstruct(model, Batch(inputs, None, torch.tensor([0, 1, 2])), seed=1)
    alone = reconstruct(model, Batch(inputs[2:], None, torch.tensor([2])), seed=1)
    assert np.array_equal(together[2].masked, alone[0].masked)
    other = reconstruct(model, Batch(inputs[2:], None, torch.tensor([2])), seed=2)
    assert not np.array_equal(other[0].masked, alone[0].masked)


@pytest.mark.parametrize(("count", "said"), [(3, "standardised)"), (9, "first 3 of 9 numbers)")])
def test_a_series_says_which_of_its_numbers_are_drawn(
    count: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("anymae.report.figures.to_png", drawn.append)
    numbers, flags = np.zeros((4, count)), np.array([True, False, True, True])
    series_grid([Example(0, numbers, np.ones(4, bool), flags, numbers, 0.5)])
    assert drawn[0].axes[0].get_xlabel().endswith(said)


def test_a_character_of_several_bytes_is_hidden_where_any_of_them_is() -> None:
    pieces = characters(example("aéb", hidden={2}, guesses={2: "x"}))
    assert [piece.text for piece in pieces] == ["a", "é", "b", "¶"]
    assert [piece.hidden for piece in pieces] == [False, True, False, False]
    assert pieces[1].guess != "é"


def test_strings_are_shown_with_gaps_and_guesses() -> None:
    text = as_text([example("CCO", {0, 2}, {0: "N", 2: "O"})], STRINGS)
    assert "row 3: 2 of 4 inputs hidden, loss 0.500" in text
    assert "  row      CCO¶\n  hidden   ░C░¶\n  guessed  NCO¶" in text
    assert "1 of 2 hidden characters guessed right" in text


def test_a_guess_is_right_where_its_bytes_are_and_not_its_sign() -> None:
    row = example("a\x01b\x02c", {1, 3}, {1: "\x07", 3: "\x02"})
    row.inputs[4] = row.filled[4] = 0xFF + NUM_SPECIAL  # decodes to nothing
    assert [piece.right for piece in characters(row) if piece.hidden] == [False, True]
    assert "1 of 2 hidden characters guessed right" in as_text([row], STRINGS)
    html = as_html([row], STRINGS)
    assert html.count('class="right"') == html.count('class="wrong"') == 1


def test_html_is_escaped() -> None:
    html = as_html([example("<b>&", {0, 3}, {0: "<", 3: '"'})], STRINGS)
    assert '<span class="right">&lt;</span>b&gt;' in html
    assert '<span class="wrong" title="guessed &quot;">&amp;</span>' in html
    page = render_page("<x>", [Block(title="<t>", rows=[["<c>"]], columns=["<h>"], note="<n>")])
    for raw in ("<x>", "<t>", "<c>", "<h>", "<n>"):
        assert raw not in page


@pytest.fixture
def table(tmp_path: Path) -> Dataset:
    path = tmp_path / "t.csv"
    rows = "".join(
        f"{i},{'red' if i % 3 else 'blue'},{'' if i == 1 else i * 10}\n" for i in range(30)
    )
    path.write_text("size,colour,price\n" + rows)
    return open_data(str(path), DataConfig(column=("size", "colour", "price")))


def test_cells_are_shown_in_the_users_units(table: Dataset) -> None:
    from anymae.presets import build_config

    model = MaskedAutoencoder(build_config("tiny", table.input)).eval()
    examples = reconstruct(model, table.batch(np.array([0, 1, 4])))
    shown = [cells(e, table.preparation) for e in examples]
    assert [piece.name for piece in shown[0]] == ["size", "colour", "price"]
    assert [piece.text for piece in shown[0]] == ["0", "blue", "0"]
    assert shown[1][2].text == "missing"
    assert [piece.text for piece in shown[2]] == ["4", "red", "40"]
    hidden = [piece for row in shown for piece in row if piece.hidden]
    assert hidden
    html = as_html(examples, table.preparation)
    assert html.count("<table>") == 3
    assert html.count('class="hidden"') == len(hidden)
    assert "colour" in as_text(examples, table.preparation)


def test_cells_do_not_steer_the_terminal() -> None:
    from anymae.presets import build_config

    words = ["a\x1b[2Jb", "two\nlines"]
    dataset = open_data({"ci\x07ty": words * 20, "size": np.arange(40.0)}, DataConfig(kind="table"))
    model = MaskedAutoencoder(build_config("tiny", dataset.input)).eval()
    examples = reconstruct(model, dataset.batch(np.arange(2)))
    for example in examples:
        text = as_text([example], dataset.preparation)
        assert "\x1b" not in text and "\x07" not in text
        assert len(text.splitlines()) == 1 + 2


def test_pages_and_legends_take_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_page(tmp_path / "x.html", "caf\udce9", [])
    assert "caf?" in (tmp_path / "x.html").read_text()
    drawn: list[Any] = []
    monkeypatch.setattr("anymae.report.figures.to_png", lambda figure: drawn.append(figure) or b"")
    curves({"_old": ([0], [1.0]), "$new$": ([0], [2.0])}, x="step", y="loss")
    texts = drawn[0].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["_old", "$new$"]


def test_pictures_are_shown_in_the_users_units(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 4, 6), dtype=np.uint8)
    dataset = open_data(images, DataConfig(patch=2))
    from anymae.presets import build_config

    model = MaskedAutoencoder(build_config("tiny", dataset.input)).eval()
    examples = reconstruct(model, dataset.batch(np.array([5, 0, 12])))
    shown, hidden, filled = pictures(examples, dataset.preparation)
    np.testing.assert_allclose(shown[..., 0], images[[5, 0, 12]], atol=1e-3)
    assert hidden.shape == (3, 4, 6)
    assert [int(one.sum()) for one in hidden] == [4 * int(e.masked.sum()) for e in examples]
    np.testing.assert_allclose(filled[~hidden], shown[~hidden], atol=1e-3)
    text = as_text(examples, dataset.preparation)
    assert text.count("░") == hidden.sum()
    assert "data:image/png;base64" in as_html(examples, dataset.preparation)
    drawn: list[Any] = []
    monkeypatch.setattr("anymae.report.figures.to_png", lambda figure: drawn.append(figure) or b"")
    as_html(examples, dataset.preparation)
    above = [axis.get_title() for axis in drawn[0].axes]
    assert above == ["row 5", "row 0", "row 12", *[""] * 6]


def test_series_are_drawn() -> None:
    dataset = open_data(np.random.default_rng(0).normal(size=(9, 24, 3)))
    examples = reconstruct(
        MaskedAutoencoder(tiny_config("values")).eval(), dataset.batch(np.arange(2))
    )
    assert "data:image/png;base64" in as_html(examples, dataset.preparation)
    assert as_text(examples, dataset.preparation).count("\n  ") == 48


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each batch that a model computes from now on."""
    sizes: list[int] = []
    forward = MaskedAutoencoder.forward

    def spy(model: MaskedAutoencoder, inputs: torch.Tensor, *args: Any, **words: Any) -> Any:
        sizes.append(len(inputs))
        return forward(model, inputs, *args, **words)

    monkeypatch.setattr(MaskedAutoencoder, "forward", spy)
    return sizes


def test_of_strings_only_the_rows_shown_are_computed(tmp_path: Path, computed: list[int]) -> None:
    data = tmp_path / "x.txt"
    data.write_text("".join(f"{text}\n" for text in strings(40)))
    run = small(tmp_path / "run", data)
    computed.clear()
    write_report([run.folder])
    assert sum(computed) == 1  # all rows of the validation part
    computed.clear()
    assert show_rows(run.folder, data, tmp_path / "page.html") == 8
    assert sum(computed) == 8


def test_rows_are_counted_a_few_at_a_time(
    table: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    from anymae.presets import build_config

    monkeypatch.setattr("anymae.report.examples._AT_ONCE", 21)
    model = MaskedAutoencoder(build_config("tiny", table.input)).eval()
    model.data = table.preparation.to_json()
    save(model, tmp_path / "run")
    show_rows(tmp_path / "run", table.rows.frame.name, tmp_path / "page.html", count=2)
    assert computed == [7, 7, 7, 7, 2]
    assert "over 30 rows" in (tmp_path / "page.html").read_text()
    pieces = reconstruct_rows(model, table, np.arange(30), seed=1)
    whole = reconstruct(model, table.batch(np.arange(30)), seed=1)
    for one, other in zip(pieces, whole, strict=True):
        assert one.row == other.row
        assert np.array_equal(one.masked, other.masked)


def test_co_masking_counts_pairs_over_the_rows_that_have_both() -> None:
    random = np.random.default_rng(0)
    valid = random.random((12, 5)) < 0.7
    valid[:4, 3:] = False  # rows of three inputs
    valid[:, 0] = True
    masked = (random.random((12, 5)) < 0.5) & valid
    masked[:, 2] = False  # never hidden
    shown = [Example(0, m, v, m, m, 0.0) for m, v in zip(masked, valid, strict=True)]
    shown[:4] = [Example(0, m[:3], v[:3], m[:3], m[:3], 0.0)
                 for m, v in zip(masked[:4], valid[:4], strict=True)]  # fmt: skip
    found = co_masking(shown)
    for i in range(5):
        for j in range(5):
            rows = [m for m, v in zip(masked, valid, strict=True) if v[i] and v[j]]
            given = [m[j] for m in rows if m[i]]
            expected = np.mean(given) - np.mean([m[j] for m in rows]) if given else 0.0
            assert found[i, j] == pytest.approx(expected), (i, j)


def test_rows_of_many_lengths_hide_nothing_together_by_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    lengths = np.r_[random.integers(2, 9, 399), 8]
    shown = []
    for length in lengths:
        masked = random.random(length) < 0.5
        values = np.zeros((length, 1), np.float32)
        shown.append(Example(0, values, np.ones(length, bool), masked, values, 0.0))
    assert np.abs(co_masking(shown) - np.diag(np.full(8, 0.5))).max() < 0.2
    named: list[list[str]] = []

    def draw(values: Any, names: list[str], label: str) -> bytes:
        assert len(values) == 8
        named.append(list(names))
        return PNG

    monkeypatch.setattr("anymae.report.runs.matrix", draw)
    example_blocks(shown[:1], shown, open_data(random.normal(size=(9, 20, 1))).preparation)
    assert named == [[str(place) for place in range(8)]]


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    names = ["a$_$b", "US$", "c"]
    assert matrix(np.eye(3), names, "x").startswith(PNG)
    assert curves({"a$_$b": ([0, 1], [1.0, 2.0])}, x="step", y="loss").startswith(PNG)


def test_runs_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arm in ("guided", "random"):
        small(tmp_path / arm / "seed0", settings={"masking.kind": arm})
    drawn: list[str] = []

    def draw(lines: dict[str, Any], **words: str) -> bytes:
        drawn.extend(lines)
        return curves(lines, **words)

    monkeypatch.setattr("anymae.report.runs.curves", draw)
    monkeypatch.chdir(tmp_path)
    page = write_report(["guided/seed0", "random/seed0"], out="both.html").read_text()
    for name in ("guided/seed0", "random/seed0"):
        assert f">{name}</th>" in page
        assert {f"{name} train loss", f"{name} valid loss"} <= set(drawn)
    monkeypatch.chdir(tmp_path / "guided" / "seed0")
    assert "<title>seed0</title>" in write_report(["."]).read_text()
    with pytest.raises(UserInputError, match="--out"):
        write_report(["hf://owner/name"])


def test_hidden_pixels_are_blue_and_figures_are_png() -> None:
    picture = np.linspace(0, 1, 12).reshape(1, 3, 4, 1)
    hidden = np.zeros((1, 3, 4), bool)
    hidden[0, 1, 2] = True
    seen, filled = seen_and_filled(picture, hidden, 1 - picture)
    assert seen[0, 1, 2, 2] > seen[0, 1, 2, 0]
    np.testing.assert_allclose(seen[~hidden][:, 0], picture[~hidden][:, 0])
    np.testing.assert_allclose(filled[..., 0], 1 - picture[..., 0])
    assert strips({"a b": seen, "filled": filled}).startswith(PNG)


def written(path: Path, seed: int = 0) -> Path:
    """A file of strings."""
    path.write_text("".join(f"{text}\n" for text in strings(40, seed=seed)))
    return path


def test_rows_are_shown_only_of_the_file_that_the_run_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    data = written(Path("x.txt"))
    run = small(tmp_path / "run", data, steps=2).folder.resolve()
    monkeypatch.chdir(tmp_path / "b")
    written(Path("x.txt"), seed=1)
    assert "What is hidden" in write_report([run]).read_text()
    without = write_report([run], no_examples=True).read_text()
    assert "What is hidden" not in without and "Settings" in without
    written(tmp_path / "a" / "x.txt", seed=2)
    page = write_report([run]).read_text()
    assert "What is hidden" not in page
    assert "x.txt does not hold what the run was trained on; `anymae show`" in page


def test_rows_of_a_table_with_validation_file_are_those_of_the_run(tmp_path: Path) -> None:
    for seed, name in enumerate(("train.csv", "valid.csv")):
        rows = "".join(f"{i % 7 + seed},0{i},{'x' if i % 2 else 1}\n" for i in range(30))
        (tmp_path / name).write_text("size,code,word\n" + rows)
    valid = str(tmp_path / "valid.csv")
    run = small(tmp_path / "run", tmp_path / "train.csv", steps=2, valid=valid).folder
    assert "What is hidden" in write_report([run]).read_text()
    (tmp_path / "valid.csv").write_text("size,code,word\n1,01,x\n")
    assert "does not hold what the run was trained on" in write_report([run]).read_text()


def test_a_report_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small(tmp_path / "run", written(tmp_path / "x.txt"), steps=2).folder
    recipe = (run / "run.yaml").read_text().replace(str(tmp_path / "x.txt"), "https://x.org/x.txt")
    assert "https" in recipe
    (run / "run.yaml").write_text(recipe)
    monkeypatch.setattr("anymae.report.runs.open_data", None)
    page = write_report([run]).read_text()
    assert "fetches nothing, such as https://x.org/x.txt" in page
    assert "What is hidden" not in page


@pytest.mark.parametrize("cut", [1, 6, None])
def test_a_report_shows_no_rows_of_a_run_without_examples(tmp_path: Path, cut: int | None) -> None:
    """Cut before or after its first checkpoint, or told when all was done."""
    data = written(tmp_path / "x.txt")
    if cut is None:
        small(tmp_path / "run", data)
        run = small(tmp_path / "run", data, resume=True, no_examples=True).folder
    else:
        with pytest.raises(Cut):
            small(tmp_path / "run", data, no_examples=True, progress=cut_at(cut))
        run = small(tmp_path / "run", data, resume=True).folder
    page = write_report([run]).read_text()
    assert "No rows of run are shown: it was trained with --no-examples." in page
    assert "What is hidden" not in page


def test_data_that_cannot_be_split_leave_a_report_its_other_parts(tmp_path: Path) -> None:
    data = written(tmp_path / "x.txt")
    for name in ("one", "two"):
        small(tmp_path / name, data, steps=2)
    recipe = (tmp_path / "two" / "run.yaml").read_text()
    (tmp_path / "two" / "run.yaml").write_text(
        recipe.replace("data:\n", "data:\n  split_by: group\n")
    )
    page = write_report([tmp_path / "one", tmp_path / "two"], out=tmp_path / "r.html").read_text()
    assert "one: What is hidden" in page
    assert "No rows of two are shown: " in page


def test_pages_name_runs_as_users_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(tmp_path / "x.txt")
    run = small(tmp_path / "run", data, steps=2).folder
    (run / "run.yaml").unlink()
    monkeypatch.chdir(run)
    assert "No rows of run are shown" in write_report(["."]).read_text()
    show_rows(".", data, "page.html")
    assert "<title>run: masks of" in Path("page.html").read_text()
    monkeypatch.setattr("anymae.hub._download", lambda name: run)
    name = "hf://owner/molecules"
    page = write_report([name], out="hub.html", no_examples=True).read_text()
    assert f"<title>{name}</title>" in page and f"<th>{name}</th>" in page


def test_a_report_tells_how_a_run_was_trained_and_ended(tmp_path: Path) -> None:
    data = written(tmp_path / "x.txt")
    runs = [
        small(tmp_path / name, data, steps=steps).folder for name, steps in (("a", 2), ("b", 3))
    ]
    page = write_report(runs[:1]).read_text()
    assert "How it ended" in page and "<td>training.steps</td><td>2</td>" in page
    assert f"<td>data.path</td><td>{data.name}</td>" in page and 'alt=""' not in page
    end = read_metrics(runs[0] / "metrics.jsonl")[-1]
    assert f"<td>valid_loss</td><td>{end['valid_loss']:.4g}</td>" in page
    page = write_report(runs, out=tmp_path / "both.html").read_text()
    assert "<td>training.steps</td><td>2</td><td>3</td>" in page
    assert f"a: {end['words']}." in unescape(page)


def test_a_report_of_a_fine_tuned_model_tells_how_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tuned(tmp_path / "m", config={"seeds": 2})
    store(model.evaluations["valid"], tmp_path / "m" / "evaluation-new-all.json")
    (tmp_path / "m" / "evaluation-odd.json").write_text("{}")
    drawn: dict[str, Any] = {}

    def draw(lines: dict[str, Any], **words: str) -> bytes:
        drawn.update(lines)
        return curves(lines, **words)

    monkeypatch.setattr("anymae.report.finetuned.curves", draw)
    page = write_report([tmp_path / "m"]).read_text()
    rate = f"<td>{model.learning_rate:g}</td>"
    for words in ("Fine-tuning", "y (regression)", "81 train, 9 valid", "0.001: ", rate):
        assert words in page
    assert f"<td>{model.valid_loss:.4g}</td>" in page
    assert set(drawn) == {"seed 0", "seed 1"}
    assert list(drawn["seed 1"][0]) == [look[0] for look in model.history[1]["looks"]]
    assert page.count(f"<td>{model.evaluations['valid'].overall['rmse']}</td>") == 2
    assert (
        "<td>evaluation-new-all.json: " in page
        and "evaluation-odd.json holds no evaluation" in page
    )
    weighted = replace(
        model.evaluations["valid"], weight="w", groups={"a": {}}, group_rows={"a": 4}
    )
    store(weighted, tmp_path / "m" / "evaluation-new-all.json")
    page = write_report([tmp_path / "m"]).read_text()
    assert "weighted by w." in page
    assert "<td>group a</td><td>4</td>" in page
    assert "<td>finetune.seeds</td><td>2</td>" in page and "masking." not in page
    (tmp_path / "m" / "finetune.json").write_text("{}")
    page = write_report([tmp_path / "m"]).read_text()
    assert "Settings" in page and "Nothing of the fine-tuning of m is shown" in page


def test_a_number_that_is_nothing_has_no_sign() -> None:
    assert [_word(number) for number in (-0.0, -1e-9, 0.25)] == ["0", "-1e-09", "0.25"]
