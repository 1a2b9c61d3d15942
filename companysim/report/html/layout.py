"""Where each company lies on the map: t-SNE of the cosine distances, the same for the same run."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import eigsh
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

PERPLEXITY = 15.0
"""About as many neighbours as a usual cluster has members."""


def layout(similarity: np.ndarray, seed: int = 0) -> np.ndarray:
    """Lay companies out in the plane so that similar ones lie close together.

    t-SNE (van der Maaten and Hinton 2008) of the distances ``1 - cosine``, started from classical scaling (the two
    leading eigenvectors of the doubly centred squared distances), which keeps the large picture and needs no luck. Only
    neighbourhoods are kept: distances between far groups mean nothing.

    Parameters
    ----------
    similarity : ndarray, shape (n, n)
        Cosines.
    seed : int

    Returns
    -------
    ndarray, shape (n, 2)
        Coordinates from 0 to 1, centred, the longer side filling the range.
    """
    n = len(similarity)
    distance = np.clip(1.0 - (similarity + similarity.T) / 2, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    places = _classical(distance)
    if n > 4:
        model = TSNE(
            metric="precomputed",
            init=1e-4 * places / max(float(places[:, 0].std()), 1e-12),
            perplexity=min(PERPLEXITY, (n - 1) / 3),
            random_state=seed,
        )
        with threadpool_limits(1):  # a thousand short steps: several threads mostly wait for each other
            places = np.asarray(model.fit_transform(distance), dtype=float)
    places = places - (places.min(axis=0) + places.max(axis=0)) / 2
    scaled: np.ndarray = 0.5 + places / max(2 * float(np.abs(places).max()), 1e-12)
    return scaled


def _classical(distance: np.ndarray) -> np.ndarray:
    """Two leading principal coordinates, each with its largest entry positive, shape (n, 2)."""
    squares = distance**2
    means = squares.mean(axis=0)
    centred = -0.5 * (squares - means - means[:, None] + squares.mean())
    if np.abs(centred).max() < 1e-12:  # nobody differs
        return np.zeros((len(distance), 2))
    start = np.linspace(-1.0, 1.0, len(distance))  # any fixed vector but a constant one, which is in the null space
    values, vectors = eigsh(centred, k=2, which="LA", v0=start)
    leading = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0.0))
    largest = leading[np.abs(leading).argmax(axis=0), np.arange(2)]
    signed: np.ndarray = leading * np.where(largest < 0, -1.0, 1.0)
    return signed
