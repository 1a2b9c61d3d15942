"""The published similarity: standardise every latent, principal components, cosine. From 400 to 27,888 filings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import qr
from scipy.linalg.blas import dsyrk, ssyrk

from companysim.errors import ConfigError, DataError
from companysim.similarity.base import Matrix, Similarity, column_blocks, unit

EXACT = 5_000  # up to this many rows or columns all eigenvectors are computed
SETTLED = 1e-3  # share of the explained variance that one more turn of the subspace iteration may add
LARGEST = 40_000  # beyond this many of both their products, 4 bytes each, fill 6 GB


class StandardisedCosine(Similarity):
    """Cosine of rows whose features are standardised (mean 0, standard deviation 1 over the fitted documents).

    Parameters
    ----------
    length_control : bool
        Standardise what is left of a feature after a regression on the document's length, ``log(1 + sum_j |x_j|)``
        (one slope a feature, least squares over the fitted documents). Centring is the same thing with a constant
        alone. A cosine does not see the scale of a row, so length can only be controlled within the features. Best
        with `log`: a summed latent grows in proportion to length, so its logarithm is what a line in log length fits.
    log : bool
        Standardise ``log(1 + x)`` instead of x; for features of 0 or more, such as latents.
    until : date or int, optional
        Documents dated later are not fitted on; `fit` then needs their `dates`.

    Attributes
    ----------
    mean_, scale_ : ndarray, shape (features,)
        Constant features have scale 0 and no weight.
    slope_ : ndarray, shape (features,), and mean_length_ : ndarray, shape (1,)
        Only with `length_control`.
    """

    def __init__(self, length_control: bool = False, log: bool = False, until: Any = None) -> None:
        self.length_control = length_control
        self.log = log
        self.until = until

    def transform(self, X: Matrix) -> np.ndarray:
        """Return unit rows, shape (documents, features): dense, since standardised zeros are not zero."""
        rows = np.empty(X.shape)
        for part, block in self._standardised(self._checked(X)):
            rows[:, part] = block
        result: np.ndarray = unit(rows)
        return result

    def _checked(self, X: Matrix) -> Matrix:
        X = super()._checked(X)
        if self.log and X.min() < 0:
            raise DataError("log is for features of 0 or more, and one is negative: leave log off")
        return X

    def _learn(self, X: Matrix) -> None:
        self.mean_, self.scale_ = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        if self.length_control:
            length = _length(X)
            self.mean_length_, self.slope_ = np.array([length.mean()]), np.zeros(X.shape[1])
            length = length - self.mean_length_
            spread = float(length @ length)
        for part, block in self._features(X):
            self.mean_[part] = block.mean(axis=0)
            deviation = scale = block.std(axis=0)
            if self.length_control and spread > 0:
                self.slope_[part] = length @ (block - self.mean_[part]) / spread
                scale = (block - np.outer(length, self.slope_[part])).std(axis=0)
            varies = np.ptp(block, axis=0) > 0  # rounding gives constants a spread, and what length explains in full
            self.scale_[part] = np.where(varies & (scale > 1e-7 * deviation), scale, 0.0)

    def _features(self, X: Matrix) -> Iterator[tuple[slice, np.ndarray]]:
        for part, block in column_blocks(X):
            yield part, np.log1p(block) if self.log else block

    def _standardised(self, X: Matrix) -> Iterator[tuple[slice, np.ndarray]]:
        """Columns of `X` in blocks, standardised: centring a block costs nothing once it is dense."""
        weight = np.divide(1.0, self.scale_, out=np.zeros_like(self.scale_), where=self.scale_ > 0)
        length = _length(X) - self.mean_length_ if self.length_control else None
        for part, block in self._features(X):
            centred = block - self.mean_[part]
            if length is not None:
                centred -= np.outer(length, self.slope_[part])
            centred *= weight[part]
            yield part, centred


class PcaCosine(StandardisedCosine):
    """The published similarity: standardise every latent, project on principal components, cosine.

    Parameters
    ----------
    variance : float
        Smallest share of the variance the kept components must explain (the paper keeps about 0.9).
    n_components : int, optional
        Keep this many instead (the paper's 4,000).
    length_control, log, until
        As in `StandardisedCosine`.
    seed : int
        Of the randomised solver.

    Attributes
    ----------
    components_ : ndarray, shape (kept, features)
        Principal axes in standardised space, signs fixed so that the largest loading is positive. In single precision
        if they come from the randomised solver.
    explained_variance_ratio_ : ndarray, shape (kept,)

    Notes
    -----
    The components come from the smaller of two products of the standardised matrix Z with itself: documents times
    documents, ``Z Z^T = U S^2 U^T`` with axes ``S^-1 U^T Z``, or features times features. Z is only ever formed in
    blocks of columns. Up to 5,000 a side all eigenvectors are computed; beyond, the product is kept in single precision
    and its leading eigenvectors are found by subspace iteration from a random start (Halko, Martinsson and Tropp 2011,
    section 5.4), until one more turn adds less than a thousandth to the variance they explain: the last components are
    then mixtures of their neighbours, which cosines hardly notice. The start is tied to what rows hold, not to where
    they stand. 27,888 filings of 131,072 latents: 3.1 GB for the product, 2.1 GB for 4,000 axes.
    Rows that are all alike, or more than 40,000 rows and features, are refused (`DataError`).
    """

    def __init__(
        self,
        variance: float = 0.9,
        n_components: int | None = None,
        length_control: bool = False,
        log: bool = False,
        until: Any = None,
        seed: int = 0,
    ) -> None:
        super().__init__(length_control, log, until)
        self.variance = variance
        self.n_components = n_components
        self.seed = seed

    def transform(self, X: Matrix) -> np.ndarray:
        """Return unit rows, shape (documents, kept components)."""
        scores = np.zeros((X.shape[0], len(self.components_)), dtype=self.components_.dtype)
        for part, block in self._standardised(self._checked(X)):
            scores += block.astype(scores.dtype, copy=False) @ self.components_[:, part].T
        result: np.ndarray = unit(scores.astype(np.float64, copy=False))
        return result

    def _learn(self, X: Matrix) -> None:
        if self.variance <= 0 or (self.n_components is not None and self.n_components < 1):
            raise ConfigError("PcaCosine needs a variance above 0 and n_components of 1 or more")
        super()._learn(X)
        by_rows = X.shape[0] <= X.shape[1]
        side = min(X.shape)
        if side > LARGEST:
            raise DataError(f"{X.shape[0]} rows of {X.shape[1]} features are too many for PCA: fit on {LARGEST} rows")
        product = self._product(X, by_rows, np.float64 if side <= EXACT else np.float32)
        total = float(np.trace(product, dtype=np.float64))
        if total <= 0:
            raise DataError("all documents have the same vector: there is nothing to compare")
        if side <= EXACT:
            values, vectors = np.linalg.eigh(product)
            values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        else:
            values, vectors = self._leading(product, total, self._places(X) if by_rows else np.arange(side))
        kept = self.n_components or _enough(values, self.variance * total)
        kept = min(kept, int((values > 1e-12 * values[0]).sum()))
        values, vectors = values[:kept], vectors[:, :kept]
        del product
        self.explained_variance_ratio_ = np.asarray(values / total, dtype=np.float64)
        axes = vectors.T
        if by_rows:
            left = np.ascontiguousarray(vectors.T / np.sqrt(values)[:, None])
            axes = np.empty((kept, X.shape[1]), dtype=left.dtype)
            for part, block in self._standardised(X):
                axes[:, part] = left @ block.astype(left.dtype, copy=False)
        highest, lowest = axes.max(axis=1), axes.min(axis=1)
        signs = np.where(highest >= -lowest, 1, -1).astype(axes.dtype)
        self.components_ = np.multiply(axes, signs[:, None], out=axes if by_rows else None)

    def _product(self, X: Matrix, by_rows: bool, dtype: type[np.floating[Any]]) -> np.ndarray:
        """Z times its transpose, shape (documents, documents), or its transpose times Z, (features, features)."""
        side = X.shape[0] if by_rows else X.shape[1]
        product = np.zeros((side, side), dtype=dtype, order="F")
        syrk = dsyrk if dtype is np.float64 else ssyrk
        if by_rows:
            for _, block in self._standardised(X):
                product = syrk(1.0, np.asfortranarray(block, dtype=dtype), beta=1.0, c=product, overwrite_c=1)
        else:
            rows = max(1, (1 << 24) // X.shape[1])
            for start in range(0, X.shape[0], rows):
                block = np.hstack([block for _, block in self._standardised(X[start : start + rows])])
                product = syrk(1.0, np.asfortranarray(block.T, dtype=dtype), beta=1.0, c=product, overwrite_c=1)
        for start in range(0, side, 1024):  # syrk fills the upper half
            stop = min(start + 1024, side)
            own = np.triu(product[start:stop, start:stop])
            product[start:stop, start:stop] = own + np.triu(own, 1).T
            product[stop:, start:stop] = product[start:stop, stop:].T
        return product

    def _places(self, X: Matrix) -> np.ndarray:
        """Rank of each row by a random projection: an order of the rows that does not depend on where they stand."""
        projected = np.asarray(X @ np.random.default_rng(self.seed).standard_normal((X.shape[1], 1))).ravel()
        return np.argsort(np.argsort(projected, kind="stable"))

    def _leading(self, product: np.ndarray, total: float, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Leading eigenvalues and eigenvectors: as many as asked for, or as the share of variance needs."""
        rng = np.random.default_rng(self.seed)
        side = len(product)
        wanted = min(self.n_components or 256, side)
        basis = np.empty((side, 0), dtype=product.dtype)
        while True:
            size = min(wanted + max(10, wanted // 20), side)  # a few more: the last ones settle slowly
            fresh = rng.standard_normal((side, size - basis.shape[1]), dtype=np.float32).astype(product.dtype)[place]
            basis = _orthonormal(np.hstack([basis, fresh]))
            explained = 0.0
            for _ in range(30):
                image = product @ basis
                before, explained = explained, float(np.einsum("ij,ij->", basis, image, dtype=np.float64))
                basis = _orthonormal(image)
                if explained - before <= SETTLED * explained:
                    break
            image = product @ basis
            values, rotation = np.linalg.eigh((basis.T @ image).astype(np.float64))
            values, vectors = values[::-1], basis @ rotation[:, ::-1].astype(basis.dtype)
            enough = self.n_components is not None or values[:wanted].sum() >= min(self.variance, 1 - 1e-6) * total
            if enough or size == side:
                return np.maximum(values[:wanted], 0.0).astype(basis.dtype), vectors[:, :wanted]
            basis, wanted = vectors, min(2 * wanted, side)


def _length(X: Matrix) -> np.ndarray:
    """Log of one plus a row's total activation, shape (documents,)."""
    size: Any = abs(X)
    length: np.ndarray = np.log1p(np.asarray(size.sum(axis=1), dtype=np.float64).ravel())
    return length


def _orthonormal(X: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the columns of `X`."""
    basis: np.ndarray = qr(X, mode="economic", overwrite_a=True, check_finite=False)[0]
    return basis


def _enough(values: np.ndarray, wanted: float) -> int:
    """How many leading values it takes to sum to `wanted`; all of them if they do not."""
    reached = np.cumsum(values, dtype=np.float64)
    return int(np.searchsorted(reached, min(wanted, (1 - 1e-9) * reached[-1])) + 1)
