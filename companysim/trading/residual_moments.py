"""Dickey-Fuller regressions of the residuals of many pairs, from cross-products that the pairs share.

The residual of a pair is e = y - b x (y and x centred), so every cross-product of its regression is a quadratic form in
(1, -b) of cross-products of the two series, and those are matrix products over whole blocks of series. Few are needed.
With d the change of e over days 0 .. T-1 and k lags (regression on days k+1 .. T-1):

- ``D_ij = sum_t d_{t-i} d_{t-j}`` follows from its first row by ``D_{i+1,j+1} = D_ij + d_{k-i} d_{k-j} - d_{T-1-i}
  d_{T-1-j}``: moving the window back by a day adds one product and drops another;
- ``P_j = sum_t e_{t-1} d_{t-j}`` follows from ``P_0 = (e_{T-1}^2 - e_k^2 - D_00) / 2``, a telescoping sum, by ``P_{j+1}
  = P_j + e_{k-1} d_{k-j} - e_{T-2} d_{T-1-j} + D_{1,j+1}``;
- ``sum_t e_{t-1}^2`` is the residual sum of squares less a few days.

So a pair needs its lagged cross-products of changes, sum_t dy_t dx_{t-m} and sum_t dx_t dy_{t-m} for m = 0 .. L, one
cross-product of levels, and the residuals of the first and last L + 1 days, which are linear in (1, -b). What cancels
on the way is counted: see `Factors`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from companysim.trading.unit_root import cholesky_factors

_WORTH_IT = 16  # a matrix product makes so many numbers in the time of one inner product


@dataclass(frozen=True)
class Moments:
    """What is known of n series (or residuals) over T days for regressions of up to L lags.

    Attributes
    ----------
    squares : ndarray, shape (n,)
        Sum of squares of the centred level.
    changes : ndarray, shape (n, L + 1)
        ``sum_t d_t d_{t-m}`` over t = L+1 .. T-1, for m = 0 .. L.
    head, tail : ndarray, shape (n, L + 1)
        Levels of days 0, 1, .., L and of days T-1, T-2, .., T-1-L.
    kept : ndarray, shape (n,)
        Share of the sums of squares left by the subtraction of the other series; 1 for a series.
    """

    squares: np.ndarray
    changes: np.ndarray
    head: np.ndarray
    tail: np.ndarray
    kept: np.ndarray

    def factors(self, lag: int, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Triangular factors and what they kept: `companysim.trading.unit_root.Factors`."""
        gram = self._gram(lag, members)
        upper, kept = cholesky_factors(gram)
        variances = np.einsum("pii->pi", gram)[:, 1:]  # of the changes: one that falls out of the window may dominate
        most = np.maximum(self.changes[members, 0], variances.max(axis=1))
        with np.errstate(invalid="ignore"):  # no change at all: 0 / 0
            kept = kept * self.kept[members] * variances.min(axis=1) / most
        return upper, np.nan_to_num(kept * gram[:, 0, 0] / self.squares[members])

    def of(self, members: np.ndarray) -> Moments:
        """Moments of some of the series, or of some several times."""
        return Moments(*(getattr(self, part.name)[members] for part in fields(self)))

    def half_life(self) -> np.ndarray:
        """Days in which half of a deviation decays: ``ln(1/2) / ln(rho)``, ``rho = sum e_t e_{t-1} / sum e_{t-1}^2``.

        Infinite for rho >= 1 (no reversion), 0 for rho <= 0.
        """
        last, first = self.tail[:, 0], self.head[:, 0]
        change = self.changes[:, 0] + (np.diff(self.head, axis=1) ** 2).sum(axis=1)  # on all days
        rho = 1 + (last**2 - first**2 - change) / 2 / (self.squares - last**2)
        result = np.where(rho >= 1, np.inf, 0.0)
        inside = (rho > 0) & (rho < 1)
        result[inside] = np.log(0.5) / np.log(rho[inside])
        return result

    def _gram(self, lag: int, members: np.ndarray) -> np.ndarray:
        """Cross-products (upper triangles) of [level, change lagged 1 .. lag, change], shape (n, lag + 2, lag + 2)."""
        head, tail, longest = self.head[members], self.tail[members], self.head.shape[1] - 1
        early = np.diff(head, axis=1)  # early[:, t - 1] is the change of day t
        row = self.changes[members, : lag + 1].copy()  # D_0m; a shorter order starts earlier and adds days to it
        for m in range(lag + 1 if lag < longest else 0):
            row[:, m] += (early[:, lag:] * early[:, lag - m : longest - m]).sum(axis=1)
        before, after = head[:, lag::-1], tail[:, : lag + 1]  # e_k, e_{k-1}, .. and e_{T-1}, e_{T-2}, ..
        enter, leave = -np.diff(before, axis=1), -np.diff(after, axis=1)  # d_k, d_{k-1}, .. and d_{T-1}, d_{T-2}, ..
        gram = np.zeros((len(members), lag + 2, lag + 2))
        gram[:, 1:, -1] = row[:, [*range(1, lag + 1), 0]]
        for i in range(lag):
            above = row if i == 0 else gram[:, i, i:-1]
            gram[:, i + 1, i + 1 : -1] = (
                above[:, : lag - i] + enter[:, i, None] * enter[:, i:] - leave[:, i, None] * leave[:, i:]
            )
        gram[:, 0, 0] = self.squares[members] - (head[:, :lag] ** 2).sum(axis=1) - tail[:, 0] ** 2
        product = (after[:, 0] ** 2 - before[:, 0] ** 2 - row[:, 0]) / 2  # P_0
        gram[:, 0, -1] = product
        if lag:
            steps = before[:, 1, None] * enter - after[:, 1, None] * leave + gram[:, 1, 1:-1]
            gram[:, 0, 1:-1] = product[:, None] + np.cumsum(steps, axis=1)
        return gram


