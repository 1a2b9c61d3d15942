"""Similarities of sparse counts: raw and weighted cosines, and Jaccard. None of them centres, so CSR stays CSR."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from companysim.similarity.base import Matrix, Similarity, dense, unit


class Cosine(Similarity):
    """Raw cosine: each row divided by its Euclidean norm.

    Parameters
    ----------
    sparse_output : bool
        Return CSR for CSR: the way to go when rows times features do not fit into memory.
    """

    def __init__(self, sparse_output: bool = False) -> None:
        self.sparse_output = sparse_output

    def transform(self, X: Matrix) -> Any:
        """Return unit rows, shape (documents, features)."""
        return unit(self._weighted(self._input(X)))

    def _weighted(self, X: Any) -> Any:
        """Return the rows, CSR or dense as they came, before they are divided by their norms."""
        return X

    def _input(self, X: Matrix) -> Any:
        X = self._checked(X)
        return X.astype(np.float64) if self.sparse_output and isinstance(X, sp.csr_array) else dense(X)


class LogIdfCosine(Cosine):
    """Cosine of ``log(1 + x_j) * log(N / n_j)``, where n_j of the N fitted documents have latent j active.

    The logarithm damps latents that fire on every token; the inverse document frequency drops those that fire in
    every document. A latent active in no fitted document has weight 0.

    Parameters
    ----------
    until : date or int, optional
        Documents dated later are not counted; `fit` then needs their `dates`.
    sparse_output : bool
        As in `Cosine`.
    """

    def __init__(self, until: Any = None, sparse_output: bool = False) -> None:
        super().__init__(sparse_output)
        self.until = until

    def _learn(self, X: Matrix) -> None:
        active = np.asarray((X > 0).sum(axis=0)).ravel()
        self.idf_ = np.where(active > 0, np.log(X.shape[0] / np.maximum(active, 1)), 0.0)

    def _weighted(self, X: Any) -> Any:
        if isinstance(X, sp.csr_array):
            return sp.csr_array((np.log1p(X.data) * self.idf_[X.indices], X.indices, X.indptr), shape=X.shape)
        return np.log1p(X) * self.idf_


class SaturatedCosine(LogIdfCosine):
    """Cosine of latents that saturate, sooner in short documents: BM25's weight, a length control for summed latents.

    With ``t = x_j / m_j``, m_j the mean of latent j where it is active in the fitted documents, the weight of a latent
    is ``idf_j * t (k1 + 1) / (t + k1 (1 - b + b L / mean L))`` (Robertson and Zaragoza 2009), where L is the sum of
    a document's latents. A cosine does not see the scale of a row, so length can only be controlled within it:
    a long text repeats what it says, and with `k1` the tenth token of a latent counts for less than the first.

    Parameters
    ----------
    k1 : float
        At 0 only presence counts; growing, the weight becomes proportional to the latent.
    b : float
        Between 0, no regard to length, and 1.
    until, sparse_output
        As in `LogIdfCosine`.

    Attributes
    ----------
    idf_ : ndarray, shape (features,)
        As in `LogIdfCosine`.
    typical_ : ndarray, shape (features,)
        m_j; 1 for latents active in no fitted document.
    mean_length_ : ndarray, shape (1,)
    """

    def __init__(self, k1: float = 1.2, b: float = 0.75, until: Any = None, sparse_output: bool = False) -> None:
        super().__init__(until, sparse_output)
        self.k1 = k1
        self.b = b

    def _learn(self, X: Matrix) -> None:
        super()._learn(X)
        active = np.asarray((X > 0).sum(axis=0)).ravel()
        total = np.asarray(X.sum(axis=0), dtype=np.float64).ravel()
        self.typical_ = np.where((active > 0) & (total > 0), total / np.maximum(active, 1), 1.0)
        self.mean_length_ = np.array([max(float(total.sum()) / X.shape[0], np.finfo(float).tiny)])

    def _weighted(self, X: Any) -> Any:
        length = np.asarray(X.sum(axis=1)).ravel() / self.mean_length_
        damping = self.k1 * (1 - self.b + self.b * length)
        if isinstance(X, sp.csr_array):
            rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
            weights = self._saturated(X.data / self.typical_[X.indices], damping[rows]) * self.idf_[X.indices]
            return sp.csr_array((weights, X.indices, X.indptr), shape=X.shape)
        return self._saturated(X / self.typical_, damping[:, None]) * self.idf_

    def _saturated(self, t: np.ndarray, damping: np.ndarray) -> np.ndarray:
        bottom = t + damping
        result: np.ndarray = np.divide(t * (self.k1 + 1), bottom, out=np.zeros_like(t), where=bottom > 0)
        return result


class Jaccard(Similarity):
    """Jaccard similarity of the sets of active latents: ``|A and B| / |A or B|``; 0 if both are empty.

    The vectors are CSR rows of ones; unlike the other similarities this one is no inner product of them, so use
    `similarity` and `blocks`.
    """

    def transform(self, X: Matrix) -> sp.csr_array:
        """Return CSR rows with a one where a latent is active (above 0), shape (documents, features)."""
        active = sp.csr_array(self._checked(X) > 0)
        active.eliminate_zeros()
        return active.astype(np.float64)

    def similarity(self, A: Matrix, B: Matrix | None = None) -> np.ndarray:
        """Similarities of transformed rows, shape (rows of A, rows of B); of all pairs of A if B is not given."""
        B = A if B is None else B
        shared = super().similarity(A, B)
        either = np.asarray(A.sum(axis=1)).reshape(-1, 1) + np.asarray(B.sum(axis=1)).reshape(1, -1) - shared
        result: np.ndarray = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
        return result
