"""Latents chosen and weighted by what they said about return correlations in training years."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from companysim.errors import ConfigError, DataError
from companysim.similarity.base import Dates, Matrix, Similarity, column_blocks, dense


class SupervisedCosine(Similarity):
    """Weighted supervised feature selection (METHOD.md, section 3): the latents that went with co-movement, weighted.

    The score of a latent is the mean return correlation of the training-year pairs of companies in which it is active
    in both, less the mean over all training-year pairs. The latents with the highest positive scores are kept and
    multiplied by their scores; the similarity of two rows z is ``z_1 . z_2 / (|z_1| |z_2|)^alpha``.

    Parameters
    ----------
    until : date or int
        Last training year. Rows and correlations of later years are not looked at. Required: this estimator reads
        returns, so without a cut-off it would be tested on what it has seen.
    n_latents : int
        Keep at most this many (500 to 2,500 in the follow-up); fewer if fewer have a positive score.
    minimum_pairs : int
        Latents active in both companies of fewer pairs, all training years together, are not considered.
    alpha : float
        1 is the cosine, 0 the plain inner product, in which long rows are similar to everything.

    Attributes
    ----------
    selected_ : ndarray of int64, shape (kept,)
        Latents in falling order of score, ties in their own order.
    weights_ : ndarray, shape (kept,)
        Their scores.
    scores_ : ndarray, shape (features,)
        Score of every latent; NaN where the pairs are too few.
    pair_counts_ : ndarray, shape (features,)
    mean_correlation_ : ndarray, shape (1,)
        Of all training-year pairs.
    """

    def __init__(self, until: Any = None, n_latents: int = 1000, minimum_pairs: int = 50, alpha: float = 1.0) -> None:
        self.until = until
        self.n_latents = n_latents
        self.minimum_pairs = minimum_pairs
        self.alpha = alpha

    def fit(self, X: Matrix, y: Mapping[Any, np.ndarray] | None = None, dates: Dates | None = None) -> Self:
        """Score the latents of `X`.

        Parameters
        ----------
        X : CSR or ndarray, shape (rows, features)
            One row a company and year.
        y : mapping of year to ndarray, shape (companies of the year, same)
            Symmetric return correlations of the rows of `X` with that date, in their order; NaN where a pair has none.
            The diagonal is not read.
        dates : sequence, shape (rows,)
            Year of each row.

        Raises
        ------
        ConfigError
            If `until`, `dates` or `y` is not given.
        DataError
            If no training year has correlations, their shape does not fit, or no latent has a positive score.
        """
        if self.until is None or dates is None or y is None:
            raise ConfigError("SupervisedCosine needs until, and its fit the rows' dates and the correlations by year")
        X = self._checked(X)
        self.n_features_in_ = X.shape[1]
        self._is_past(X, dates)
        given = np.asarray(dates)
        total, number = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        everything, pairs = 0.0, 0
        for year in sorted(year for year in y if year <= self.until):
            rows = np.flatnonzero(given == year)
            if y[year].shape != (len(rows), len(rows)):
                raise DataError(f"{year} has {len(rows)} rows and correlations of shape {y[year].shape}: make them fit")
            known = np.isfinite(y[year])
            np.fill_diagonal(known, False)
            values = np.where(known, y[year], 0.0)
            counted = known.astype(np.float64)
            everything, pairs = everything + values.sum() / 2, pairs + int(known.sum()) // 2
            for part, block in column_blocks(X[rows]) if len(rows) else ():
                active = (block > 0).astype(np.float64)
                total[part] += np.einsum("ij,ij->j", active, values @ active) / 2  # each pair once
                number[part] += np.einsum("ij,ij->j", active, counted @ active) / 2
        if not pairs:
            raise DataError(f"there is no return correlation up to {self.until}: nothing to learn from")
        self.mean_correlation_ = np.array([everything / pairs])
        self.pair_counts_ = number
        enough = number >= max(self.minimum_pairs, 1)
        self.scores_ = np.where(enough, total / np.maximum(number, 1), np.nan) - self.mean_correlation_
        order = np.argsort(-np.nan_to_num(self.scores_, nan=-np.inf), kind="stable")[: self.n_latents]
        self.selected_ = order[np.nan_to_num(self.scores_[order], nan=-1.0) > 0]
        self.weights_ = self.scores_[self.selected_]
        if not len(self.selected_):
            raise DataError("no latent has a positive score in enough pairs: lower minimum_pairs or give more years")
        return self

    def transform(self, X: Matrix) -> np.ndarray:
        """Return weighted rows divided by their norm to the power alpha, shape (rows, kept latents)."""
        z = dense(self._checked(X)[:, self.selected_]) * self.weights_
        norms = np.linalg.norm(z, axis=1, keepdims=True)
        result: np.ndarray = np.divide(z, norms**self.alpha, out=np.zeros_like(z), where=norms > 0)
        return result
