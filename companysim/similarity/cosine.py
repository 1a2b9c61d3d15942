"""Cosine similarities. Every estimator maps rows to unit vectors, so that similarity is one matrix product.

An estimator learns on the rows it is fitted on and nothing else; new rows (a text nobody has seen) are mapped
with what was learned. Each takes CSR or dense input of shape (documents, features).
"""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin

from companysim.errors import DataError

Matrix = np.ndarray | sp.csr_array


class Cosine(TransformerMixin, BaseEstimator):
    """Raw cosine: each row divided by its Euclidean norm."""

    def fit(self, X: Matrix, y: None = None) -> Self:
        """Check the shape of `X`; there is nothing to learn."""
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Matrix) -> np.ndarray:
        """Return unit rows, shape (documents, features)."""
        return _unit(_dense(X))


class LogIdfCosine(TransformerMixin, BaseEstimator):
    """Cosine of ``log(1 + x_j) * log(N / n_j)``, where n_j of the N fitted documents have latent j active.

    The logarithm damps latents that fire on every token; the inverse document frequency drops those that fire in
    every document. A latent active in no fitted document has weight 0.
    """

    def fit(self, X: Matrix, y: None = None) -> Self:
        """Learn `idf_`, shape (features,)."""
        active = np.asarray((X > 0).sum(axis=0)).ravel()
        self.n_features_in_ = X.shape[1]
        self.idf_ = np.where(active > 0, np.log(X.shape[0] / np.maximum(active, 1)), 0.0)
        return self

    def transform(self, X: Matrix) -> np.ndarray:
        """Return unit rows, shape (documents, features)."""
        return _unit(np.log1p(_dense(X)) * self.idf_)


class StandardisedCosine(TransformerMixin, BaseEstimator):
    """Cosine of rows whose features are standardised (mean 0, standard deviation 1 over the fitted documents)."""

    def fit(self, X: Matrix, y: None = None) -> Self:
        """Learn `mean_` and `scale_`, shape (features,); constant features get weight 0."""
        dense = _dense(X)
        self.n_features_in_ = X.shape[1]
        self.mean_ = dense.mean(axis=0)
        self.scale_ = np.where(np.ptp(dense, axis=0) > 0, dense.std(axis=0), 0.0)  # rounding gives constants a spread
        return self

    def transform(self, X: Matrix) -> np.ndarray:
        """Return unit rows, shape (documents, features)."""
        return _unit(self._standardise(X))

    def _standardise(self, X: Matrix) -> np.ndarray:
        weight = np.divide(1.0, self.scale_, out=np.zeros_like(self.scale_), where=self.scale_ > 0)
        result: np.ndarray = (_dense(X) - self.mean_) * weight
        return result


class PcaCosine(StandardisedCosine):
    """The published similarity: standardise every latent, project on principal components, cosine.

    Parameters
    ----------
    variance : float
        Smallest share of the variance the kept components must explain (the paper keeps about 0.9).

    Attributes
    ----------
    components_ : ndarray, shape (kept, features)
        Principal axes in standardised space, signs fixed so that the largest loading is positive.
    explained_variance_ratio_ : ndarray, shape (kept,)

    Notes
    -----
    With fewer documents than latents the eigenvectors of the documents' Gram matrix give the same components as the
    features' covariance at a fraction of the cost: K = Z Z^T = U S^2 U^T, axes = S^-1 U^T Z.
    """

    def __init__(self, variance: float = 0.9) -> None:
        self.variance = variance

    def fit(self, X: Matrix, y: None = None) -> Self:
        """Learn the standardisation and the components from the rows of `X`.

        Raises
        ------
        DataError
            If all rows are alike, so that there is no variance to explain.
        """
        super().fit(X)
        Z = self._standardise(X)
        eigenvalues, vectors = np.linalg.eigh(Z @ Z.T)
        order = np.argsort(eigenvalues)[::-1]
        eigenvalues, vectors = np.maximum(eigenvalues[order], 0.0), vectors[:, order]
        total = eigenvalues.sum()
        if total <= 0:
            raise DataError("all documents have the same vector: there is nothing to compare")
        ratio = eigenvalues / total
        kept = int(np.searchsorted(np.cumsum(ratio), min(self.variance, 1 - 1e-9)) + 1)
        kept = min(kept, int((eigenvalues > 1e-12 * eigenvalues[0]).sum()))
        axes = (vectors[:, :kept] / np.sqrt(eigenvalues[:kept])).T @ Z
        signs = np.sign(axes[np.arange(kept), np.abs(axes).argmax(axis=1)])
        self.components_ = axes * signs[:, None]
        self.explained_variance_ratio_ = ratio[:kept]
        return self

    def transform(self, X: Matrix) -> np.ndarray:
        """Return unit rows, shape (documents, kept components)."""
        return _unit(self._standardise(X) @ self.components_.T)


def _dense(X: Matrix) -> np.ndarray:
    return np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)


def _unit(X: np.ndarray) -> np.ndarray:
    """Divide rows by their norm; a row of zeros stays zero and is similar to nothing."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(X, norms, out=np.zeros_like(X), where=norms > 0)
    return unit


def fitted_arrays(estimator: BaseEstimator) -> dict[str, np.ndarray]:
    """Arrays an estimator has learned, by attribute name, for a safetensors file."""
    return {name: value for name, value in vars(estimator).items() if isinstance(value, np.ndarray)}


def restore(estimator: BaseEstimator, arrays: dict[str, np.ndarray]) -> BaseEstimator:
    """Give a fresh estimator what `fitted_arrays` saved."""
    for name, value in arrays.items():
        setattr(estimator, name, value)
    return estimator
