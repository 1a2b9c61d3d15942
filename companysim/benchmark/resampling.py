"""Nulls and intervals by resampling: what chance gives, and how far a figure could move."""

from __future__ import annotations

import numpy as np

from companysim.benchmark.metrics import Correlations


def size_matched_null(labels: np.ndarray, correlations: Correlations, draws: int, seed: int) -> np.ndarray:
    """MC of random partitions with the same cluster sizes, shape (draws,).

    The companies that carry a label are permuted among the labels; companies without one keep out. NaN where no
    cluster has two members, or none of a draw's pairs has a correlation.
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(labels >= 0)
    codes = np.unique(labels[known], return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    multi = sizes > 1
    if not multi.any() or not correlations:
        return np.full(draws, np.nan)
    i, j = _pairs_within(sizes)
    bounds = np.concatenate([[0], np.cumsum(sizes * (sizes - 1) // 2)])[:-1]
    result = np.full((draws, len(correlations)), np.nan)
    members = known[order]
    for draw in range(draws):
        shuffled = rng.permutation(members)
        a, b = shuffled[i], shuffled[j]
        for column, values in enumerate(correlations.values()):
            pair = values[a, b]
            finite = np.isfinite(pair)
            sums = np.add.reduceat(np.where(finite, pair, 0.0), bounds[multi])
            counts = np.add.reduceat(finite.astype(float), bounds[multi])
            if counts.any():
                result[draw, column] = (sums[counts > 0] / counts[counts > 0]).mean()
    scored = np.isfinite(result).any(axis=1)
    means = np.full(draws, np.nan)
    means[scored] = np.nanmean(result[scored], axis=1)
    return means


def firm_year_bootstrap(weights: np.ndarray, correlations: Correlations, draws: int, seed: int) -> np.ndarray:
    """Resampled weighted mean correlations of pairs, shape (draws,).

    Firms and years are drawn with replacement. A pair counts as often as the product of its firms' multiplicities
    (Davezies, D'Haultfoeuille and Guyonvarch 2021, the pigeonhole bootstrap); a firm never forms a pair with itself.

    Parameters
    ----------
    weights : ndarray, shape (n, n)
        Pair weights in the upper triangle, such as 1 where a pair is grouped. Draws without any pair are NaN.
    """
    rng = np.random.default_rng(seed)
    n, years = len(weights), len(correlations)
    if not n or not years:
        return np.full(draws, np.nan)
    firms = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
    chosen = rng.multinomial(years, np.full(years, 1 / years), size=draws).astype(float)
    yearly = np.full((draws, years), np.nan)
    for column, values in enumerate(correlations.values()):
        use = np.where(np.isfinite(values), weights, 0.0)
        total = np.einsum("bi,bi->b", firms @ use, firms)
        moved = np.einsum("bi,bi->b", firms @ (use * np.nan_to_num(values)), firms)
        yearly[:, column] = np.divide(moved, total, out=np.full(draws, np.nan), where=total > 0)
    chosen[~np.isfinite(yearly)] = 0.0
    with np.errstate(invalid="ignore"):
        result: np.ndarray = (chosen * np.nan_to_num(yearly)).sum(axis=1) / chosen.sum(axis=1)
    return result


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values; NaN when there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pairs_within(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all pairs inside consecutive groups of the given sizes, group by group."""
    first, second, start = [], [], 0
    for size in sizes:
        i, j = np.triu_indices(size, 1)
        first.append(i + start)
        second.append(j + start)
        start += size
    return np.concatenate(first), np.concatenate(second)
