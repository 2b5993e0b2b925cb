"""Rows that a model can be trained on or applied to, and how they are opened.

Opening looks at every row once: what cannot be an input is found before anything is computed.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from anymae.config import DataConfig, InputConfig
from anymae.data.batch import Arrays, Batch, IntArray, pack, to_batch
from anymae.data.doubts import doubts
from anymae.data.join import check_words, read_like
from anymae.data.kinds import KINDS, Kind, Reader, Statistics
from anymae.data.missing import check_codes
from anymae.data.preparation import Preparation
from anymae.data.roles import Roles, resolve_roles
from anymae.data.rows import Rows, check_text, rows_to_leave_out
from anymae.data.splits import Parts, split_rows
from anymae.errors import ConfigError, DataError
from anymae.randomness import Draws, Purpose

TRANSFORMER_CAP = 1024
"""Inputs of a row at most where every input attends to every other, unless `data.length` says."""

PACKED_LENGTH = 512
"""Inputs of a packed row unless `data.length` says."""


class Windows(NamedTuple):
    """Pieces that cover rows longer than the model reads at once."""

    rows: IntArray
    """Position in the data set of each window's row, `(W,)`, in the order asked for."""
    first: IntArray
    """First input of each window, `(W,)`."""


class Dataset:
    """Batches of inputs from any data.

    Attributes:
        rows: The rows, with their columns, roles and row numbers.
        preparation: How rows become inputs; stored with a model.
        notes: What a user should know about how the data were read.
        full_lengths: Inputs of each row before it is cut, `(rows,)` int32; `None` where all are
            equal.
    """

    def __init__(
        self,
        rows: Rows,
        kind: Kind,
        reader: Reader,
        *,
        preparation: Preparation,
        config: DataConfig,
        seed: int,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.rows, self.preparation, self.notes = rows, preparation, notes
        self._kind, self._reader, self._config, self._seed = kind, reader, config, seed
        self.full_lengths = kind.lengths
        if self.full_lengths is not None and rows.numbers is not None:
            self.full_lengths = self.full_lengths[rows.numbers]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def input(self) -> InputConfig:
        """What the model sees."""
        return self.preparation.input

    @property
    def roles(self) -> Roles:
        """What the columns are for."""
        return self.rows.roles

    @property
    def unseen(self) -> tuple[str, ...]:
        """Those of the notes that tell what the statistics do not know, such as new categories."""
        return self._reader.unseen

    @cached_property
    def parts(self) -> Parts:
        """Rows for training, validation and test, as positions in the data set."""
        return split_rows(self.rows, self._config, self._seed)

    @property
    def longest(self) -> int:
        """Inputs of the longest row of the source before it is cut."""
        return self._kind.longest

    @property
    def reads_windows(self) -> bool:
        """Whether what is computed of a row that is too long is averaged over its windows."""
        return self._config.too_long == "window"

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32] | None:
        """Inputs of each row as batches hold it, `(rows,)`; `None` where all are equal."""
        if self.full_lengths is None or self.full_lengths.max() <= self.input.length:
            return self.full_lengths
        return np.minimum(self.full_lengths, np.int32(self.input.length))

    @property
    def strings_per_row(self) -> float:
        """Strings that one row of a batch holds on average; 1 unless strings are packed."""
        if not self._config.pack or self.lengths is None:
            return 1.0
        return max(1.0, self.input.length / float(self.lengths.mean()))

    def column(self, name: str) -> pa.ChunkedArray:
        """Return the values of a column in data set order."""
        return self.rows.column(name)

    def batch(
        self, index: IntArray, crop: Draws | None = None, first: IntArray | None = None
    ) -> Batch:
        """Return rows as inputs.

        The batch is as wide as its longest row.

        Args:
            index: Positions in the data set, `(B,)` int64.
            crop: Draws of these rows; a row that is too long is cut to a random window with them,
                else to its beginning.
            first: First input of each row instead, `(B,)`, as `windows` gives it.

        Returns:
            The batch. With `pack` it has fewer rows, each of several strings, and the row number
            of the first of them.
        """
        rows = self.rows.numbers_of(index)
        lengths = self._lengths_of(index)
        first = self._first(lengths, crop, first)
        differ = self.full_lengths is not None
        longest = int((lengths - first).max(initial=1)) if differ else self.longest
        arrays = self._reader.read(rows, first, min(self.input.length, longest))
        if self._config.pack and differ:
            arrays, begins = pack(arrays, self.input.length)
            rows = rows[begins]
        return to_batch(arrays, rows)

    def seen(self, index: IntArray) -> Batch:
        """Return rows as far as a model reads them: whole ones where it reads windows."""
        if self.reads_windows:
            return to_batch(self.whole(index), self.rows.numbers_of(index))
        return self.batch(index)

    def whole(self, index: IntArray) -> Arrays:
        """Return all inputs of rows, however long, `(B, longest)` or `(B, longest, K)`."""
        first = np.zeros(len(index), np.int64)
        lengths = self.full_lengths
        longest = self.longest if lengths is None else int(lengths[index].max())
        return self._reader.read(self.rows.numbers_of(index), first, longest)

    def _lengths_of(self, index: IntArray) -> IntArray:
        """Return the inputs of rows before they are cut, `(B,)`."""
        if self.full_lengths is None:
            return np.full(len(index), self.longest)
        return self.full_lengths[index].astype(np.int64)

    def _first(self, lengths: IntArray, crop: Draws | None, first: IntArray | None) -> IntArray:
        """Return the first input to read of each row."""
        if first is not None:
            return first
        if crop is None or self._config.too_long == "truncate":
            return np.zeros(len(lengths), np.int64)
        spare = np.maximum(lengths - self.input.length, 0)
        bits = crop.bits(Purpose.CROP, 1).squeeze(1)
        return ((bits * torch.from_numpy(spare + 1)) >> 31).numpy()

    def windows(self, index: IntArray) -> Windows:
        """Cover rows by windows of `input.length` inputs, evenly spread, as few as can be.

        Args:
            index: Positions in the data set, `(B,)`.

        Returns:
            The windows: what is computed for each is to be averaged over those of a row.
        """
        lengths = self._lengths_of(index)
        counts = np.maximum(1, -(-lengths // self.input.length))
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        spare = np.repeat(np.maximum(lengths - self.input.length, 0), counts)
        first = spare * number // np.maximum(np.repeat(counts, counts) - 1, 1)
        return Windows(np.repeat(index, counts), first)


def open_data(
    data: object,
    config: DataConfig | None = None,
    *,
    preparation: Preparation | None = None,
    seed: int = 0,
    cap: int | None = None,
    bytes_length: int | None = None,
) -> Dataset:
    """Open any data: find kind and roles, look at every row, fit what inputs are scaled by.

    Statistics come from the training rows alone, so the split is made here.

    Args:
        data: A path, folder, glob or URL, or a Python object (`read_source`).
        config: Kind, columns, roles and what to do with odd rows.
        preparation: That of a stored run, to turn the data into its inputs; else one is made.
        seed: Decides the split where the data do not.
        cap: Inputs of a row at most, where the data decide the length.
        bytes_length: Inputs of the longest row of `bytes`, where `data.length` does not say.

    Returns:
        The data set.

    Raises:
        DataError: The data cannot be read or no row can be an input; rows are bad or too long and
            were not allowed to be; columns that a stored run needs are missing.
        ConfigError: A setting contradicts the kind.

    >>> dataset = open_data(["CCO", "c1ccccc1"])
    >>> dataset.input.length, dataset.batch(np.array([0])).inputs.tolist()
    (16, [[73, 73, 85, 5]])
    """
    config = config or DataConfig()
    declared = config.missing
    if preparation is not None:
        config = config.model_copy(update=_stored_settings(config, preparation))
    parts = read_like(data, config, preparation)
    frame = parts.frame
    if frame.shape is None:
        # A stored run's codes may be of its target, which rows to be predicted lack.
        check_codes(declared, frame.table.column_names)
    check_words(frame, config.words)
    resolve = resolve_roles if preparation is None else preparation.resolve_roles
    roles = parts.roles(resolve, config)
    check_text(frame, roles)
    kind = KINDS[roles.kind](frame, roles, config)
    rows = Rows(frame, roles, rows_to_leave_out(frame, kind.bad, config))
    if not len(rows):
        raise DataError(f"{frame.name} holds no row that can be an input")
    if preparation is None:
        fitted = _fit(rows, kind, config, seed, cap, bytes_length)
    else:
        fitted = _adopt(frame.name, kind, preparation)
    notes = tuple(dict.fromkeys((*kind.notes, *fitted.reader.unseen, *fitted.notes)))
    made = _preparation(rows, fitted, config)
    dataset = Dataset(
        rows, kind, fitted.reader, preparation=made, config=config, seed=seed, notes=notes
    )
    _check_lengths(dataset, config, trained=preparation is None)
    return dataset


class _Fitted(NamedTuple):
    """How rows become inputs, from the training rows or from a stored run."""

    reader: Reader
    input: InputConfig
    statistics: Statistics
    split: str = ""
    notes: tuple[str, ...] = ()


def _fit(
    rows: Rows, kind: Kind, config: DataConfig, seed: int, cap: int | None, bytes_length: int | None
) -> _Fitted:
    """Split the rows and learn from those for training."""
    # Who uses the parts tells what there is to tell of them; some verbs draw other ones.
    parts = split_rows(rows, config, seed, tell=lambda _: None)
    length, notes = _length(rows, kind, config, cap, bytes_length)
    statistics = kind.fit(rows.numbers_of(parts.train))
    reader = kind.reader(statistics)
    made = reader.input(length).model_copy(update={"positions": config.positions})
    return _Fitted(reader, made, statistics, parts.digest, (*notes, *doubts(rows, kind, config)))


def _adopt(name: str, kind: Kind, preparation: Preparation) -> _Fitted:
    """Read rows as a stored run did."""
    found = kind.differences(preparation.statistics)
    if found:
        raise DataError(
            f"{name} does not fit the run: {'; '.join(found)}; bring it into the form of the data "
            "that the run was trained on"
        )
    reader = kind.reader(preparation.statistics)
    return _Fitted(reader, preparation.input, preparation.statistics)


def _stored_settings(config: DataConfig, preparation: Preparation) -> dict[str, object]:
    """Settings that belong to the stored inputs; codes of missing cells add up."""
    return {
        "missing": tuple(dict.fromkeys((*preparation.missing, *config.missing))),
        "patch": preparation.input.patch,
        "positions": preparation.input.positions,
        "length": None,
    }


def _length(
    rows: Rows, kind: Kind, config: DataConfig, cap: int | None, bytes_length: int | None
) -> tuple[int, tuple[str, ...]]:
    """Decide N of the longest row; the notes say if rows will be cut."""
    fixed = rows.roles.kind in ("table", "image")
    if fixed and config.length not in (None, kind.longest):
        raise ConfigError(
            f"data.length is {config.length}; a row of this {rows.roles.kind} has "
            f"{kind.longest} inputs, leave it out"
        )
    if config.pack and rows.roles.kind != "bytes":
        raise ConfigError(f"data.pack joins strings; {rows.roles.kind} inputs cannot be joined")
    if config.patch != 1 and rows.roles.kind != "image":
        raise ConfigError(
            f"data.patch is {config.patch} and cuts pictures; {rows.roles.kind} inputs are none, "
            "leave it out"
        )
    if fixed:
        return kind.longest, ()
    if config.length is not None:
        return config.length, ()
    if bytes_length is not None and rows.roles.kind == "bytes":
        return bytes_length, ()
    if config.pack:
        return min(PACKED_LENGTH, cap or PACKED_LENGTH), ()
    longest = kind.longest
    if kind.lengths is not None:
        kept = kind.lengths if rows.numbers is None else kind.lengths[rows.numbers]
        longest = -(-int(kept.max()) // 8) * 8  # the next multiple of 8, as lengths of models are
    if cap is None or longest <= cap:
        return longest, ()
    note = f"input.length is capped at {cap:,}; the longest row has {kind.longest:,} inputs"
    return cap, (note,)


def _preparation(rows: Rows, fitted: _Fitted, config: DataConfig) -> Preparation:
    """Gather what is stored beside a model."""
    roles, schema = rows.roles, rows.frame.table.schema
    single = (roles.id, roles.split, roles.group, roles.weight)
    names = (*roles.inputs, *roles.target, *(name for name in single if name is not None))
    return Preparation(
        input=fitted.input,
        roles=roles,
        column_types={name: str(schema.field(name).type) for name in names},
        missing=config.missing,
        statistics=dict(fitted.statistics),
        rows=rows.frame.table.num_rows,
        used_rows=len(rows),
        fingerprint=rows.frame.digest,
        split=fitted.split,
    )


def _check_lengths(dataset: Dataset, config: DataConfig, *, trained: bool) -> None:
    """Refuse rows that are too long unless something is to be done about them.

    While pretraining they are cropped unless the user says otherwise.
    """
    policy = config.too_long or ("crop" if trained else "error")
    limit, full, frame = dataset.input.length, dataset.full_lengths, dataset.rows.frame
    longest = dataset.longest if full is None else int(full.max())
    if policy != "error" or longest <= limit:
        return
    if full is None:
        who, many = "each row", ""
    else:
        longer = np.flatnonzero(full > limit)
        who = frame.where(int(dataset.rows.numbers_of(longer[:1])[0]))
        longest, many = int(full[longer[0]]), f" ({len(longer):,} rows are too long)"
    raise DataError(
        f"{frame.name}: {who} has {longest:,} inputs and the model reads {limit:,}{many}; "
        "choose --too-long truncate, window or crop (in Python too_long)"
    )
