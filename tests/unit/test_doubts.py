"""What a user may have meant otherwise is told, and nothing else is."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.errors import DataError

ROWS = 200


def numbers(columns: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {f"cell{place}": draw.normal(size=ROWS) for place in range(columns)}


def notes(data: dict[str, object], **config: object) -> str:
    return "\n".join(open_data(pd.DataFrame(data), DataConfig(**config)).notes)


@pytest.mark.parametrize(
    ("words", "config", "is_told"),
    [
        (["train", "Valid", " test"], {}, True),
        (["train", "test"], {"split": "part"}, False),
        (["train", "test"], {"group": "part"}, False),
        (["train", "test"], {"drop": ("part",)}, False),
        (["train", "test"], {"column": ("cell0",)}, True),
        (["train", "test"], {"where": "part == 'train'"}, False),
        (["train", "train"], {}, False),
        (["train", "left"], {}, False),
        (["train", None], {}, False),
    ],
)
def test_a_column_of_parts_that_divides_nothing_is_told(
    words: list[str | None], config: dict[str, object], is_told: bool
) -> None:
    column = [words[row % len(words)] for row in range(ROWS)]
    found = notes({**numbers(2), "part": column}, **config)
    told = "column 'part' names parts, but rows are not divided by it; to do so: --split part"
    assert (told in found) == is_told


def test_bytes_that_are_no_text_name_no_parts() -> None:
    data = pa.table({"smiles": [b"\xff\xfeC", b"CC"], "part": ["train", "test"]})
    found = open_data(data).notes
    assert [note for note in found if "--split part" in note] == list(found)


NAMES = [f"ENSG{row:06d}" for row in range(ROWS)]


@pytest.mark.parametrize(
    ("name", "columns", "config", "is_told"),
    [
        ("gene", 3, {}, True),
        ("gene", 2, {}, False),
        ("gene", 3, {"column": ("gene",)}, False),
        ("gene", 3, {"kind": "bytes"}, False),
        ("gene", 4, {"drop": ("cell0", "cell1")}, False),
        # Beside a molecule there are often its properties.
        ("smiles", 3, {}, False),
        ("canonical_SMILES", 3, {}, False),
        ("aa_seq", 3, {}, False),
        ("Peptide", 3, {}, False),
        ("gene", 3, {"id": "gene"}, False),
    ],
)
def test_columns_of_numbers_that_a_name_drives_out_are_told(
    name: str, columns: int, config: dict[str, object], is_told: bool
) -> None:
    found = notes({name: NAMES, **numbers(columns)}, **config)
    told = "3 columns of numbers are left out, as column 'gene' is the input; for a table of them: "
    assert (f"{told}--id gene" in found) == is_told
    assert is_told or "left out" not in found


def mass(stand_in: float, share: float = 0.25) -> np.ndarray:
    found = np.random.default_rng(0).exponential(50, ROWS)
    found[: int(share * ROWS)] = stand_in
    return found


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (("-999",), None),
        (("mass=-999",), None),
        (("n/d",), None),
        (("-9999",), "--missing -9999: no cell holds -9999"),
        (("cell0=-999",), "--missing cell0=-999: no cell of column 'cell0' holds -999"),
        (("mass:-999",), "no cell holds mass:-999; did you mean mass=-999?"),
    ],
)
def test_declared_missing_values_that_no_cell_holds_are_told(
    missing: tuple[str, ...], told: str | None
) -> None:
    found = notes({"mass": mass(-999), **numbers(1)}, missing=missing)
    assert "no cell" not in found if told is None else told in found


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (mass(-999), "column 'mass': -999 in 25% of the cells, far from all others; if it means"),
        (mass(99999), "--missing mass=99999"),
        (mass(-999).astype(int), "--missing mass=-999"),
        (mass(-999, 0.01), None),
        # Nothing measured is a number like others, and so are few values.
        (mass(0), None),
        (np.where(np.arange(ROWS) % 10, np.arange(ROWS) % 30 + 60.0, 0), None),
        (np.repeat([0.0, 1.0], ROWS // 2), None),
        (mass(50), None),
    ],
)
def test_a_number_that_stands_for_a_missing_one_is_told(
    cells: np.ndarray, told: str | None
) -> None:
    found = notes({"mass": cells, **numbers(1)})
    assert "far from" not in found if told is None else told in found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["0,5", "-1,25"], "holds numbers with a decimal comma ('0,5'), read as words; write them"),
        (["01/02/2023", "31.01.2023"], "write them as ISO 8601 does, as 2023-01-31"),
        (["16,701", "1,234,567"], "holds numbers with thousands separators ('16,701'), read as"),
        (["0,125", "1,250"], "holds numbers with a decimal comma"),
        (["1,2,3", "4,5,6"], None),
        (["1.2.10", "a"], None),
    ],
)
def test_words_that_were_meant_as_numbers_or_days_are_told(
    words: list[str], told: str | None
) -> None:
    found = notes({"x": words * (ROWS // 2), **numbers(1)})
    assert (
        "read as words" not in found
        if told is None
        else f"column 'x' {told}" in found or (told in found)
    )


def test_columns_of_decimal_commas_do_not_compete_for_the_input() -> None:
    data = {name: [f"{cell:.6f}".replace(".", ",") for cell in column]
            for name, column in numbers(2).items()}  # fmt: skip
    with pytest.raises(DataError, match=r"'cell0' holds numbers with a decimal comma \('0,125730'"):
        open_data(pd.DataFrame(data))


def test_days_that_compete_for_the_input_do_not_hide_how_to_name_it() -> None:
    days = [f"{row % 28 + 1}/{row % 12 + 1:02d}/{2000 + row}" for row in range(ROWS)]
    said = r"'day' holds days .* as 2023-01-31, or say which column is the input, as --column gene$"
    with pytest.raises(DataError, match=said):
        open_data(pd.DataFrame({"day": days, "gene": NAMES}))
