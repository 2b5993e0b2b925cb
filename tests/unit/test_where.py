from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from anymae.config import DataConfig
from anymae.data.frame import Frame
from anymae.data.sources import read_source
from anymae.data.where import parse_where, select
from anymae.errors import UserInputError

ROWS = {
    "split": ["train", "test", "train", None, "valid"],
    "age": [18, 40, None, 65, 70],
    "odd": [True, False, None, False, True],
    "small": pa.array([1, 2, 3, None, -1], pa.int8()),
    "score": [0.5, -1.0, 2.0, float("nan"), 3.5],
    "net weight": [0, 1, 2, 3, 4],
    "class": ["k"] * 5,
    "\N{MICRO SIGN}": [0, 1, 2, 3, 4],
    "day": pa.array(
        [*(datetime(2024, 1, day) for day in (1, 2, 3)), None, datetime(2024, 1, 5)],
        pa.timestamp("us"),
    ),
}


def kept(text: str) -> list[int]:
    frame = select(Frame(table=pa.table(ROWS), name="data", format="table"), text)
    assert frame.rows is not None
    return frame.rows.tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("split == 'train'", [0, 2]),
        ("split != 'train'", [1, 4]),
        ("split == 'train' and not odd", []),
        ("split == 'test' and not odd", [1]),
        ("split == 'train' or age >= 65", [0, 2, 3, 4]),
        ("not (split == 'train' or age >= 65)", [1]),
        ("odd", [0, 4]),
        ("not odd", [1, 3]),
        ("18 < age <= 65", [1, 3]),
        ("score > -1.5 and score < 1", [0, 1]),
        ("split in ('train', 'valid')", [0, 2, 4]),
        ("split not in ['train', 'valid']", [1]),
        ("age is None", [2]),
        ("split is not None and age is not None", [0, 1, 4]),
        ("odd == True", [0, 4]),
        ("'train' == split", [0, 2]),
        ("age in [18, 70.0]", [0, 4]),
        ("small in [1]", [0]),
        ("not split in ['train']", [1, 4]),
        ("not (split not in ['train'])", [0, 2]),
        ("score is None", [3]),
        ("score is not None", [0, 1, 2, 4]),
        ("score != 2", [0, 1, 4]),
        ("not score == 2", [0, 1, 4]),
        ("not score < 2", [2, 4]),
        ("2 != score", [0, 1, 4]),
        ("score in [2.0]", [2]),
        ("score not in [2.0]", [0, 1, 4]),
        ("small > 1", [1, 2]),
        ("age < 1e20", [0, 1, 3, 4]),
        ("col('net weight') > 2 and col(\"class\") == 'k'", [3, 4]),
        ("col('age') > 40", [3, 4]),
        ("µ > 3", [4]),
        ("day >= '2024-01-03'", [2, 4]),
        ("'2024-01-02 12:00' < day < '2024-01-04'", [2]),
        ("day in ['2024-01-01', '2024-01-05']", [0, 4]),
        ("day is None", [3]),
        ("day == '2024-01-02T01:00+01:00'", [1]),
        ("day < '2024-01-02T00:00Z'", [0]),
    ],
)
def test_a_filter_keeps_what_it_says(text: str, rows: list[int]) -> None:
    if rows:
        assert kept(text) == rows
    else:
        with pytest.raises(UserInputError, match="keeps none"):
            kept(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spilt == 'train'", "no column 'spilt'; did you mean 'split'"),
        ("split == 'train", "is no expression"),
        ("", "is no expression"),
        ("split = 'train'", "is no expression"),
        ("age", "column 'age' holds int64, not true and false"),
        ("age + 1 == 3", r"'age \+ 1' is neither a column nor a value"),
        ("split == None", "found with `is None`"),
        ("split is 'train'", "`is` goes with None only"),
        ("split in []", "is not a list"),
        ("1 == 1", "names no column"),
        ("True", "is not a comparison"),
        ("split in odd", "'odd' is not a list"),
        ("__import__('os').system('true')", "is not a comparison"),
        ("split == open('x')", "is neither a column nor a value"),
        ("[split for split in 'ab']", "is not a comparison"),
        ("split > 3", "column 'split' holds words, and 3 is none of them"),
        ("age in ['a']", "column 'age' holds numbers, and 'a' is none of them"),
        ("odd == 1", "column 'odd' holds true and false, and 1 is none of them"),
        ("split > age", "does not fit data"),
        ("day > 'soon'", "'soon' is no time such as '2024-01-31 08:30'"),
        ("day == 2024", "column 'day' holds times, written"),
        ("col('dai') is None", "no column 'dai'; did you mean 'day'"),
        ("col('age', 'day') > 3", "is neither a column nor a value"),
        ("net weight > 3", r"is no expression; .* col\('net weight'\) > 30"),
        ("split in [1, 'a']", "'split' holds words, and 1 is none"),
        ("split in ['a', True]", "'split' holds words, and True is none"),
        ("1 in [1, 'a']", "values of one type"),
        ("age > 99999999999999999999", "takes more than 64 bits; write it like 1e20"),
        ("age in [1, -9223372036854775809]", "takes more than 64 bits"),
    ],
)
def test_what_is_no_filter_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message) as caught:
        kept(text)
    assert "\n" not in str(caught.value)


