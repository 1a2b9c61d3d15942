"""Which latents make two companies alike: the exact effect of removing each latent, for all latents at once.

Removing latent j means setting it to 0 in the raw rows of both companies before anything else is done to them
(METHOD.md, section 5). All cosines here compare rows z that are linear in what is removed,

    z' = z - a_j W_j + d_j V,

where ``a_j`` is what latent j brings to the row (its weighted value, or ``f(x_j) / s_j`` of the standardised ones),
``W_j`` the axis it moves the row along (a unit vector, or its column of the PCA loadings), and ``d_j V`` what a
shorter document changes where length is controlled for (``V = 0`` elsewhere). So with ``G_j = z . W_j``

    z_1' . z_2' = z_1 . z_2 - a_1 G_2 - a_2 G_1 + a_1 a_2 |W_j|^2
                  + d_1 (z_2 . V - a_2 W_j . V) + d_2 (z_1 . V - a_1 W_j . V) + d_1 d_2 |V|^2
    |z'|^2      = |z|^2 - 2 a G + a^2 |W_j|^2 + 2 d (z . V - a W_j . V) + d^2 |V|^2

and the similarities without each latent, all latents and all pairs, cost one matrix product ``G = Z W``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.errors import ConfigError, DataError
from companysim.explain.ablation import Rows, removed, rows_of
from companysim.similarity import Cosine, SaturatedCosine, Similarity, StandardisedCosine, SupervisedCosine
from companysim.similarity.base import Matrix, dense, unit

CHUNK = 512  # latents worked on at once, so that blocks stay in the processor's cache
BLOCK = 1 << 17  # the same where latents meet latents
LOST = 1e-8  # a row that keeps less than this share of its squared norm is projected anew: subtraction lost its digits


@dataclass(frozen=True)
class Attribution:
    """What each latent does for the similarity of each pair.

    Attributes
    ----------
    pairs : ndarray of int64, shape (pairs, 2)
        Rows of the matrix the latents came in.
    latents : ndarray of int64, shape (latents,)
        Columns of that matrix.
    similarity : ndarray, shape (pairs,)
    drop : ndarray, shape (pairs, latents)
        Similarity less the similarity once the latent is removed from both rows: positive for a latent that makes the
        two alike, negative for one that sets them apart, 0 for one active in neither.
    contribution : ndarray, shape (pairs, latents)
        Terms that add up to the similarity over all latents: ``u_j v_j`` for weighted cosines, and
        ``(z_1j G_2j + z_2j G_1j) / (2 |z_1| |z_2|)`` for the PCA cosine, z standardised.
    """

    pairs: np.ndarray
    latents: np.ndarray
    similarity: np.ndarray
    drop: np.ndarray
    contribution: np.ndarray

    def importance(self) -> np.ndarray:
        """Mean absolute change of the similarity over the pairs, shape (latents,): the published importance."""
        mean: np.ndarray = np.abs(self.drop).mean(axis=0)
        return mean

    def top(self, n: int = 10) -> pd.DataFrame:
        """Return the `n` latents of each pair with the largest positive drop, ties by number; see `to_frame`.

        Returns
        -------
        DataFrame
            Columns of `to_frame` and rank, from 1 within a pair; fewer rows where fewer latents make the pair alike.
        """
        if n < 1:
            raise ConfigError(f"n is {n}: ask for at least one latent")
        order = np.lexsort((np.broadcast_to(self.latents, self.drop.shape), -self.drop), axis=1)[:, :n]
        frame = self._frame(np.repeat(np.arange(len(self.pairs)), order.shape[1]), order.ravel())
        frame.insert(2, "rank", np.tile(np.arange(1, order.shape[1] + 1), len(self.pairs)))
        return frame[frame["drop"] > 0].reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """One row for each pair and latent that has any effect on it.

        Returns
        -------
        DataFrame
            row_1, row_2, latent, drop, contribution, similarity (of the pair).
        """
        return self._frame(*np.nonzero((self.drop != 0) | (self.contribution != 0)))

    def summary(self) -> str:
        """One line: how many pairs and latents, and how much of the similarity the ten strongest latents bring."""
        share = np.sort(self.contribution, axis=1)[:, -10:].sum(axis=1)
        return (
            f"{len(self.pairs)} pairs, {len(self.latents)} latents: mean similarity {self.similarity.mean():.3f}, "
            f"of which the ten largest contributions of each pair bring {share.mean():.3f}"
        )

    def _frame(self, pair: np.ndarray, column: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "row_1": self.pairs[pair, 0],
                "row_2": self.pairs[pair, 1],
                "latent": self.latents[column],
                "drop": self.drop[pair, column],
                "contribution": self.contribution[pair, column],
                "similarity": self.similarity[pair],
            }
        )


def attribute(
    estimator: Similarity,
    X: Matrix,
    pairs: Any,
    latents: Any = None,
    budget_mb: float = 256,
) -> Attribution:
    """Remove every latent from every pair and measure what that does to the pair's similarity, exactly.

    Parameters
    ----------
    estimator : Cosine, LogIdfCosine, SaturatedCosine, SupervisedCosine, StandardisedCosine or PcaCosine
        Fitted. It stays as it was fitted: the removal changes the two rows, not what was learned from all rows.
    X : CSR or ndarray, shape (documents, latents)
        Raw latents, as the estimator was fitted on.
    pairs : array of int, shape (pairs, 2)
        Rows of `X`.
    latents : array of int, optional
        Columns of `X` to remove, one at a time; all of them by default.
    budget_mb : float
        Memory for blocks of latents while working; the result, two matrices pairs x latents in double precision, comes
        on top.

    Raises
    ------
    ConfigError
        If the estimator is none of these cosines or not fitted, or the budget is not positive.
    DataError
        If `X` does not fit the estimator, or a pair or latent is not in `X`.

    Notes
    -----
    `SaturatedCosine` with b > 0 weights a latent by the length of its document, which every removal changes, in no
    linear way: there each removal weighs the latents of the two documents anew, at a cost quadratic in their number.
    """
    pairs, latents = _checked(estimator, X, pairs, latents)
    if not budget_mb > 0:
        raise ConfigError(f"budget_mb is {budget_mb}: give a positive number of megabytes")
    rows, ends = np.unique(pairs, return_inverse=True)
    first, second = ends.reshape(pairs.shape).T
    X = estimator._checked(X[rows])
    numbers = int(budget_mb * 2**20 / 8)
    if isinstance(estimator, SaturatedCosine) and estimator.b != 0 and estimator.k1 != 0:
        return Attribution(pairs, latents, *_saturated(estimator, sp.csr_array(X), first, second, latents, numbers))
    return Attribution(pairs, latents, *closed_form(rows_of(estimator, X), first, second, latents, numbers))


def _checked(estimator: Similarity, X: Matrix, pairs: Any, latents: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pairs and latents as arrays of int64; refuse what cannot be attributed."""
    if not isinstance(estimator, Cosine | StandardisedCosine | SupervisedCosine):
        raise ConfigError(f"{type(estimator).__name__} is no cosine of latents: attribution is for cosines")
    learned = {"PcaCosine": "components_", "StandardisedCosine": "mean_", "SupervisedCosine": "scores_"}
    needed = learned.get(type(estimator).__name__, "idf_" if type(estimator) is not Cosine else "")
    if needed and not hasattr(estimator, needed):
        raise ConfigError(f"{type(estimator).__name__} is not fitted: fit it before asking what its latents do")
    width = getattr(estimator, needed).shape[-1] if needed else X.shape[1]
    if width != X.shape[1]:
        raise DataError(f"the rows have {X.shape[1]} latents but the estimator was fitted on {width}: give the same")
    chosen = np.arange(X.shape[1]) if latents is None else np.asarray(latents, dtype=np.int64).ravel()
    if len(chosen) and not (0 <= chosen.min() and chosen.max() < X.shape[1]):
        raise DataError(f"latents run from 0 to {X.shape[1] - 1}: one of those asked for is outside")
    wanted = np.asarray(pairs, dtype=np.int64)
    if wanted.ndim != 2 or wanted.shape[1] != 2 or not len(wanted):
        raise DataError(f"pairs must have shape (pairs, 2) with at least one pair, not {wanted.shape}")
    if wanted.min() < 0 or wanted.max() >= X.shape[0]:
        raise DataError(f"rows run from 0 to {X.shape[0] - 1}: one of the pairs is outside")
    return wanted, chosen