def series_moments(rows: np.ndarray, max_lag: int) -> Moments:
    """Moments of centred series of shape (n, days)."""
    change = np.diff(rows, axis=1)
    return Moments(
        squares=np.einsum("nt,nt->n", rows, rows),
        changes=np.stack([_products(change, change, m, max_lag) for m in range(max_lag + 1)], axis=1),
        head=rows[:, : max_lag + 1],
        tail=rows[:, : -max_lag - 2 : -1],
        kept=np.ones(len(rows)),
    )


@dataclass(frozen=True)
class CrossMoments:
    """Cross-products of pairs of series.

    Attributes
    ----------
    levels : ndarray, shape (pairs,)
        Of the centred levels on all days.
    changes : ndarray, shape (pairs, L + 1)
        ``sum_t dy_t dx_{t-m} + dx_t dy_{t-m}`` over t = L+1 .. T-1.
    """

    levels: np.ndarray
    changes: np.ndarray

    def of(self, members: np.ndarray) -> CrossMoments:
        """Cross-products of some of the pairs."""
        return CrossMoments(self.levels[members], self.changes[members])


def cross_moments(rows: np.ndarray, first: np.ndarray, second: np.ndarray, max_lag: int) -> CrossMoments:
    """Cross-products of the listed pairs of centred series of shape (n, days).

    By matrix products of all first with all second series, unless few of those are asked for.
    """
    left, i = np.unique(first, return_inverse=True)
    right, j = np.unique(second, return_inverse=True)
    all_pairs = len(left) * len(right) <= _WORTH_IT * len(first)
    y, x = (rows[left], rows[right]) if all_pairs else (rows[first], rows[second])
    dy, dx = np.diff(y, axis=1), np.diff(x, axis=1)
    changes = np.empty((max_lag + 1, len(first)))
    for m in range(max_lag + 1):
        if all_pairs:
            changes[m] = (_products_of_all(dy, dx, m, max_lag) + _products_of_all(dx, dy, m, max_lag).T)[i, j]
        else:
            changes[m] = _products(dy, dx, m, max_lag) + _products(dx, dy, m, max_lag)
    levels = (y @ x.T)[i, j] if all_pairs else np.einsum("pt,pt->p", y, x)
    return CrossMoments(levels, np.ascontiguousarray(changes.T))


def _products(change: np.ndarray, other: np.ndarray, m: int, max_lag: int) -> np.ndarray:
    """Sum of the changes of days L+1 .. T-1 times the other series' changes m days before, series by series."""
    days = change.shape[1]
    total: np.ndarray = np.einsum("nt,nt->n", change[:, max_lag:], other[:, max_lag - m : days - m])
    return total


def _products_of_all(change: np.ndarray, other: np.ndarray, m: int, max_lag: int) -> np.ndarray:
    """Compute the same of every series with every other one."""
    product: np.ndarray = change[:, max_lag:] @ other[:, max_lag - m : change.shape[1] - m].T
    return product


def residual_moments(y: Moments, x: Moments, both: CrossMoments, slope: np.ndarray) -> Moments:
    """Moments of the residuals ``y - slope x`` of pairs; `y` and `x` hold one row a pair."""
    b = slope[:, None]
    squares = y.squares - 2 * slope * both.levels + slope**2 * x.squares
    changes = y.changes - b * both.changes + b**2 * x.changes
    with np.errstate(invalid="ignore"):  # no change at all: 0 / 0
        share = changes[:, 0] / (y.changes + b**2 * x.changes)[:, 0]
    kept = np.minimum(squares / (y.squares + slope**2 * x.squares), share)
    return Moments(squares, changes, y.head - b * x.head, y.tail - b * x.tail, kept)
