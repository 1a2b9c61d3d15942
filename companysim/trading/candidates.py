"""Candidate pairs for the cointegration tests: from a partition, from a similarity, or at random.

All functions return two arrays of positions, the smaller one first, each pair once, in ascending order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from companysim.errors import DataError


def cluster_pairs(labels: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """All pairs inside the clusters of a partition.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        Cluster of each company; negative for none.
    """
    cluster = np.asarray(labels)
    pairs = [_all_pairs(np.flatnonzero(cluster == label)) for label in np.unique(cluster[cluster >= 0])]
    return _ordered(np.concatenate([np.empty((2, 0), dtype=np.int64), *pairs], axis=1))


def nearest_pairs(similarity: np.ndarray, k: int, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Each company with its `k` most similar others.

    Parameters
    ----------
    similarity : ndarray, shape (n, n)
        Larger is nearer; NaN for pairs without one. The diagonal is ignored.
    k : int
        A company with fewer known similarities gets as many as it has.
    names : sequence of str, shape (n,)
        Unique names of the companies. Ties go to the first in their order, so that the order of rows does not matter.

    Raises
    ------
    DataError
        If the shapes do not fit, a name occurs twice, or `k` is not positive.
    """
    n = len(names)
    if np.shape(similarity) != (n, n):
        raise DataError(f"a similarity of shape {np.shape(similarity)} for {n} names: give one row and column a name")
    if k < 1:
        raise DataError(f"k = {k} neighbours: give at least 1")
    order = _name_order(names)
    distance = -np.asarray(similarity, dtype=float)[:, order]  # a copy, whose ties ascend by name
    distance[order, np.arange(n)] = np.nan
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]  # NaN sorts last
    known = ~np.isnan(np.take_along_axis(distance, nearest, axis=1))
    company = np.broadcast_to(np.arange(n)[:, None], nearest.shape)
    return _ordered(np.stack([company[known], order[nearest[known]]]))


def placebo_pairs(
    first: np.ndarray, second: np.ndarray, sectors: Sequence[str], names: Sequence[str], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs in the same number and of the same sectors as the given ones.

    For every combination of two sectors (or twice the same one), as many distinct pairs are drawn as the given pairs
    have, from all pairs of companies of these sectors. The given ones may be among them: under the null hypothesis
    that a grouping says nothing beyond its sectors, they are such a draw.

    Parameters
    ----------
    first, second : ndarray of int, shape (pairs,)
        The pairs to match; a pair that occurs twice, in either order, counts once.
    sectors : sequence of str, shape (n,)
        Sector of each company; one string such as "unknown" for companies without.
    names : sequence of str, shape (n,)
        Unique names of the companies: the draw depends on them and on the seed, not on the order of rows.
    seed : int

    Raises
    ------
    DataError
        If there is not one sector a name, a name occurs twice, or a pair names no company or one company twice.
    """
    n = len(names)
    if len(sectors) != n:
        raise DataError(f"{len(sectors)} sectors for {n} names: give one sector a name")
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    if len(a) and not (0 <= min(a.min(), b.min()) and max(a.max(), b.max()) < n and (a != b).all()):
        raise DataError(f"a pair names a company twice or none of the {n}: give pairs of positions of different names")
    kinds, sector = np.unique(np.asarray(sectors, dtype=str), return_inverse=True)
    order = _name_order(names)
    members = [order[sector[order] == kind] for kind in range(len(kinds))]
    a, b = _ordered(np.stack([a, b]))
    low, high = np.minimum(sector[a], sector[b]), np.maximum(sector[a], sector[b])
    strata, counts = np.unique(np.stack([low, high]), axis=1, return_counts=True)
    rng = np.random.default_rng(seed)  # the strata come in the order of their names
    drawn = [np.empty((2, 0), dtype=np.int64)]
    for (one, other), count in zip(strata.T, counts, strict=True):
        if one == other:
            population = _all_pairs(members[one])
            drawn.append(population[:, rng.choice(population.shape[1], count, replace=False)])
        else:
            width = len(members[other])
            row, column = np.divmod(rng.choice(len(members[one]) * width, count, replace=False), width)
            drawn.append(np.stack([members[one][row], members[other][column]]))
    return _ordered(np.concatenate(drawn, axis=1))


def _all_pairs(members: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(len(members), 1)
    return np.stack([members[i], members[j]])


def _ordered(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique = np.unique(np.sort(pairs, axis=0), axis=1)
    return unique[0], unique[1]


def _name_order(names: Sequence[str]) -> np.ndarray:
    listed = np.asarray(names, dtype=str)
    order = np.argsort(listed, kind="stable")
    repeated = np.flatnonzero(listed[order][1:] == listed[order][:-1])
    if len(repeated):
        raise DataError(f"the name {listed[order][repeated[0]]} occurs twice: give every company a name of its own")
    return order