def closed_form(
    rows: Rows, first: np.ndarray, second: np.ndarray, latents: np.ndarray, numbers: int = 2**25
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarity, drop and contribution of pairs by the closed form; see `Attribution`.

    Parameters
    ----------
    rows : Rows
        The rows of all pairs, once each.
    first, second : ndarray of int, shape (pairs,)
        Which of them a pair consists of.
    latents : ndarray of int, shape (latents,)
    numbers : int
        How many numbers a block of latents may take.
    """
    square, inner, along, moved = rows.whole(first, second)
    scale = _reciprocal(square[first] * square[second], rows.power)
    similarity: np.ndarray = inner * scale
    drop, contribution = np.zeros((len(first), len(latents))), np.zeros((len(first), len(latents)))
    step = max(1, min(CHUNK, numbers // (6 * len(square) + 12 * len(first))))
    consecutive = np.array_equal(latents, np.arange(len(latents)))
    lost: list[tuple[int, int]] = []
    for start in range(0, len(latents), step):
        out = slice(start, min(start + step, len(latents)))
        z, a, G, d, w, v = rows.block(out if consecutive else latents[out])
        norm = square[:, None] - a * (2 * G - a * w)
        H = G - a * w
        product = inner[:, None] - a[first] * H[second] - a[second] * G[first]
        if d is not None:
            along_less = along[:, None] - a * v
            norm += d * (2 * along_less + d * moved)
            product += d[first] * (along_less[second] + d[second] * moved) + d[second] * along_less[first]
        lost += [(row, start + column) for row, column in np.argwhere((norm < LOST * square[:, None]) & (a != 0))]
        root = _reciprocal(np.maximum(norm, 0.0), rows.power)
        product *= root[first]
        product *= root[second]
        idle = a == 0
        drop[:, out] = np.where(idle[first] & idle[second], 0.0, similarity[:, None] - product)
        contribution[:, out] = (z[first] * G[second] + z[second] * G[first]) * (0.5 * scale)[:, None]
    _project_lost(rows, first, second, latents, lost, similarity, drop)
    return similarity, drop, contribution


def _reciprocal(squares: np.ndarray, power: float) -> np.ndarray:
    """``1 / sqrt(squares) ** power``, and 0 where a row is empty: it is similar to nothing."""
    root = np.sqrt(squares) ** power
    result: np.ndarray = np.divide(1.0, root, out=np.zeros_like(root), where=squares > 0)
    return result


def _project_lost(
    rows: Rows,
    first: np.ndarray,
    second: np.ndarray,
    latents: np.ndarray,
    lost: list[tuple[int, int]],
    similarity: np.ndarray,
    drop: np.ndarray,
) -> None:
    """Transform rows of which the removal of one latent leaves next to nothing: at most a latent or two a row."""
    for place in sorted({column for _, column in lost}):
        touched = [row for row, column in lost if column == place]
        affected = np.flatnonzero(np.isin(first, touched) | np.isin(second, touched))
        own, ends = np.unique(np.stack([first[affected], second[affected]]), return_inverse=True)
        vectors = dense(rows.estimator.transform(removed(rows.X[own], latents[place])))
        one, two = ends.reshape(2, -1)
        drop[affected, place] = similarity[affected] - np.einsum("ij,ij->i", vectors[one], vectors[two])


def _saturated(
    estimator: SaturatedCosine,
    X: sp.csr_array,
    first: np.ndarray,
    second: np.ndarray,
    latents: np.ndarray,
    numbers: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarity, drop and contribution of pairs whose latents are weighed anew for each removal."""
    rows = estimator._weighted(X.astype(np.float64))
    vectors = unit(rows)
    length = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    active = [X.indices[X.indptr[row] : X.indptr[row + 1]] for row in range(X.shape[0])]
    raw, numbers = dense(X), min(numbers, BLOCK)

    def weighed(row: int, columns: np.ndarray, less: np.ndarray) -> np.ndarray:
        """Weights of some latents of a row when each of the latents `less` is removed, shape (less, columns)."""
        shorter = np.maximum(length[row] - raw[row, less], 0.0) / estimator.mean_length_
        damping = estimator.k1 * (1 - estimator.b + estimator.b * shorter)[:, None]
        t = np.tile(raw[row, columns] / estimator.typical_[columns], (len(less), 1))
        weights: np.ndarray = estimator._saturated(t, damping) * (estimator.idf_[columns] * (columns != less[:, None]))
        return weights

    def chunks(some: np.ndarray, width: int) -> Iterator[np.ndarray]:
        return iter(np.array_split(some, max(1, len(some) * width // numbers)))

    norms = np.repeat(dense(rows.multiply(rows).sum(axis=1)).reshape(-1, 1), X.shape[1], axis=1)
    for row, own in enumerate(active):  # squared, of each row without each latent
        for part in chunks(own, len(own)):
            norms[row, part] = (weighed(row, own, part) ** 2).sum(axis=1)
    similarity = np.zeros(len(first))
    drop, contribution = np.zeros((len(first), len(latents))), np.zeros((len(first), len(latents)))
    for pair, (one, two) in enumerate(zip(first, second, strict=True)):
        shared = np.intersect1d(active[one], active[two])
        terms = dense(vectors[[one]])[0] * dense(vectors[[two]])[0]
        similarity[pair], contribution[pair] = terms.sum(), terms[latents]
        for out in chunks(np.flatnonzero(np.isin(latents, np.union1d(active[one], active[two]))), len(shared)):
            part = latents[out]
            product = (weighed(one, shared, part) * weighed(two, shared, part)).sum(axis=1)
            drop[pair, out] = similarity[pair] - product * _reciprocal(norms[one, part] * norms[two, part], 1.0)
    return similarity, drop, contribution
