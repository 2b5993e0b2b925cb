"""Which rows are for training, for validation and for the final test."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from anymae.config import DataConfig
from anymae.data.batch import IntArray
from anymae.data.missing import blank, codes_of
from anymae.data.rows import Rows
from anymae.data.sampler import Permutation
from anymae.errors import ConfigError, DataError, require_extra
from anymae.randomness import Draws, Purpose, row_keys

logger = logging.getLogger(__name__)

VALID_SHARE = 0.02
MOST_VALID = 10_000
"""Validation rows when nothing is said: 2 % of the rows, at most 10,000."""

NAMES = {
    "train": 0, "training": 0,
    "valid": 1, "validation": 1, "val": 1, "dev": 1,
    "test": 2,
}  # fmt: skip
"""What a split column may hold, in any case."""

MOST_CLASSES = 20
"""A numeric target with more distinct values is stratified by its deciles."""


class Parts(NamedTuple):
    """Positions in the data set, ascending."""

    train: IntArray
    valid: IntArray
    test: IntArray

    @property
    def digest(self) -> str:
        """Hash of the split: equal where each part holds the same rows."""
        digest = hashlib.sha256()
        for part in self:
            digest.update(len(part).to_bytes(8, "little") + part.astype("<i8").tobytes())
        return digest.hexdigest()


def split_rows(
    rows: Rows,
    config: DataConfig,
    seed: int,
    *,
    valid_share: float | None = None,
    test_share: float = 0.0,
    among: npt.NDArray[np.bool_] | None = None,
    tell: Callable[[str], None] = logger.warning,
) -> Parts:
    """Split rows by what the data say, else at random.

    Files named for validation and test, and a split column, say which rows are in which part; else
    groups or `split_by` do. Where the data name no validation rows, some of the training rows are
    taken.

    Args:
        rows: The data set.
        config: Says where the split is written or how it is made.
        seed: Decides what is left to chance.
        valid_share: Share of the rows for validation; `None` is 2 %, at most 10,000 rows.
        test_share: Share of the rows for the test where the data name none.
        among: `(rows,)`, True for rows that may be drawn, which the shares are of; `None` is all.
            The others stay for training.
        tell: Told of parts whose size is far from their share.

    Returns:
        The parts; each row is in exactly one.

    Raises:
        ConfigError: The shares take more rows than there are.
        DataError: The split column holds other values; a stratified or group split lacks its
            column, one by scaffold its strings; no row is left for training.
    """
    named = named_parts(rows)
    none = np.zeros(0, np.int64)
    train, valid, test = named or (np.arange(len(rows)), none, none)
    pool = train if among is None else train[among[train]]
    num_valid = 0 if len(valid) else _count(len(pool), valid_share)
    num_test = 0 if named is not None else round(test_share * len(pool))
    if num_valid + num_test > len(pool):
        raise ConfigError(
            f"valid_share and test_share ask for {num_valid:,} and {num_test:,} of {len(pool):,} "
            "rows; let them add up to less than 1"
        )
    if num_valid or num_test:
        chosen = _draw(rows, config, seed, pool, [num_test, num_valid])
        test = test if named is not None else pool[chosen == 0]
        valid = valid if len(valid) else pool[chosen == 1]
        drawn = np.zeros(len(rows), np.bool_)
        drawn[pool[chosen < 2]] = True
        train = train[~drawn[train]]
        for note in _far_from_shares(chosen, {"test": num_test, "validation": num_valid}):
            tell(note)
    if not len(train):
        raise DataError(f"no row is left for training: {len(valid)} validate, {len(test)} test")
    return Parts(train, valid, test)


def _far_from_shares(chosen: npt.NDArray[np.int8], counts: Mapping[str, int]) -> Iterator[str]:
    """Say which parts have more than twice, or less than half, of the rows asked for."""
    for number, (name, count) in enumerate(counts.items()):
        taken = int((chosen == number).sum())
        if taken > 2 * count or 2 * taken < count:
            yield (
                f"the {name} part has {taken:,} of {len(chosen):,} rows, where about {count:,} "
                "were asked for: groups stay whole; name the parts with --split, or groups of "
                "other sizes"
            )


def named_parts(rows: Rows) -> Parts | None:
    """Return the parts as the data name them, by files or a split column; `None` if they do not.

    Raises:
        DataError: The split column holds other values.
    """
    given = given_parts(rows)
    if given is None:
        return None
    return Parts(*(np.flatnonzero(given == number) for number in range(3)))


def _count(rows: int, share: float | None) -> int:
    """Return the number of validation rows, at least 1 where one can be spared."""
    if share is None:
        return min(MOST_VALID, max(round(VALID_SHARE * rows), int(rows > 1)))
    return round(share * rows)


def given_parts(rows: Rows) -> npt.NDArray[np.int8] | None:
    """Return 0, 1, 2 for each row as the data say, `None` where they say nothing.

    The column decides about the rows of the file that is not named for a part.

    Raises:
        DataError: The split column holds other values.
    """
    name, parts = rows.roles.split, rows.files
    if name is None:
        return parts
    if parts is None:
        return _in_words(rows.column(name), name)
    theirs = parts == 0
    parts = parts.copy()
    parts[theirs] = _in_words(rows.column(name).filter(pa.array(theirs)), name)
    return parts


def names_parts(column: pa.ChunkedArray) -> bool:
    """Say whether strings are names of parts, of two at least."""
    if _codes(column.slice(0, 1_000)).null_count:
        return False
    codes = _codes(column)
    parts = list(NAMES.values())
    return not codes.null_count and len({parts[code] for code in codes.unique().to_pylist()}) > 1


def _codes(column: pa.ChunkedArray) -> pa.Array:
    """Return the place of each cell in `NAMES`; null where it is not there."""
    # Inputs may hold bytes that are no UTF-8 text.
    words = pc.ascii_lower(pc.ascii_trim_whitespace(column.cast(pa.large_string())))
    return pc.index_in(words, pa.array(list(NAMES), pa.large_string())).combine_chunks()


def _in_words(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.int8]:
    """Return 0, 1, 2 for the names of parts that a split column holds."""
    codes = _codes(column)
    unknown = column.filter(codes.is_null())
    if len(unknown):
        found = unknown.unique().to_pylist()
        values = ", ".join(repr(value) for value in found[:5])
        is_empty = any(value is None or not str(value).strip() for value in found)
        fill = "write train there, also for rows without labels, or " if is_empty else ""
        raise DataError(
            f"split column {name!r} holds {values} in {len(unknown):,} rows; expected train, "
            f"valid or test: {fill}keep the rows you want with --where"
        )
    parts: npt.NDArray[np.int8] = np.array(list(NAMES.values()), np.int8)[codes.to_numpy(False)]
    return parts


def _draw(
    rows: Rows, config: DataConfig, seed: int, train: IntArray, counts: Sequence[int]
) -> npt.NDArray[np.int8]:
    """Return who takes each row of `train`: 0, 1 with about `counts` rows each, 2 the rest."""
    groups = _groups(rows, config, seed, train)
    if groups is not None:
        return _choose(groups, counts)
    chosen = np.full(len(train), len(counts), np.int8)
    first = 0
    for number, count in enumerate(counts):
        places = np.arange(first, first + count)
        chosen[Permutation(len(train), seed=seed, purpose=Purpose.SPLIT)(places)] = number
        first += count
    return chosen


def _groups(rows: Rows, config: DataConfig, seed: int, train: IntArray) -> IntArray | None:
    """Return the group of each row of `train`; groups are given away in the order of numbers.

    `None` where rows are taken one by one at random.
    """
    if rows.roles.group is not None:
        groups = rows.column(rows.roles.group).take(pa.array(train))
        codes = codes_of(rows.roles.group, config.missing)
        return _numbered(group_codes(groups, codes), seed)
    if config.split_by == "group":
        raise DataError("a split by group needs to know the groups; name their column with --group")
    if config.split_by == "scaffold":
        if rows.roles.kind != "bytes":
            raise DataError(
                f"a split by scaffold reads molecules as strings and the input is of kind "
                f"{rows.roles.kind}; choose --split-by random, stratified or group"
            )
        column = rows.column(rows.roles.inputs[0]).take(pa.array(train))
        cells = column.cast(pa.large_binary()).to_pylist()
        strings = [None if cell is None else cell.decode(errors="replace") for cell in cells]
        scaffolds = _scaffolds(strings)
        # From small to large: the common scaffolds are left to train on.
        return _numbered(scaffolds, seed, np.bincount(scaffolds))
    if config.split_by == "stratified":
        if not rows.roles.target:
            raise DataError("a stratified split needs a target; name its column with --target")
        return _stratified(_classes(rows.column(rows.roles.target[0]), train), seed)
    return None


def _choose(groups: IntArray, counts: Sequence[int]) -> npt.NDArray[np.int8]:
    """Give whole groups to each taker in turn until it has about its number of rows.

    One that is to have rows gets a group at least, as long as another is left. Returned is the
    number of each row's taker; rows left over get the number of takers.
    """
    sizes = np.bincount(groups)
    takers = np.full(len(sizes), len(counts), np.int8)
    for number, count in enumerate(counts):
        left = np.flatnonzero(takers == len(counts))
        if count and len(left) > 1:
            takers[_first_groups(left, sizes, count)] = number
    chosen: npt.NDArray[np.int8] = takers[groups]
    return chosen


def _first_groups(left: IntArray, sizes: IntArray, count: int) -> IntArray:
    """Return the first groups of `left` that make about `count` rows, passing over huge ones."""
    fitting = left[sizes[left] <= 2 * count]
    if not len(fitting):
        return left[[sizes[left].argmin()]]
    ends = np.cumsum(sizes[fitting])
    # The last group is in if more than half of it is.
    last = int(np.searchsorted(ends - sizes[fitting] / 2, count))
    return fitting[: min(max(last, 1), len(left) - 1)]


def _random_keys(count: int, seed: int) -> IntArray:
    keys: IntArray = Draws(row_keys(torch.arange(count), seed=seed)).bits(Purpose.SPLIT, 1).numpy()
    return keys.reshape(-1)


def group_codes(column: pa.ChunkedArray, codes: Sequence[str] = ()) -> IntArray:
    """Return a number for each distinct value; a cell with nothing in it is a group of its own.

    >>> group_codes(pa.chunked_array([["a", None, "b", "a", ""]])).tolist()
    [0, 2, 1, 0, 3]
    """
    numbers = (
        group_cells(column, codes)
        .dictionary_encode()
        .indices.to_numpy(zero_copy_only=False)
        .astype(np.float64)
    )
    alone = np.isnan(numbers)
    numbers[alone] = len(numbers) + np.flatnonzero(alone)
    groups: IntArray = np.unique(numbers, return_inverse=True)[1]
    return groups


def group_cells(column: pa.ChunkedArray, codes: Sequence[str] = ()) -> pa.Array:
    """Return the group of each row, null where a cell is missing, as it is where it is an input."""
    cells = column.combine_chunks()
    if pa.types.is_string(cells.type):
        cells = cells.cast(pa.large_string())
    missing = blank(cells, codes).is_null()
    return pc.if_else(missing, pa.scalar(None, cells.type), cells)


def row_groups(rows: Rows, declared: Sequence[str] = ()) -> IntArray | None:
    """Return the number of each row's group, `(R,)`, or `None` where rows have none.

    Args:
        rows: The rows.
        declared: Cells that are missing, as `DataConfig.missing` has them.
    """
    name = rows.roles.group
    return None if name is None else group_codes(rows.column(name), codes_of(name, declared))


def _numbered(codes: IntArray, seed: int, *ascending: IntArray) -> IntArray:
    """Number groups anew: by `ascending`, `(groups,)`, if it is there, and then at random."""
    keys = _random_keys(int(codes.max()) + 1, seed)
    place: IntArray = np.argsort(np.lexsort((keys, *ascending)))[codes]
    return place


def _classes(column: pa.ChunkedArray, train: IntArray) -> IntArray:
    """Return the class of each row: distinct values, or deciles of a number with many."""
    taken = column.take(pa.array(train)).combine_chunks()
    if hasattr(taken.type, "value_type"):
        raise DataError(
            "a stratified split needs a target with one value a row, and the first one holds "
            "lists; choose --split-by random or group"
        )
    numeric = pa.types.is_floating(taken.type) or pa.types.is_integer(taken.type)
    if numeric and pc.count_distinct(taken).as_py() > MOST_CLASSES:
        numbers = taken.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        edges = np.nanquantile(numbers, np.linspace(0.1, 0.9, 9))
        return np.where(np.isnan(numbers), len(edges) + 1, np.searchsorted(edges, numbers))
    filled = taken.dictionary_encode(null_encoding="encode").indices
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)


def _stratified(classes: IntArray, seed: int) -> IntArray:
    """Order rows so that any stretch holds each class in about its share of all rows."""
    keys = _random_keys(len(classes), seed)
    order = np.lexsort((keys, classes))
    sizes = np.bincount(classes)
    starts = np.cumsum(sizes) - sizes
    sorted_classes = classes[order]
    within = np.arange(len(classes)) - starts[sorted_classes]
    shares = np.empty(len(classes))
    shares[order] = (within + 0.5) / sizes[sorted_classes]
    place = np.empty(len(classes), np.int64)
    place[np.lexsort((keys, shares))] = np.arange(len(classes))
    return place


def _scaffolds(smiles: list[str | None]) -> IntArray:
    """Return the Bemis-Murcko scaffold of each molecule as a number.

    A string that is no molecule is a group of its own.
    """
    require_extra("chem", "a scaffold split needs RDKit", "rdkit")
    from rdkit import Chem, rdBase
    from rdkit.Chem.Scaffolds import MurckoScaffold

    scaffold_of: Callable[..., str] = MurckoScaffold.MurckoScaffoldSmiles
    scaffolds = []
    with rdBase.BlockLogs():
        for number, text in enumerate(smiles):
            molecule = Chem.MolFromSmiles((text or "").strip())
            found = None if molecule is None else scaffold_of(mol=molecule)
            scaffolds.append(f"?{number}" if found is None else found)
    numbers: IntArray = np.unique(np.array(scaffolds), return_inverse=True)[1]
    return numbers
