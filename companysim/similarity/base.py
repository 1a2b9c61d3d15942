"""What all similarities share: checks, the cut-off in time, unit rows, and similarities of all pairs block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin

from companysim.errors import ConfigError, DataError

Matrix = np.ndarray | sp.csr_array
Dates = Sequence[Any] | np.ndarray

_BLOCK = 1 << 24  # numbers in a dense block of a sparse matrix: 128 MB in double precision


class Similarity(TransformerMixin, BaseEstimator):
    """Base of the similarities: rows in, vectors out, and ``similarity`` of two sets of vectors.

    `transform` maps rows, CSR or dense, to vectors whose similarity is their inner product, unless a subclass says
    otherwise. An estimator learns on the rows it is fitted on and nothing else; new rows (a text nobody has seen) are
    mapped with what was learned. Those that learn take `until` and the `dates` of the rows: rows dated later are not
    looked at, so nothing is ever fitted on the future.
    """

    until: Any = None

    def fit(self, X: Matrix, y: Any = None, dates: Dates | None = None) -> Self:
        """Learn from the rows of `X`, shape (documents, features), that are not later than `until`.

        Parameters
        ----------
        X : CSR or ndarray
        y : None
        dates : sequence, shape (documents,)
            Years or dates, comparable with `until`; only needed with it.

        Raises
        ------
        ConfigError
            If `until` is given without dates.
        DataError
            If a value is NaN or infinite, or no row is early enough.
        """
        X = self._checked(X)
        self.n_features_in_ = X.shape[1]
        self._learn(X if self.until is None else X[self._is_past(X, dates)])
        return self

    def _learn(self, X: Matrix) -> None:
        """Learn from rows known to be in order and in time."""

    def transform(self, X: Matrix) -> Any:
        """Return the vectors of the rows of `X`."""
        raise NotImplementedError

    def similarity(self, A: Matrix, B: Matrix | None = None) -> np.ndarray:
        """Similarities of transformed rows, shape (rows of A, rows of B); of all pairs of A if B is not given."""
        product = A @ (A if B is None else B).T
        return dense(product)

    def blocks(self, A: Matrix, rows: int = 1024) -> Iterator[tuple[slice, np.ndarray]]:
        """Similarities of all pairs, `rows` rows at a time, so that nobody holds them all.

        Yields
        ------
        slice, ndarray
            Which rows of the transformed `A`, and their similarities to all rows, shape (at most `rows`, n).
        """
        for start in range(0, A.shape[0], rows):
            part = slice(start, min(start + rows, A.shape[0]))
            yield part, self.similarity(A[part], A)

    def _checked(self, X: Matrix) -> Matrix:
        """`X` as CSR or an array; refuse what has no similarity: NaN, infinite values, no rows."""
        if len(X.shape) != 2 or X.shape[0] == 0:
            raise DataError(f"features must be a matrix with one or more rows, not of shape {X.shape}")
        X = sp.csr_array(X) if sp.issparse(X) else np.asarray(X)
        wrong = ~np.isfinite(X.data if isinstance(X, sp.csr_array) else X)
        if wrong.any():
            place = int(np.argwhere(wrong)[0, 0])
            row = int(np.searchsorted(X.indptr, place, side="right") - 1) if isinstance(X, sp.csr_array) else place
            raise DataError(f"row {row} of the features holds NaN or infinite values: leave it out or mend it")
        return X

    def _is_past(self, X: Matrix, dates: Dates | None) -> np.ndarray:
        if dates is None:
            raise ConfigError(f"until is {self.until}: fit needs the dates of the rows to keep the future out")
        given = np.asarray(dates)
        if given.shape != (X.shape[0],):
            raise DataError(f"{X.shape[0]} rows and dates of shape {given.shape}: give each row one date")
        past: np.ndarray = given <= self.until
        if not past.any():
            raise DataError(f"no row is dated {self.until} or earlier: nothing to fit on")
        return past


def dense(X: Any) -> np.ndarray:
    """`X`, sparse or not, as a dense array in double precision."""
    return np.asarray(X if isinstance(X, np.ndarray) else X.toarray(), dtype=np.float64)


def unit(X: Any) -> Any:
    """Divide rows by their norm, CSR or dense; a row of zeros stays zero and is similar to nothing."""
    if isinstance(X, sp.csr_array):
        norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel())
        return sp.csr_array(sp.diags_array(np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)) @ X)
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.divide(X, norms, out=np.zeros_like(X), where=norms > 0)


def column_blocks(X: Matrix, width: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Columns of `X` as dense blocks in double precision, so that a wide CSR matrix is never dense as a whole."""
    step = width or max(1, _BLOCK // X.shape[0])
    columns = sp.csc_array(X) if isinstance(X, sp.csr_array) and X.shape[1] > step else X
    for start in range(0, X.shape[1], step):
        part = slice(start, min(start + step, X.shape[1]))
        yield part, dense(columns[:, part])


def fitted_arrays(estimator: BaseEstimator) -> dict[str, np.ndarray]:
    """Arrays an estimator has learned, by attribute name, for a safetensors file."""
    return {name: value for name, value in vars(estimator).items() if isinstance(value, np.ndarray)}


def restore(estimator: BaseEstimator, arrays: dict[str, np.ndarray]) -> BaseEstimator:
    """Give a fresh estimator what `fitted_arrays` saved."""
    for name, value in arrays.items():
        setattr(estimator, name, value)
    return estimator
