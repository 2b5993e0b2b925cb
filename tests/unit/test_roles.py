"""Which column is what: the inference rule, roles and their explanations."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from anymae.config import NUM_SPECIAL, DataConfig
from anymae.data.dataset import open_data
from anymae.data.frame import Frame
from anymae.data.roles import Roles, resolve_roles
from anymae.data.sources import read_source
from anymae.errors import DataError

WORDS = [f"word{i}" for i in range(12)]
FEW = ["red", "blue", "red"] * 4
NUMBERS = np.linspace(0.0, 1.0, 12)


def roles_of(columns: dict[str, object], **config: object) -> Roles:
    settings = DataConfig.model_validate(config)
    return resolve_roles(read_source(pa.table(columns), settings), settings)


def reasons(roles: Roles) -> dict[str, str]:
    return {left.column: left.reason for left in roles.left_out}


@pytest.mark.parametrize("name", ["smiles", "SMILES", "Sequence", "seq", "text", "sentence"])
def test_string_column_of_a_known_name_is_the_input(name: str) -> None:
    roles = roles_of({"a": NUMBERS, name: FEW, "other": WORDS})
    assert (roles.kind, roles.inputs) == ("bytes", (name,))
    assert reasons(roles) == {"a": "not the input column", "other": "not the input column"}


def test_single_column_of_mostly_distinct_strings_is_the_input() -> None:
    roles = roles_of({"a": NUMBERS, "colour": FEW, "words": WORDS})
    assert (roles.kind, roles.inputs) == ("bytes", ("words",))


def test_strings_of_digits_are_treated_as_the_integers_they_name() -> None:
    codes = [f"{i:04}" for i in range(12)]
    roles = roles_of({"a": NUMBERS, "patient": codes, "zip": codes[:6] * 2})
    assert (roles.kind, roles.inputs) == ("table", ("a", "zip"))
    assert reasons(roles) == {"patient": "an integer that is different in every row"}
    assert roles_of({"a": NUMBERS, "patient": codes}, column=("patient",)).kind == "bytes"
    assert roles_of({"patient": codes}).kind == "bytes"
    amounts = roles_of({"a": NUMBERS, "price": [f"{i}.5" for i in range(12)]}, kind="table")
    assert amounts.inputs == ("a", "price")


def test_several_candidates_are_an_error_that_names_them() -> None:
    with pytest.raises(DataError, match=r"'one', 'two' could each be the input.*--column one"):
        roles_of({"one": WORDS, "two": WORDS})
    with pytest.raises(DataError, match=r"--column 'my strings'$"):
        roles_of({"my strings": WORDS, "two": WORDS})
    with pytest.raises(DataError, match="'smiles', 'seq'"):
        roles_of({"smiles": WORDS, "seq": WORDS})


def test_no_column_of_distinct_strings_makes_a_table() -> None:
    roles = roles_of({"a": NUMBERS, "colour": FEW})
    assert (roles.kind, roles.inputs) == ("table", ("a", "colour"))


def test_one_column_of_strings_is_bytes_even_if_they_repeat() -> None:
    assert roles_of({"colour": FEW}).kind == "bytes"


def test_named_string_column_always_wins() -> None:
    columns = {"smiles": WORDS, "source": FEW, "a": NUMBERS}
    assert roles_of(columns, column=("source",)).inputs == ("source",)
    assert roles_of(columns, column=("source",)).kind == "bytes"


def test_a_column_named_twice_counts_once() -> None:
    columns = {"smiles": WORDS, "a": NUMBERS, "b": NUMBERS}
    for kind in (None, "bytes"):
        roles = roles_of(columns, column=("smiles", "smiles"), kind=kind)
        assert (roles.kind, roles.inputs) == ("bytes", ("smiles",))
    assert roles_of(columns, column=("a", "b", "a")).inputs == ("a", "b")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("target", "target"), ("Label", "target"), ("y", "target"), ("class", "target"),
        ("split", "split"), ("fold", "split"), ("set", "split"), ("weight", "weight"),
        ("source", "source"), ("ID", "id"),
    ],
)  # fmt: skip
def test_bookkeeping_columns_are_left_out_and_come_back_when_named(name: str, reason: str) -> None:
    columns = {"a": NUMBERS, "b": NUMBERS, name: NUMBERS}
    left_out = roles_of(columns)
    assert left_out.inputs == ("a", "b")
    assert reason in reasons(left_out)[name]
    assert roles_of(columns, column=(name,)).inputs == ("a", "b", name)


def test_named_columns_of_a_table_are_its_inputs() -> None:
    columns = {"a": NUMBERS, "b": NUMBERS, "weight": NUMBERS}
    roles = roles_of(columns, column=("a", "weight"))
    assert roles.inputs == ("a", "weight")
    assert reasons(roles) == {"b": "not named"}


def test_integers_that_number_the_rows_are_left_out() -> None:
    columns = {"a": NUMBERS, "row": np.arange(12), "count": np.arange(12) // 2}
    roles = roles_of(columns)
    assert roles.inputs == ("a", "count")
    assert reasons(roles)["row"] == "an integer that is different in every row"
    assert roles_of(columns, column=("row",)).inputs == ("a", "row", "count")


def test_column_without_anything_in_it_is_dropped_by_name() -> None:
    columns = {"a": NUMBERS, "nothing": pa.nulls(12), "words": ["?", "NA", ""] * 4}
    roles = roles_of(columns, missing=("nothing=7",))
    assert roles.inputs == ("a",)
    assert set(reasons(roles)) == {"nothing", "words"}


def test_a_table_without_inputs_says_why_and_what_to_do() -> None:
    columns = {"nothing": pa.nulls(12), "label": FEW}
    said = "nothing has no cell that is not missing; label is named like a target; bring one back"
    with pytest.raises(DataError, match=said):
        roles_of(columns, kind="table")
    with pytest.raises(DataError, match="not missing; add one with numbers or words in it"):
        roles_of({"nothing": pa.nulls(12)})


def test_roles_are_never_inputs() -> None:
    columns = dict.fromkeys("abcdefgh", NUMBERS)
    roles = roles_of(
        columns, target=("a", "b"), id="c", split="d", group="e", weight="f", drop=("g",)
    )
    assert roles.inputs == ("h",)
    assert (roles.target, roles.id, roles.split) == (("a", "b"), "c", "d")
    assert (roles.group, roles.weight) == ("e", "f")
    assert reasons(roles) == {"g": "dropped by the user"}


def test_target_of_strings_does_not_compete_with_the_input() -> None:
    assert roles_of({"one": WORDS, "two": WORDS}, target=("two",)).inputs == ("one",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"column": ("aa",)}, "no column 'aa'.*did you mean 'a'"),
        ({"target": ("b",), "column": ("b",)}, "has another role"),
        ({"drop": ("a", "b")}, "no column left"),
        ({"kind": "image"}, "images come as arrays"),
        ({"kind": "bytes"}, "holds strings"),
        ({"kind": "bytes", "column": ("a",)}, "'a' does not hold strings"),
        ({"kind": "values"}, "holds lists of numbers"),
    ],
)
def test_impossible_requests_are_explained(config: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        roles_of({"a": NUMBERS, "b": NUMBERS}, **config)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((5, 4), "float32", "table"),
        ((5, 4, 3), "float32", "values"),
        ((5, 4, 3), "uint8", "image"),
        ((5, 4, 4, 3), "float32", "image"),
    ],
)
def test_arrays_say_their_kind_by_their_dimensions(
    shape: tuple[int, ...], dtype: str, kind: str
) -> None:
    assert open_data(np.ones(shape, dtype)).input.kind == kind


def test_array_of_another_kind_is_refused() -> None:
    with pytest.raises(DataError, match="2 dimensions cannot be read as image; it can be table"):
        open_data(np.ones((5, 4)), DataConfig(kind="image"))
    assert open_data(np.random.rand(5, 4), DataConfig(kind="values")).input.length == 4


def test_lists_of_numbers_are_values() -> None:
    jets = pa.array([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]])
    assert roles_of({"jets": jets, "label": [0, 1]}).kind == "values"


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(column=("text",), split="raw"),
        DataConfig(column=("text",), target=("raw",)),
        DataConfig(column=("text",), id="raw"),
        DataConfig(column=("x", "raw"), kind="table"),
    ],
)
def test_bytes_that_are_no_text_are_refused_as_words(config: DataConfig, tmp_path: Path) -> None:
    raw = pa.array([b"train", b"t\xff", b"test", b"valid"], pa.binary())
    table = pa.table({"text": ["a", "ab", "b", "c"], "x": [1.5, 2, 3, 4], "raw": raw})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    for data in (table, tmp_path / "x.parquet"):
        with pytest.raises(DataError, match=r"'raw', used as .*, holds bytes that are no"):
            open_data(data, config)
    read = open_data(table, DataConfig(column=("raw",))).batch(np.array([1])).inputs
    assert read[0, :2].tolist() == [ord("t") + NUM_SPECIAL, 255 + NUM_SPECIAL]


def test_roles_are_printable_and_json_able() -> None:
    roles = roles_of({"a": NUMBERS, "label": NUMBERS, "source": FEW}, id="source")
    assert Roles.model_validate_json(roles.model_dump_json()) == roles
    assert roles.describe() == [
        "kind: table (no column holds sequences of bytes or numbers)",
        "inputs: a",
        "id: source",
        "left out, named like a target: label",
    ]


def test_columns_that_no_source_reads_are_named() -> None:
    roles = roles_of({"a": NUMBERS, "nested": pa.array([{"b": 1}] * 12)})
    assert roles.inputs == ("a",)
    assert reasons(roles) == {"nested": "not read, as it holds struct<b: int64>"}


def test_frame_is_not_changed() -> None:
    table = pa.table({"a": NUMBERS, "label": NUMBERS})
    frame = Frame(table=table, name="t", format="csv")
    resolve_roles(frame, DataConfig())
    assert frame.table.equals(table)
