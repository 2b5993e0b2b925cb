"""Filters of rows: `split == 'train' and not in_tape_eval`, parsed, never run as Python."""

import ast
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.data.frame import Frame
from anymae.errors import UserInputError, nearest

_BLOCK_ROWS = 1 << 20

_COMPARISONS: dict[type[ast.cmpop], Any] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


def parse_where(text: str, schema: pa.Schema) -> pc.Expression:
    """Turn a filter into a pyarrow expression.

    It may hold column names, numbers, strings, True, False and None, comparisons (also chained),
    `in`, `not in`, `is None`, `is not None`, `and`, `or`, `not` and brackets. A comparison with a
    missing cell does not hold, whichever it is.

    Raises:
        UserInputError: It holds something else, or a column that `schema` lacks.

    >>> schema = pa.schema([("split", pa.string()), ("age", pa.int64())])
    >>> str(parse_where("split == 'train' and 18 <= age < 65", schema))
    '((split == "train") and ((18 <= age) and (age < 65)))'
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserInputError(
            f"the filter {text!r} is no expression; expected is one such as "
            "split == 'train' and age > 30"
        ) from None
    parser = _Parser(text, schema)
    if not _columns_of(text):
        raise parser.problem("it names no column")
    return parser.condition(tree.body)


def _columns_of(text: str) -> list[str]:
    return sorted(
        {node.id for node in ast.walk(ast.parse(text.strip())) if isinstance(node, ast.Name)}
    )


def select(frame: Frame, text: str) -> Frame:
    """Keep the rows of a frame for which a filter holds.

    Raises:
        UserInputError: The filter cannot be understood, does not fit the columns, or keeps none.
    """
    condition = parse_where(text, frame.table.schema)
    table = frame.table.select(_columns_of(text))
    number = "".join(table.column_names) + "_"  # a name that no column has
    kept: list[npt.NDArray[np.int64]] = []
    try:
        for start in range(0, table.num_rows, _BLOCK_ROWS):
            block = table.slice(start, _BLOCK_ROWS)
            rows = pa.array(np.arange(start, start + block.num_rows))
            block = block.append_column(number, rows).filter(condition)
            kept.append(block[number].to_numpy())
    except (pa.ArrowException, NotImplementedError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise UserInputError(f"the filter {text!r} does not fit {frame.name}: {reason}") from error
    rows = np.concatenate(kept)
    if not len(rows):
        raise UserInputError(f"the filter {text!r} keeps none of the rows of {frame.name}")
    return frame.keep(rows)


class _Parser:
    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text, self.schema = text, schema

    def condition(self, node: ast.expr) -> pc.Expression:
        """Parse what is true or false."""
        match node:
            case ast.BoolOp(op, parts):
                conditions = [self.condition(part) for part in parts]
                result = conditions[0]
                for other in conditions[1:]:
                    result = result & other if isinstance(op, ast.And) else result | other
                return result
            case ast.UnaryOp(ast.Not(), part):
                return ~self.condition(part)
            case ast.Compare(first, signs, others):
                operands = [first, *others]
                result = self.comparison(operands[0], signs[0], operands[1])
                for left, sign, right in zip(operands[1:], signs[1:], operands[2:], strict=False):
                    result = result & self.comparison(left, sign, right)
                return result
            case ast.Name(name) if not pa.types.is_boolean(self.kind(name)):
                raise self.problem(f"column {name!r} holds {self.kind(name)}, not true and false")
            case ast.Name(name):
                return pc.field(name)
        raise self.problem(f"{ast.unparse(node)!r} is not a comparison")

    def comparison(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> pc.Expression:
        """Parse one comparison."""
        match sign:
            case ast.In() | ast.NotIn():
                if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
                    raise self.problem(f"{ast.unparse(right)!r} is not a list of values")
                try:
                    values = pa.array([self.constant(item) for item in right.elts])
                except (pa.ArrowInvalid, pa.ArrowTypeError):
                    raise self.problem("a list needs values of one type") from None
                operand = self.operand(left)
                found = operand.isin(values)
                return found if isinstance(sign, ast.In) else ~found & operand.is_valid()
            case ast.Is() | ast.IsNot():
                if not (isinstance(right, ast.Constant) and right.value is None):
                    raise self.problem("`is` goes with None only")
                operand = self.operand(left)
                return operand.is_null() if isinstance(sign, ast.Is) else operand.is_valid()
        if any(isinstance(side, ast.Constant) and side.value is None for side in (left, right)):
            raise self.problem("a missing cell is found with `is None`")
        result: pc.Expression = _COMPARISONS[type(sign)](self.operand(left), self.operand(right))
        return result

    def operand(self, node: ast.expr) -> pc.Expression:
        """Parse what is compared: a column or a value."""
        if isinstance(node, ast.Name):
            self.kind(node.id)
            return pc.field(node.id)
        return pc.scalar(self.constant(node))

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
