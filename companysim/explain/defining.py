"""Which latents define a cluster: present in its members and rare outside."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from companysim.explain.corpus import PRESENT


def defining_latents(strength: sp.csr_array, member: np.ndarray, k: int = 8) -> np.ndarray:
    """Latents present in a cluster and rare outside, those first that set it apart most.

    Parameters
    ----------
    strength : csr_array, shape (documents, latents)
        See `companysim.explain.Corpus`.
    member : ndarray of bool, shape (documents,)
    k : int
        At most so many.

    Returns
    -------
    ndarray of int64
        In falling order of the share of members less the share of others in which the latent is present; of those that
        tie, of its mean strength in members less that in others. Only latents more frequent in members.
    """
    row, width = np.repeat(member, np.diff(strength.indptr)), strength.shape[1]
    present = strength.data >= PRESENT

    def share(inside: bool) -> tuple[np.ndarray, np.ndarray]:
        own, size = row == inside, max((member == inside).sum(), 1)
        frequency = np.bincount(strength.indices[own & present], minlength=width) / size
        return frequency, np.bincount(strength.indices[own], strength.data[own], width) / size

    (inside, mean), (outside, usual) = share(True), share(False)
    order = np.lexsort((np.round(usual - mean, 9), np.round(outside - inside, 9)))[:k]
    found: np.ndarray = order[inside[order] > outside[order]]
    return found
