"""Which latent of one SAE is which of another: two SAEs of different seeds have no numbers in common.

Decoder directions, or activities over the same documents, are compared by their cosine and paired one to one so that
the sum of the cosines is largest (the Hungarian method; Paulo and Belrose 2025, arXiv 2501.16615, match SAEs of
different seeds this way and call latents of a cosine above 0.7 shared).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment

from companysim.errors import DataError
from companysim.similarity.base import unit

SHARED = 0.7
"""Cosine from which a latent counts as found in both SAEs."""


@dataclass(frozen=True)
class LatentMatch:
    """Counterparts of one SAE's latents in another, one to one.

    Attributes
    ----------
    other : ndarray of int64, shape (latents,)
        Number of each latent's counterpart; every number occurs once.
    cosine : ndarray, shape (latents,)
        Cosine of the two, -1 to 1. Every latent has a counterpart, so only this says whether it is the same latent.
    """

    other: np.ndarray
    cosine: np.ndarray

    def shared(self, latents: np.ndarray | None = None, least: float = SHARED) -> float:
        """Share of `latents` (numbers; all by default) whose counterpart has a cosine of `least` or more."""
        chosen = self.cosine if latents is None else self.cosine[latents]
        return float((chosen >= least).mean()) if len(chosen) else 0.0

    def renumbered(self, second: sp.csr_array) -> sp.csr_array:
        """Give the columns of `second`, shape (documents, latents), the numbers of their counterparts in the first."""
        return sp.csr_array(second[:, self.other])


def match_latents(first: np.ndarray, second: np.ndarray) -> LatentMatch:
    """Pair the latents of two SAEs one to one so that the sum of their cosines is largest.

    Takes memory for a matrix of latents by latents, and time that grows with the cube of their number: seconds for
    4,096 latents.

    Parameters
    ----------
    first, second : ndarray, shape (latents, size)
        A vector of each latent, such as its decoder row; see also `activity`. One of zeros has cosine 0 with all.

    Raises
    ------
    DataError
        If the shapes differ or a vector is not finite.
    """
    if first.ndim != 2 or first.shape != second.shape or not len(first):
        raise DataError(f"latents of shapes {first.shape} and {second.shape} cannot be paired: give as many, as long")
    first, second = (np.asarray(vectors, dtype=np.float64) for vectors in (first, second))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("a latent's vector is not finite: train the SAE again with a lower learning rate")
    cosine = unit(first) @ unit(second).T
    rows, other = linear_sum_assignment(cosine, maximize=True)
    return LatentMatch(other.astype(np.int64), cosine[rows, other])


def activity(strength: sp.csr_array) -> np.ndarray:
    """Latents as vectors over documents, centred, so that their cosine is the correlation of their activity.

    Parameters
    ----------
    strength : csr_array, shape (documents, latents)
        See `companysim.explain.Corpus`.

    Returns
    -------
    ndarray, shape (latents, documents)
        A latent that is the same in all documents is zero.
    """
    dense = strength.toarray().T.astype(np.float64)
    centred: np.ndarray = dense - dense.mean(axis=1, keepdims=True)
    return centred
