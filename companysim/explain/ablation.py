"""Rows as ablation sees them: what each latent brings to a row, along which axis, and what a shorter row changes.

The removal of latent j turns a row z, taken before it is divided by its norm, into ``z - a_j W_j + d_j V``; the closed
form of `companysim.explain.attribution` needs a few numbers of whole rows and six of each latent. There is one class
for each shape the axes W take.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from companysim.similarity import PcaCosine, StandardisedCosine, SupervisedCosine
from companysim.similarity.base import Matrix, Similarity, dense

Columns = slice | np.ndarray


class Whole(NamedTuple):
    """Numbers of whole rows.

    Attributes
    ----------
    square : ndarray, shape (rows,)
        ``|z|^2``.
    inner : ndarray, shape (pairs,)
        ``z_1 . z_2``.
    along : ndarray, shape (rows,)
        ``z . V``.
    moved : float
        ``|V|^2``.
    """

    square: np.ndarray
    inner: np.ndarray
    along: np.ndarray
    moved: float


class Block(NamedTuple):
    """Numbers of some latents.

    Attributes
    ----------
    z, a, G : ndarray, shape (rows, latents)
        The row's entry, what removal takes away, and ``z . W_j``.
    d : ndarray, shape (rows, latents), or None
        How much shorter, in log length, the row becomes; None without length control.
    square, along : ndarray, shape (latents,)
        ``|W_j|^2`` and ``W_j . V``.
    """

    z: np.ndarray
    a: np.ndarray
    G: np.ndarray
    d: np.ndarray | None
    square: np.ndarray
    along: np.ndarray


def removed(X: Matrix, latents: Any) -> Matrix:
    """Copy of `X` with some columns set to 0: what ablation means."""
    if isinstance(X, np.ndarray):
        copy = np.array(X)
        copy[:, latents] = 0
        return copy
    kept = np.ones(X.shape[1], dtype=X.dtype)
    kept[latents] = 0
    return sp.csr_array(X @ sp.diags_array(kept))


def rows_of(estimator: Similarity, X: Matrix) -> Rows:
    """Rows of `X` as `estimator`, a cosine linear in what is removed, compares them."""
    if isinstance(estimator, PcaCosine):
        return Projected(estimator, X)
    return Standardised(estimator, X) if isinstance(estimator, StandardisedCosine) else Rows(estimator, X)


class Rows:
    """Rows of a weighted cosine; the axes are the latents themselves.

    Parameters
    ----------
    estimator : Cosine, LogIdfCosine, SaturatedCosine without length control, or SupervisedCosine
    X : CSR or ndarray, shape (rows, latents)
    """

    power = 1.0  # of the norms in the similarity

    def __init__(self, estimator: Any, X: Matrix) -> None:
        self.estimator, self.X = estimator, X
        if isinstance(estimator, SupervisedCosine):
            weights = np.zeros(X.shape[1])
            weights[estimator.selected_] = estimator.weights_
            self.Z: Any = sp.csr_array(X) @ sp.diags_array(weights)
            self.power = estimator.alpha
        else:
            self.Z = sp.csr_array(estimator._weighted(X.astype(np.float64)))
        self._columns: Any = sp.csc_array(self.Z)

    def whole(self, first: np.ndarray, second: np.ndarray) -> Whole:
        """Numbers of all rows, and of the pairs `first` and `second` hold the rows of."""
        square = np.asarray(self.Z.multiply(self.Z).sum(axis=1)).ravel()
        inner = np.asarray(self.Z[first].multiply(self.Z[second]).sum(axis=1)).ravel()
        return Whole(square, inner, np.zeros_like(square), 0.0)

    def block(self, latents: Columns) -> Block:
        """Numbers of some latents."""
        z = dense(self._columns[:, latents])
        ones = np.ones(z.shape[1])
        return Block(z, z, z, None, ones, np.zeros_like(ones))


class Standardised(Rows):
    """Standardised rows, which are dense: a standardised zero is none. The axes are the latents themselves.

    Parameters
    ----------
    estimator : StandardisedCosine
    X : CSR or ndarray, shape (rows, latents)
    """

    def __init__(self, estimator: StandardisedCosine, X: Matrix) -> None:
        self.estimator, self.X = estimator, X
        self._columns = sp.csc_array(X) if isinstance(X, sp.csr_array) else X
        scale = estimator.scale_
        self._weight = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        self._offset = estimator.mean_ * self._weight
        self.V = estimator.slope_ * self._weight if estimator.length_control else np.zeros_like(scale)
        size: Any = abs(X)
        self._size = np.asarray(size.sum(axis=1), dtype=np.float64).reshape(-1, 1)

    def whole(self, first: np.ndarray, second: np.ndarray) -> Whole:
        """Numbers of all rows, and of the pairs `first` and `second` hold the rows of."""
        square, inner, along = np.zeros(self.X.shape[0]), np.zeros(len(first)), np.zeros(self.X.shape[0])
        for part, z in self.estimator._standardised(self.X):
            square += np.einsum("ij,ij->i", z, z)
            inner += [z[one] @ z[two] for one, two in zip(first, second, strict=True)]
            along += z @ self.V[part]
        return Whole(square, inner, along, float(self.V @ self.V))

    def block(self, latents: Columns) -> Block:
        """Numbers of some latents."""
        z, a, d = self._entries(latents)
        return Block(z, a, z, d, np.ones(z.shape[1]), self.V[latents])

    def _entries(self, latents: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Entries of the rows, what removal takes away, and by how much it shortens them."""
        x = dense(self._columns[:, latents])
        a = (np.log1p(x) if self.estimator.log else x) * self._weight[latents]
        z = a - self._offset[latents]
        if not self.estimator.length_control:
            return z, a, None
        z -= (np.log1p(self._size) - self.estimator.mean_length_) * self.V[latents]
        return z, a, np.log1p(self._size) - np.log1p(np.maximum(self._size - np.abs(x), 0.0))


class Projected(Standardised):
    """Standardised rows on principal components; the axes are the columns of the loadings.

    Parameters
    ----------
    estimator : PcaCosine
    X : CSR or ndarray, shape (rows, latents)
    """

    def __init__(self, estimator: PcaCosine, X: Matrix) -> None:
        super().__init__(estimator, X)
        self.W = estimator.components_
        self.P = np.zeros((X.shape[0], len(self.W)), dtype=self.W.dtype)
        for part, z in estimator._standardised(X):
            self.P += z.astype(self.W.dtype, copy=False) @ self.W[:, part].T
        self._direction = self.W @ self.V.astype(self.W.dtype, copy=False)

    def whole(self, first: np.ndarray, second: np.ndarray) -> Whole:
        """Numbers of all rows, and of the pairs `first` and `second` hold the rows of."""
        P, direction = self.P.astype(np.float64, copy=False), self._direction.astype(np.float64, copy=False)
        inner = np.einsum("ij,ij->i", P[first], P[second])
        return Whole(np.einsum("ij,ij->i", P, P), inner, P @ direction, float(direction @ direction))

    def block(self, latents: Columns) -> Block:
        """Numbers of some latents."""
        z, a, d = self._entries(latents)
        W = self.W[:, latents] if isinstance(latents, slice) else np.take(self.W, latents, axis=1)
        along = np.zeros(W.shape[1]) if d is None else dense(self._direction @ W)
        return Block(z, a, dense(self.P @ W), d, dense(np.einsum("ij,ij->j", W, W)), along)
