"""Labels of a task: those of the test rows are sealed until everything is chosen.

Shapes: R rows.
"""

import numpy as np
import numpy.typing as npt

from anymae.data.batch import IntArray
from anymae.data.splits import Parts

Array = npt.NDArray[np.float64]


class SealedError(RuntimeError):
    """Test labels were asked for before, or more than once."""


class Labels:
    """Labels of all rows; those of the test rows are given out once.

    Args:
        values: `(R,)`, numbers in the user's units or class numbers.
        parts: Which rows train, validate and test.

    >>> labels = Labels(np.arange(4.0), Parts(np.array([0, 1]), np.array([2]), np.array([3])))
    >>> labels.of(np.array([0, 2])).tolist(), labels.open_test().tolist()
    ([0.0, 2.0], [3.0])
    """

    def __init__(self, values: Array, parts: Parts) -> None:
        self._known = np.array(values, np.float64)
        self._test = parts.test
        self._sealed = self._known[parts.test]
        self._known[parts.test] = np.nan
        self._opened = False

    def keep(self, rows: IntArray, parts: Parts) -> "Labels":
        """Return the labels of some rows, still sealed.

        Args:
            rows: Rows to keep, in their new order.
            parts: Positions among these.
        """
        values = self._known.copy()
        values[self._test] = self._sealed
        return Labels(values[rows], parts)

    def of(self, rows: IntArray) -> Array:
        """Return the labels of training or validation rows.

        Raises:
            SealedError: A test row is among them.
        """
        if np.isin(rows, self._test).any():
            raise SealedError("labels of test rows were asked for before the final evaluation")
        return self._known[rows]

    def open_test(self) -> Array:
        """Return the labels of the test rows, for the final evaluation.

        Raises:
            SealedError: This is the second time.
        """
        if self._opened:
            raise SealedError("the test labels were opened before; a job looks at them once")
        self._opened = True
        return self._sealed
