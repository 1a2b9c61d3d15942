"""Cosine distances and their spanning tree, without ever holding all pairs when companies are many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import minimum_spanning_tree

from companysim.clustering.tree import SpanningTree, prim
from companysim.errors import DataError

# Adding and subtracting this rounds a double between -2,048 and 2,048 to a multiple of 2**-40, about 1e-12.
_GRID = 1.5 * 2.0 ** (52 - 40)


def cosine_distance(X: np.ndarray) -> np.ndarray:
    """Cosine distances ``1 - x . y / (|x| |y|)`` between the rows of `X`, shape (n, n).

    They are rounded to multiples of 2**-40 (about 1e-12), well above the rounding errors of a matrix product and far
    below any difference that means something: equal vectors are exactly 0 apart, and two pairs that are equally far
    apart are so to the last bit wherever they stand in `X`. A row of zeros is at distance 1 from all others.

    Raises
    ------
    DataError
        If `X` is empty, not two-dimensional, or holds NaN or infinite values.
    """
    unit = unit_rows(X)
    distance = _distance(unit, unit)
    np.fill_diagonal(distance, 0.0)
    return distance


def cosine_tree(X: np.ndarray, rows: int = 4096) -> SpanningTree:
    """Minimum spanning tree of `cosine_distance`, in memory of order ``n d + rows^2 + n^2 / rows``.

    An edge that is not in the minimum spanning tree of some of the pairs is not in that of all pairs. So the pairs are
    taken in tiles (each chunk of companies with itself and with every later chunk), only the edges of each tile's own
    tree are kept, and the tree of what is left is the tree of all: every distance is computed once, none is stored.
    The order of ties (`SpanningTree`) holds within tiles and between them, so the result does not depend on `rows`.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Any finite rows; they are divided by their norms.
    rows : int
        Up to this many companies all distances are held; beyond it tiles of this size in all, 8 rows^2 bytes.

    Raises
    ------
    DataError
        As `cosine_distance`.
    """
    unit = unit_rows(X)
    n = len(unit)
    if n <= rows:
        return prim(_distance(unit, unit))
    chunks = [slice(a, min(a + rows // 2, n)) for a in range(0, n, rows // 2)]
    held = np.empty((rows, rows))
    left, right, weight = [], [], []
    for a, first in enumerate(chunks):
        for second in chunks[a:]:
            nodes = np.arange(first.start, first.stop)
            if second == first:
                tile = _distance(unit[first], unit[first])
            else:
                between = _distance(unit[first], unit[second])
                m, size = len(between), len(between) + between.shape[1]
                tile = held[:size, :size]
                tile[:m, :m] = tile[m:, m:] = np.inf  # pairs inside a chunk have their own tile
                tile[:m, m:], tile[m:, :m] = between, between.T
                nodes = np.concatenate([nodes, np.arange(second.start, second.stop)])
            tree = prim(tile)
            left.append(nodes[tree.left])
            right.append(nodes[tree.right])
            weight.append(tree.weight)
    return _tree_of_edges(np.concatenate(left), np.concatenate(right), np.concatenate(weight), n)


class DistanceMoments(NamedTuple):
    """Mean and standard deviation of a population of distances, to express a threshold in its z units."""

    mean: float
    sd: float


def distance_moments(vectors: Iterable[np.ndarray]) -> DistanceMoments:
    """Mean and standard deviation of the cosine distances of all pairs of all years.

    Computed from sums alone, exact and without a distance matrix: over the rows x of a year, the cosines of all ordered
    pairs sum to ``|sum x|^2`` and their squares to the squared Frobenius norm of ``X^T X``.

    Parameters
    ----------
    vectors : iterable of ndarray, shape (companies of the year, d)
        One array a year; pairs are formed within years. A single array has to be wrapped in a list.

    Raises
    ------
    DataError
        If no year has two companies, or all distances are equal, so that they have no z units.
    """
    pairs, total, squares = 0, 0.0, 0.0
    for X in vectors:
        unit = unit_rows(X)
        n, own = len(unit), np.einsum("ij,ij->i", unit, unit)
        gram = unit.T @ unit if unit.shape[1] < n else unit @ unit.T
        pairs += n * (n - 1) // 2
        total += (float(np.square(unit.sum(axis=0)).sum()) - float(own.sum())) / 2
        squares += (float(np.square(gram).sum()) - float(np.square(own).sum())) / 2
    mean = total / pairs if pairs else 0.0
    variance = squares / pairs - mean**2 if pairs else 0.0
    if variance <= 1e-12:
        raise DataError("all cosine distances are equal: a threshold in z units needs two or more different pairs")
    return DistanceMoments(1.0 - mean, float(np.sqrt(variance)))


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Rows divided by their norms in double precision; a row of zeros stays zero."""
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or not len(X):
        raise DataError(f"vectors must be a matrix of one or more companies, not of shape {X.shape}")
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        row = int(np.flatnonzero(~np.isfinite(norms))[0])
        raise DataError(f"the vector in row {row} holds NaN or infinite values: leave the company out or mend it")
    unit: np.ndarray = np.divide(X, norms, out=np.zeros_like(X), where=norms > 0)
    return unit


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    distance: np.ndarray = first @ second.T
    np.subtract(1.0, distance, out=distance)
    distance += _GRID
    distance -= _GRID
    return distance


def _tree_of_edges(left: np.ndarray, right: np.ndarray, weight: np.ndarray, n: int) -> SpanningTree:
    """Minimum spanning tree of a connected graph, exact for ties: scipy sees the ranks of the edges, all different."""
    order = np.lexsort((right, left, weight))
    left, right, weight = left[order], right[order], weight[order]
    ranks = np.arange(1.0, len(weight) + 1.0)  # from 1: scipy takes 0 for no edge
    tree = minimum_spanning_tree(sp.csr_array((ranks, (left, right)), shape=(n, n)))
    kept = np.sort(tree.data).astype(np.int64) - 1
    return SpanningTree(left[kept], right[kept], weight[kept], n)
