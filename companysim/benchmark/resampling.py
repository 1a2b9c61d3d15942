"""Nulls and intervals by resampling: what chance gives, and how far a figure could move.

Twenty-five yearly figures are few, and pairs that share a firm are not independent, so no interval here rests on the
central limit theorem: firms and years are drawn with replacement, and a figure is computed anew in each draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sp

from companysim.benchmark.metrics import Correlations
from companysim.benchmark.weights import Pairs, Ranking

_GATHERED = 1 << 22  # correlations looked up at once, 32 MB
_BY_PRODUCT = 300  # members from which a cluster's sum is cheaper as a matrix product than pair by pair
_DENSE = 0.1  # share of pairs from which a dense product is cheaper


class Resamples:
    """Draws of firms and years with replacement, the same for everything that is measured on the same firms.

    A pair counts as often as the product of its firms' multiplicities (the pigeonhole bootstrap: Owen 2007; Davezies,
    D'Haultfoeuille and Guyonvarch 2021); a firm never forms a pair with itself. A difference of two figures in the
    same draws has the interval of the difference.

    Parameters
    ----------
    n : int
        Firms.
    years : int
        Years.
    draws, seed : int
    """

    def __init__(self, n: int, years: int, draws: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.draws = draws
        firms = rng.multinomial(n, np.full(n, 1 / n), size=draws) if n else np.zeros((draws, 0))
        # One row a firm. Single precision holds these counts exactly, and no interval needs more.
        self.firms = np.ascontiguousarray(firms.T, dtype=np.float32)
        self.years = rng.multinomial(years, np.full(years, 1 / years), size=draws).astype(float) if years else None

    def year(self, pairs: Pairs, values: np.ndarray) -> np.ndarray:
        """Weighted mean of one year in each draw of firms, shape (draws,); NaN in draws without a pair."""
        entries = values[pairs.i, pairs.j]
        finite = np.isfinite(entries) & (pairs.weight > 0)
        i, j, weight = (part[finite] for part in pairs)
        if not len(i):
            return np.full(self.draws, np.nan)
        total, moved = (self._form(i, j, part) for part in (weight, weight * entries[finite]))
        means: np.ndarray = np.divide(moved, total, out=np.full(self.draws, np.nan), where=total > 0)
        return means

    def _form(self, i: np.ndarray, j: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return ``sum over pairs of w_ij m_i m_j`` for each draw m."""
        n = len(self.firms)
        matrix = sp.csr_array((weight.astype(np.float32), (i, j)), (n, n))
        product = (matrix.toarray() if len(i) > _DENSE * n**2 / 2 else matrix) @ self.firms
        product *= self.firms
        form: np.ndarray = product.sum(axis=0, dtype=float)
        return form

    def rank_sums(self, i: np.ndarray, j: np.ndarray, *entries: np.ndarray) -> list[np.ndarray]:
        """`_form` of any number of dense weights of the same pairs."""
        matrix = np.zeros((len(self.firms),) * 2, dtype=np.float32)
        sums = []
        for weight in entries:
            matrix[i, j] = weight
            product = matrix @ self.firms
            product *= self.firms
            sums.append(product.sum(axis=0, dtype=float))
        return sums

    def rank_correlation(
        self, ranked: Ranking, x: np.ndarray, y: np.ndarray, sums: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        """Spearman's rho of one year in each draw of firms, shape (draws,).

        Ranks are those of all pairs; in a draw their correlation is weighted by how often each pair counts.

        Parameters
        ----------
        ranked : Ranking
        x, y : ndarray, shape (pairs,)
            Standardised ranks of similarity and correlation, or empty.
        sums : sequence of ndarray, optional
            `rank_sums` of 1, y and y^2 where they are known: all similarities of a year share them.
        """
        if not len(x) or not len(y):
            return np.full(self.draws, np.nan)
        i, j = ranked.i, ranked.j
        w, sy, syy = self.rank_sums(i, j, np.ones(len(y)), y, y * y) if sums is None else sums
        sx, sxx, sxy = self.rank_sums(i, j, x, x * x, x * y)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.sqrt(np.maximum(sxx - sx**2 / w, 0) * np.maximum(syy - sy**2 / w, 0))
            rho: np.ndarray = np.where(spread > 0, (sxy - sx * sy / w) / spread, np.nan)
        return rho

    def over_years(self, yearly: np.ndarray) -> np.ndarray:
        """Mean over each draw's years, shape (draws,), of figures of shape (draws, years); NaN years do not count."""
        if self.years is None:
            return np.full(self.draws, np.nan)
        chosen = np.where(np.isfinite(yearly), self.years, 0.0)
        with np.errstate(invalid="ignore"):
            result: np.ndarray = (chosen * np.nan_to_num(yearly)).sum(axis=1) / chosen.sum(axis=1)
        return result


def size_matched_null(
    labels: np.ndarray | Mapping[int, np.ndarray], correlations: Correlations, draws: int, seed: int
) -> np.ndarray:
    """MC of random partitions with the same cluster sizes, shape (draws,).

    The companies that carry a label are permuted among the labels; companies without one keep out. NaN where no
    cluster has two members, or none of a draw's pairs has a correlation.

    Parameters
    ----------
    labels : ndarray of int, shape (n,), or mapping of year to such
        One partition for all years keeps its random counterpart for all years, too; with one a year each year is
        permuted by itself.
    """
    return over_draws(yearly_null(labels, correlations, draws, seed))


def yearly_null(
    labels: np.ndarray | Mapping[int, np.ndarray], correlations: Correlations, draws: int, seed: int
) -> np.ndarray:
    """`size_matched_null` by year, shape (draws, years)."""
    rng = np.random.default_rng(seed)
    if not isinstance(labels, Mapping):
        return _null(labels, correlations, draws, rng)
    absent = np.full((draws, 1), np.nan)
    columns = [
        _null(labels[year], {year: values}, draws, rng) if year in labels else absent
        for year, values in correlations.items()
    ]
    return np.hstack(columns) if columns else np.full((draws, 0), np.nan)


def over_draws(yearly: np.ndarray) -> np.ndarray:
    """Mean over the years that have a value, shape (draws,), of values of shape (draws, years); NaN if none has."""
    scored = np.isfinite(yearly).any(axis=1)
    means = np.full(len(yearly), np.nan)
    means[scored] = np.nanmean(yearly[scored], axis=1)
    return means


def _null(labels: np.ndarray, correlations: Correlations, draws: int, rng: np.random.Generator) -> np.ndarray:
    """MC of each draw and year, shape (draws, years)."""
    known = np.flatnonzero(labels >= 0)
    codes = np.unique(labels[known], return_inverse=True)[1]
    members = known[np.argsort(codes, kind="stable")]
    sizes = np.bincount(codes)
    result = np.full((draws, len(correlations)), np.nan)
    if not (sizes > 1).any():
        return result
    shuffled = np.stack([rng.permutation(members) for _ in range(draws)])
    starts = np.cumsum(sizes) - sizes
    small = (sizes > 1) & (sizes < _BY_PRODUCT)
    i, j = _pairs_within(starts[small], sizes[small])
    bounds = np.cumsum(sizes[small] * (sizes[small] - 1) // 2)
    bounds = np.concatenate([[0], bounds])[:-1]
    step = max(1, _GATHERED // max(len(i), 1))
    for column, values in enumerate(correlations.values()):
        finite = np.isfinite(values)
        np.fill_diagonal(finite, False)
        filled = np.where(finite, values, 0.0)
        total, scored = np.zeros(draws), np.zeros(draws)
        if len(i):
            complete = bool(finite[np.ix_(known, known)].sum() == len(known) * (len(known) - 1))
            for top in range(0, draws, step):
                rows = shuffled[top : top + step]
                flat = rows[:, i] * len(values) + rows[:, j]
                sums = np.add.reduceat(filled.ravel()[flat], bounds, axis=1)
                if complete:
                    counts = np.broadcast_to(np.diff(np.append(bounds, len(i))), sums.shape)
                else:
                    counts = np.add.reduceat(finite.ravel()[flat].astype(float), bounds, axis=1)
                means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
                total[top : top + step] += means.sum(axis=1)
                scored[top : top + step] += (counts > 0).sum(axis=1)
        for cluster in np.flatnonzero((sizes > 1) & ~small):
            chosen = np.zeros((draws, len(values)))
            np.put_along_axis(chosen, shuffled[:, starts[cluster] :][:, : sizes[cluster]], 1.0, axis=1)
            sums = np.einsum("bi,bi->b", chosen @ filled, chosen)
            counts = np.einsum("bi,bi->b", chosen @ finite.astype(float), chosen)
            total += np.divide(sums, counts, out=np.zeros(draws), where=counts > 0)
            scored += counts > 0
        result[:, column] = np.divide(total, scored, out=np.full(draws, np.nan), where=scored > 0)
    return result


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values; NaN when there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pairs_within(starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all pairs inside groups that start and have sizes as given, group by group."""
    parts = [np.stack(np.triu_indices(size, 1)) + start for start, size in zip(starts, sizes, strict=True)]
    if not parts:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    i, j = np.concatenate(parts, axis=1)
    return i, j