def test_a_filter_counts_rows_over_block_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymae.data.where._BLOCK_ROWS", 7)
    values = np.random.default_rng(0).integers(0, 5, 50)
    frame = read_source({"x": values.tolist()}, DataConfig(where="x == 3"))
    assert frame.rows is not None
    assert frame.rows.tolist() == np.flatnonzero(values == 3).tolist()
    assert len(frame) == len(frame.rows)


def test_a_filter_does_not_copy_the_table() -> None:
    frame = read_source({"x": list(range(100)), "y": ["a", "b"] * 50}, DataConfig(where="y == 'b'"))
    assert frame.table.num_rows == 100
    assert frame.rows is not None
    assert frame.rows.tolist() == list(range(1, 100, 2))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("name is None", [1, 2, 3, 4]),
        ("name is not None", [0, 5]),
        ("name != 'a'", [5]),
        ("not name == 'a'", [5]),
        ("name not in ['a']", [5]),
        ("name > ''", [0, 5]),
        ("name == 'NA'", [2]),
        ("name != 'NA'", [0, 5]),
        ("name in ['NA', 'b']", [2, 5]),
        ("pay is None", [0]),
        ("pay != 1", [2, 3, 4, 5]),
        ("pay < 2", [1]),
        ("pay == -999", [0]),
    ],
)
def test_what_is_missing_to_the_model_is_missing_to_a_filter(text: str, rows: list[int]) -> None:
    table = {"name": ["a", "", "NA", " n/d ", None, "b"], "pay": [-999, 1, 2, 3, 4, 5]}
    config = DataConfig(missing=("name=n/d", "pay=-999"), where=text)
    assert read_source(table, config).rows.tolist() == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("flag is None", [0, 2]),
        ("flag is not None", [1, 3]),
        ("flag", [1, 3]),
        ("flag == False", [0]),
        ("flag != True", []),
        ("flag in (True, False)", [0, 1, 3]),
        ("not flag", []),
        ("day is None", [0, 3]),
        ("day is not None", [1, 2]),
        ("day < '2024-01-02'", [1]),
        ("not day >= '2024-01-02'", [1]),
        ("day == '1900-01-01'", [0]),
        ("day != '2024-01-01'", [2]),
        ("day not in ['2024-01-01']", [2]),
    ],
)
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_declared_codes_of_flags_and_times_are_missing_to_a_filter(
    text: str, rows: list[int], unit: str
) -> None:
    days = [datetime(1900, 1, 1), datetime(2024, 1, 1), datetime(2024, 1, 2), None]
    table = pa.table({"flag": [False, True, None, True], "day": pa.array(days, pa.timestamp(unit))})
    frame = Frame(table=table, name="data", format="table")
    declared = ("flag=False", "day=1900-01-01")
    if rows:
        assert select(frame, text, declared).rows.tolist() == rows
    else:
        with pytest.raises(UserInputError, match="keeps none"):
            select(frame, text, declared)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("run > 1e6", [0, 1, 2]),
        ("run >= 20000002.0", [1, 2]),
        ("run > 20000001.5", [1, 2]),
        ("run in (20000002.0, 0.5)", [1]),
        ("run < 1e20", [0, 1, 2]),
        ("run > energy", [0, 1, 2]),
        ("large > 2", [1, 2]),
        ("large > -1", [0, 1, 2]),
        ("large in (-1, 1)", [0]),
        ("large > run", [1]),
        ("single == 0.1", [0]),
        ("single != 0.1", [1]),
        ("single in (0.1,)", [0]),
        ("single < 1e300", [0, 1]),
        ("short < 1000", [0, 1, 2]),
        ("short == 300 or short == 1", [0]),
    ],
)
def test_numbers_are_compared_whatever_their_types(text: str, rows: list[int]) -> None:
    table = pa.table(
        {
            "run": [20_000_001, 20_000_002, 2**53 + 1],
            "energy": [0.5, 1.5, 2.5],
            "large": pa.array([1, 2**63 + 5, 3], pa.uint64()),
            "single": pa.array([0.1, 0.5, None], pa.float32()),
            "short": pa.array([1, 2, 3], pa.int8()),
        }
    )
    assert read_source(table, DataConfig(where=text)).rows.tolist() == rows


def test_a_parsed_filter_is_an_expression() -> None:
    schema = pa.schema([("a", pa.int64())])
    assert str(parse_where("a > 1", schema)[0]) == "(a > 1)"
