"""What a tree's clusters say about return correlations, at every threshold at once.

The clusters of a spanning tree change only at its n - 1 merges. A merge of components A and B turns the pairs between
them into grouped pairs and leaves all others alone, so one pass that keeps the sum and the number of correlations of
each component gives every figure at every threshold: no grid, no trials. Each pair is added up once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from companysim.clustering.returns import ReturnCorrelations
from companysim.clustering.tree import Merges, SpanningTree
from companysim.errors import DataError

FIGURES = ("mean_correlation", "pair_weighted", "coverage", "share_of_pairs", "clusters", "largest")


@dataclass(frozen=True)
class CorrelationCurve:
    """Figures of the clusters that remain when edges heavier than theta are removed, for every theta.

    All arrays have shape (thresholds + 1,). Entry 0 is before the first merge, ``theta = -inf``; entry k holds from
    ``theta[k]`` up to, but not including, ``theta[k + 1]``. Edges of equal weight merge together: no threshold lies
    between them.

    Attributes
    ----------
    theta : ndarray
        The distinct weights of the tree, rising, after ``-inf``.
    mean_correlation : ndarray
        MC: mean over clusters of two or more of the mean correlation of their pairs (METHOD.md, section 2). A cluster
        none of whose pairs has a correlation does not count; NaN where no cluster counts.
    pair_weighted : ndarray
        Mean correlation of all grouped pairs that have one, or NaN.
    coverage : ndarray
        Share of companies in a cluster of two or more.
    share_of_pairs : ndarray
        Share of all pairs that are grouped, with or without a correlation; 0 if there is only one company.
    clusters, largest : ndarray of int64
        Number of clusters of two or more, and members of the largest cluster.
    companies : int
    """

    theta: np.ndarray
    mean_correlation: np.ndarray
    pair_weighted: np.ndarray
    coverage: np.ndarray
    share_of_pairs: np.ndarray
    clusters: np.ndarray
    largest: np.ndarray
    companies: int

    def at(self, theta: float | np.ndarray) -> pd.DataFrame:
        """Figures at any thresholds, one row each, whatever the order."""
        wanted = np.atleast_1d(np.asarray(theta, dtype=float))
        place = np.searchsorted(self.theta, wanted, side="right") - 1
        return pd.DataFrame({"theta": wanted} | {name: getattr(self, name)[place] for name in FIGURES})

    def to_frame(self) -> pd.DataFrame:
        """All entries, one row each."""
        return pd.DataFrame({name: getattr(self, name) for name in ("theta", *FIGURES)})

    def summary(self) -> str:
        """Describe the curve in one line: companies, thresholds, and what grouping everybody gives."""
        return (
            f"{self.companies} companies, {len(self.theta) - 1} thresholds, "
            f"mean correlation of all pairs {self.pair_weighted[-1]:.3f}"
        )


def correlation_curve(tree: SpanningTree, correlations: np.ndarray | ReturnCorrelations) -> CorrelationCurve:
    """Score the clusters of `tree` at every threshold in one pass over its merges.

    Parameters
    ----------
    tree : SpanningTree
        Of n companies.
    correlations : ndarray, shape (n, n), or ReturnCorrelations
        Symmetric, NaN where a pair has none; the diagonal is not read. For many companies give their returns as
        `ReturnCorrelations` instead, and no matrix of all pairs is formed.

    Returns
    -------
    CorrelationCurve

    Raises
    ------
    DataError
        If the correlations are of another number of companies, or infinite.
    """
    n = tree.n
    shape = (len(correlations),) * 2 if isinstance(correlations, ReturnCorrelations) else correlations.shape
    if shape != (n, n):
        raise DataError(f"the tree has {n} companies and the correlations have shape {shape}: give the same companies")
    merges = tree.merges()
    if isinstance(correlations, ReturnCorrelations):
        crosses, pairs = correlations.cross_sums(merges)
    else:
        crosses, pairs = _cross_sums(correlations, merges)

    sums, counts = _totals(crosses, merges.children), _totals(pairs, merges.children)
    scored = counts > 0
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=scored)
    groups = merges.size > 1

    def change(values: np.ndarray) -> np.ndarray:
        """How much each merge adds to a sum over components."""
        moved: np.ndarray = values[n:] - values[merges.children].sum(axis=1)
        return moved

    stops = np.concatenate([[True], tree.last_of_ties()])

    def running(steps: np.ndarray) -> np.ndarray:
        """Sum of what all merges up to each threshold added."""
        result: np.ndarray = np.concatenate([np.zeros(1, steps.dtype), np.cumsum(steps)])[stops]
        return result

    grouped = running(change((merges.size * (merges.size - 1) // 2).astype(np.int64)))
    rated, number = running(change(scored.astype(np.int64))), running(pairs)
    with np.errstate(invalid="ignore"):
        return CorrelationCurve(
            theta=np.concatenate([[-np.inf], tree.weight])[stops],
            mean_correlation=running(change(means)) / np.where(rated > 0, rated, np.nan),
            pair_weighted=running(crosses) / np.where(number > 0, number, np.nan),
            coverage=running(change(np.where(groups, merges.size, 0))) / n,
            share_of_pairs=grouped / max(n * (n - 1) // 2, 1),
            clusters=running(change(groups.astype(np.int64))),
            largest=np.maximum.accumulate(np.concatenate([[1], merges.size[n:]]))[stops],
            companies=n,
        )


def _cross_sums(correlations: np.ndarray, merges: Merges) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the correlations each merge brings together, shape (n - 1,) each."""
    values = np.asarray(correlations, dtype=np.float64)
    pairs = merges.size[merges.children].prod(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities of both signs: refused below
        sums = _crossed(values, merges)
        if np.isnan(sums).any():  # some pair has no correlation
            missing = np.isnan(values)
            sums = _crossed(np.where(missing, 0.0, values), merges)
            pairs -= _crossed(missing.astype(np.float64), merges)
    if not np.isfinite(sums).all():
        raise DataError("a correlation is infinite: give NaN where a pair has none")
    return sums, pairs


def _crossed(values: np.ndarray, merges: Merges) -> np.ndarray:
    """Sum of a symmetric matrix over the pairs each merge brings together, shape (n - 1,).

    A component carries the sum of its members' rows; its entries at the members of another component add up to the
    pairs between the two. They are read at the members of the smaller one.
    """
    order, start, size = merges.order, merges.start.tolist(), merges.size.tolist()
    rows = dict(enumerate(values))
    sums = np.zeros(len(values) - 1)
    for step, (a, b) in enumerate(merges.children.tolist()):
        small, big = (a, b) if size[a] < size[b] else (b, a)
        held, joining = rows.pop(big), rows.pop(small)
        sums[step] = held[order[start[small] : start[small] + size[small]]].sum()
        rows[len(values) + step] = np.add(held, joining, out=None if size[big] == 1 else held)  # never into the matrix
    return sums


def _totals(crosses: np.ndarray, children: np.ndarray) -> np.ndarray:
    """Total over the pairs inside each component, shape (2 n - 1,), from what each merge adds."""
    n = len(children) + 1
    totals = [0.0] * (2 * n - 1)
    for step, ((a, b), cross) in enumerate(zip(children.tolist(), crosses.tolist(), strict=True), start=n):
        totals[step] = totals[a] + totals[b] + cross
    return np.array(totals)
