"""Return correlations by the component, from the returns themselves: no matrix of all pairs."""

from __future__ import annotations

import numpy as np

from companysim.clustering.tree import Merges
from companysim.errors import DataError

_CHUNK = 1 << 21  # correlations formed at once, 16 MB an array


class ReturnCorrelations:
    """Pearson correlations of the columns of `returns`, pairwise over the periods both have, summed by the merge.

    Where two components A and B hold complete series only, the sum of their correlations is one dot product: with every
    series z centred and scaled to length 1, ``sum over a, b of z_a . z_b = (sum z_a) . (sum z_b)``. A whole tree then
    costs O(n periods). Pairs with a series that misses a period have no such shortcut, since each pair has its own
    periods; they are formed in chunks, O(partial series x n) of them, and never kept.

    Parameters
    ----------
    returns : ndarray, shape (periods, n)
        NaN where missing; in the order of the tree's nodes.
    min_periods : int
        Pairs with fewer common periods have no correlation. Nor has a constant series.

    Attributes
    ----------
    complete : ndarray of bool, shape (n,)
        Series that miss no period and vary.
    partial : ndarray of bool, shape (n,)
        Series that miss some periods, have at least `min_periods` and vary. The rest has no correlation at all.

    Raises
    ------
    DataError
        If `returns` is not two-dimensional, holds infinite values, or `min_periods` is below 2.
    """

    def __init__(self, returns: np.ndarray, min_periods: int = 9) -> None:
        returns = np.asarray(returns, dtype=np.float64)
        if returns.ndim != 2 or np.isinf(returns).any():
            raise DataError("returns must be a finite matrix of shape (periods, companies), NaN where one is missing")
        if min_periods < 2:
            raise DataError(f"min_periods is {min_periods}: a correlation needs two or more periods")
        self.min_periods = min_periods
        seen = ~np.isnan(returns)
        count = seen.sum(axis=0)
        filled = np.where(seen, returns, 0.0)
        centred = np.where(seen, filled - filled.sum(axis=0) / np.maximum(count, 1), 0.0)
        squares = np.square(centred).sum(axis=0)
        varies = squares > 1e-20 * np.square(filled).sum(axis=0)  # rounding gives constants a spread
        usable = varies & (count >= min_periods)
        self.complete = usable & (count == len(returns))
        self.partial = usable & ~self.complete
        self._seen = np.ascontiguousarray(seen.T, dtype=np.float64)
        scale = np.sqrt(np.where(usable, squares, 1.0))
        self._scaled = np.ascontiguousarray((centred / scale).T)
        self._scaled[~usable], self._seen[~usable] = 0.0, 0.0

    def __len__(self) -> int:
        return len(self._seen)

    def block(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Correlations between two sets of series, shape (rows, columns); NaN where there is none.

        A series' correlation with itself is 1 here; callers ask for different ones.
        """
        x, y, m, w = self._scaled[rows], self._scaled[columns], self._seen[rows], self._seen[columns]
        n = m @ w.T
        with np.errstate(invalid="ignore", divide="ignore"):
            sx, sy = x @ w.T, m @ y.T  # sums over the common periods
            xx, yy = (x * x) @ w.T, m @ (y * y).T
            vx, vy = xx - sx * sx / n, yy - sy * sy / n
            result = (x @ y.T - sx * sy / n) / np.sqrt(vx * vy)
        result[(n < self.min_periods) | (vx <= 1e-14 * xx) | (vy <= 1e-14 * yy)] = np.nan
        clipped: np.ndarray = np.clip(result, -1.0, 1.0)
        return clipped

    def cross_sums(self, merges: Merges) -> tuple[np.ndarray, np.ndarray]:
        """Sum and number of the correlations each merge brings together, shape (n - 1,) each."""
        n = len(self)
        sums, counts = np.zeros(n - 1), np.zeros(n - 1)
        total = np.zeros((2 * n - 1, self._scaled.shape[1]))  # of the complete series of each component
        total[:n][self.complete] = self._scaled[self.complete]
        whole = np.zeros(2 * n - 1)
        whole[:n] = self.complete
        some = bool(self.partial.any())
        for step, (a, b) in enumerate(merges.children.tolist()):
            first, second = total[a], total[b]
            sums[step] = first @ second
            counts[step] = whole[a] * whole[b]
            np.add(first, second, out=total[n + step])
            whole[n + step] = whole[a] + whole[b]
            if some:
                missed = self._partial_sum(*(merges.order[merges.start[c] :][: merges.size[c]] for c in (a, b)))
                sums[step] += missed[0]
                counts[step] += missed[1]
        return sums, counts

    def _partial_sum(self, first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
        """Sum and number of the correlations between two components in which a partial series takes part."""
        partial, complete = first[self.partial[first]], first[self.complete[first]]
        value, number = self._sum(partial, second)
        more, further = self._sum(complete, second[self.partial[second]])
        return value + more, number + further

    def _sum(self, rows: np.ndarray, columns: np.ndarray) -> tuple[float, int]:
        value, number = 0.0, 0
        if len(rows) and len(columns):
            height = max(1, _CHUNK // len(columns))
            for top in range(0, len(rows), height):
                block = self.block(rows[top : top + height], columns)
                finite = np.isfinite(block)
                value += float(block.sum(where=finite))
                number += int(np.count_nonzero(finite))
        return value, number
