"""Filters of rows: `split == 'train' and not in_tape_eval`, parsed, never run as Python."""

import ast
import operator
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.data.frame import Frame
from anymae.data.missing import codes_of, missing_in
from anymae.errors import UserInputError, first_line, nearest

_BLOCK_ROWS = 1 << 20

_COMPARISONS: dict[type[ast.cmpop], Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def parse_where(
    text: str, schema: pa.Schema, declared: Sequence[str] = ()
) -> tuple[pc.Expression, list[str]]:
    """Turn a filter into a pyarrow expression, with the columns in it.

    It may hold column names, numbers, strings, True, False and None, comparisons (also chained),
    `in`, `not in`, `is None`, `is not None`, `and`, `or`, `not` and brackets. A name that Python
    would not take for one is written `col("net weight")`; times are compared with strings. A
    comparison with a missing cell (null, NaN, or what stands for them) does not hold, whichever it
    is, nor does its `not`; but a word that stands for one is found where it is asked for.

    Args:
        text: The filter.
        schema: The columns.
        declared: Cells that are missing besides the usual words, as `DataConfig.missing` has them.

    Raises:
        UserInputError: It holds something else, or a column that `schema` lacks.

    >>> schema = pa.schema([("odd", pa.bool_()), ("age", pa.int64())])
    >>> condition, columns = parse_where("not odd and 18 <= age < 65", schema)
    >>> str(condition), columns
    ('(invert(odd) and ((18 <= age) and (age < 65)))', ['age', 'odd'])
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserInputError(
            f"the filter {text!r} is no expression; expected is one such as "
            "split == 'train' and col('net weight') > 30"
        ) from None
    parser = _Parser(text, schema, declared)
    condition = parser.condition(tree.body)
    if not parser.columns:
        raise parser.problem("it names no column")
    return condition, sorted(parser.columns)


def select(frame: Frame, text: str, declared: Sequence[str] = ()) -> Frame:
    """Keep the rows of a frame for which a filter holds.

    Raises:
        UserInputError: The filter cannot be understood, does not fit the columns, or keeps none.
    """
    condition, columns = parse_where(text, frame.table.schema, declared)
    table = frame.table.select(columns)
    number = "".join(table.column_names) + "_"  # a name that no column has
    kept: list[npt.NDArray[np.int64]] = []
    try:
        for start in range(0, table.num_rows, _BLOCK_ROWS):
            block = table.slice(start, _BLOCK_ROWS)
            rows = pa.array(np.arange(start, start + block.num_rows))
            block = block.append_column(number, rows).filter(condition)
            kept.append(block[number].to_numpy())
    except (pa.ArrowException, NotImplementedError, TypeError) as error:
        raise UserInputError(
            f"the filter {text!r} does not fit {frame.name}: {first_line(error)}"
        ) from error
    rows = np.concatenate(kept)
    if not len(rows):
        raise UserInputError(f"the filter {text!r} keeps none of the rows of {frame.name}")
    return frame.keep(rows)


def _unknown_where(missing: pc.Expression, result: pc.Expression) -> pc.Expression:
    """Make a result null, so that neither it nor its opposite holds."""
    unknown: pc.Expression = pc.if_else(missing, pa.scalar(None, pa.bool_()), result)
    return unknown


class _Parser:
    def __init__(self, text: str, schema: pa.Schema, declared: Sequence[str]) -> None:
        self.text, self.schema, self.declared = text, schema, declared
        self.columns: set[str] = set()
        """Those met so far."""
        # Python reads some letters, such as the sign for micro, as others that look the same.
        self._as_read = {unicodedata.normalize("NFKC", name): name for name in schema.names}

    def condition(self, node: ast.expr) -> pc.Expression:
        """Parse what is true or false."""
        match node:
            case ast.BoolOp(op, parts):
                join = operator.and_ if isinstance(op, ast.And) else operator.or_
                return reduce(join, map(self.condition, parts))
            case ast.UnaryOp(ast.Not(), part):
                return ~self.condition(part)
            case ast.Compare(first, signs, others):
                links = zip([first, *others[:-1]], signs, others, strict=True)
                return reduce(operator.and_, (self.comparison(*link) for link in links))
        name = self.column(node)
        if name is None:
            raise self.problem(f"{ast.unparse(node)!r} is not a comparison")
        if not pa.types.is_boolean(self.kind(name)):
            raise self.problem(f"column {name!r} holds {self.kind(name)}, not true and false")
        flag = pc.field(name)
        return _unknown_where(self.missing(name) & ~flag, flag) if self.may_lack(name) else flag

    def comparison(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> pc.Expression:
        """Parse one comparison."""
        match sign:
            case ast.In() | ast.NotIn():
                if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
                    raise self.problem(f"{ast.unparse(right)!r} is not a list of values")
                return self.found(left, right.elts, isinstance(sign, ast.NotIn))
            case ast.Is() | ast.IsNot():
                if not (isinstance(right, ast.Constant) and right.value is None):
                    raise self.problem("`is` goes with None only")
                name = self.column(left)
                operand = pc.scalar(self.value(left, None)) if name is None else pc.field(name)
                missing = operand.is_null() if name is None else self.missing(name)
                return missing if isinstance(sign, ast.Is) else ~missing
        if any(isinstance(side, ast.Constant) and side.value is None for side in (left, right)):
            raise self.problem("a missing cell is found with `is None`")
        result: pc.Expression = _COMPARISONS[type(sign)](*self.sides(left, right))
        columns = [name for name in map(self.column, (left, right)) if name is not None]
        asked = {ast.Eq: ~result, ast.NotEq: result}.get(type(sign))
        for name in columns:
            if self.may_lack(name):
                missing = self.missing(name)
                if asked is not None and len(columns) == 1:
                    missing = missing & asked
                result = _unknown_where(missing, result)
        return result

    def found(self, left: ast.expr, items: Sequence[ast.expr], beside: bool) -> pc.Expression:
        """Parse whether an operand is one of the values, or, with `beside`, none of them."""
        name = self.column(left)
        values = [self.value(item, name) for item in items]
        if name is None:
            operand, missing, kind = pc.scalar(self.value(left, None)), None, None
        else:
            operand, missing, kind = pc.field(name), self.missing(name), self.kind(name)
        if kind is not None and _is_number(kind):
            values = [number for value in values if (number := _held(value, kind)) is not None]
        else:
            kind = None
        try:
            among = operand.isin(pa.array(values, kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            raise self.problem("a list needs values of one type") from None
        if missing is not None:
            among = _unknown_where(missing & ~among, among)
        return ~among if beside else among

    def sides(self, left: ast.expr, right: ast.expr) -> list[pc.Expression]:
        """Parse what is compared; numbers of different types are brought into one."""
        names = [self.column(left), self.column(right)]
        kinds = [None if name is None else self.kind(name) for name in names]
        numbers = [kind for kind in kinds if kind is not None and _is_number(kind)]
        sides: list[Any] = [None if name is None else pc.field(name) for name in names]
        if len(numbers) == 2 and numbers[0] != numbers[1]:
            if any(pa.types.is_floating(kind) or kind == pa.uint64() for kind in numbers):
                return [side.cast(pa.float64(), safe=False) for side in sides]
            return sides
        for place, node in enumerate((left, right)):
            if sides[place] is not None:
                continue
            value: Any = self.value(node, names[1 - place])
            kind = kinds[1 - place]
            if kind is None or not _is_number(kind):
                sides[place] = pc.scalar(value)
            elif (held := _held(value, kind)) is not None:
                sides[place] = pc.scalar(pa.scalar(held, kind))
            else:
                sides[place] = pc.scalar(float(value))
                sides[1 - place] = sides[1 - place].cast(pa.float64(), safe=False)
        return sides

    def may_lack(self, name: str) -> bool:
        """Say whether cells can be missing that are not null."""
        kind = self.kind(name)
        floats = pa.types.is_floating(kind)
        return _is_string(kind) or bool(floats or codes_of(name, self.declared))

    def missing(self, name: str) -> pc.Expression:
        """Return where a column has nothing, as `blank` has it."""
        kind, cells = self.kind(name), pc.field(name)
        if _is_string(kind):
            cells = pc.ascii_trim_whitespace(cells)
        found: pc.Expression = missing_in(cells, kind, codes_of(name, self.declared))
        return found

    def column(self, node: ast.expr) -> str | None:
        """Return the name of a column; `None` for anything else."""
        match node:
            case ast.Name(name):
                found = name if name in self.schema.names else self._as_read.get(name, name)
            case ast.Call(ast.Name("col"), [ast.Constant(str() as found)], []):
                pass
            case _:
                return None
        self.kind(found)
        self.columns.add(found)
        return found

    def value(self, node: ast.expr, name: str | None) -> bool | int | float | str | datetime:
        """Parse a value that is compared with a column, if there is one."""
        value = self.constant(node)
        if name is None:
            return value
        kind = self.kind(name)
        for is_kind, types, words in _VALUES:
            if is_kind(kind) and type(value) not in types:
                raise self.problem(f"column {name!r} holds {words}, and {value!r} is none of them")
        if not pa.types.is_timestamp(kind):
            return value
        try:
            time = datetime.fromisoformat(str(value))
            # Columns are in UTC, and do not say so.
            return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
        except ValueError:
            raise self.problem(f"{value!r} is no time such as '2024-01-31 08:30'") from None

    def constant(self, node: ast.expr) -> bool | int | float | str:
        """Parse a value."""
        match node:
            case ast.Constant(bool() | int() | float() | str() as value):
                pass
            case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
                value = -value
            case _:
                raise self.problem(f"{ast.unparse(node)!r} is neither a column nor a value")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise self.problem("a number takes more than 64 bits; write it like 1e20")
        return value

    def kind(self, name: str) -> pa.DataType:
        """Return the type of a column."""
        if name not in self.schema.names:
            raise self.problem(f"there is no column {name!r}{nearest(name, self.schema.names)}")
        return self.schema.field(name).type

    def problem(self, what: str) -> UserInputError:
        """Return the error for something that is not understood."""
        return UserInputError(f"the filter {self.text!r} cannot be used: {what}")


def _held(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401 - int or float
    """Return a number as a column of a type holds it; `None` where none is near.

    >>> _held(2.0, pa.int8()), _held(0.5, pa.int8()), _held(300, pa.int8())
    (2, None, None)
    """
    if pa.types.is_floating(kind):
        with np.errstate(over="ignore"):
            near = float(kind.to_pandas_dtype()(value))
        return None if np.isinf(near) and not np.isinf(value) else near
    if not float(value).is_integer():
        return None
    try:
        return pa.scalar(int(value), kind).as_py()
    except (pa.ArrowInvalid, OverflowError):
        return None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_VALUES: tuple[tuple[Callable[[pa.DataType], bool], tuple[type, ...], str], ...] = (
    (_is_number, (int, float), "numbers"),
    (_is_string, (str,), "words"),
    (pa.types.is_boolean, (bool,), "true and false"),
    (pa.types.is_timestamp, (str,), "times, written '2024-01-31 08:30'"),
)
"""By type of a column: the values that it can be compared with, and what to call them."""
