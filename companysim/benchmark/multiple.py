"""P-values that know how many there are."""

from __future__ import annotations

import numpy as np


def paired_p_value(differences: np.ndarray) -> float:
    """Two-sided p-value that a difference is 0, from its values in paired resamples; NaN without any.

    Twice the smaller share of resamples on either side of 0, the difference itself counted as one of each: the level
    at which the percentile interval would first hold 0. With B resamples it cannot fall below 2 / (B + 1).
    """
    finite = differences[np.isfinite(differences)]
    if not len(finite):
        return float("nan")
    below, above = (finite <= 0).sum(), (finite >= 0).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(finite))))


def adjusted(p_values: np.ndarray, dependence: bool = False) -> np.ndarray:
    """P-values adjusted for the false discovery rate; those that are NaN stay so and are not counted.

    Benjamini and Hochberg (1995): with the m p-values in rising order, ``min over k >= j of m p_(k) / k``. It holds
    for independent and positively dependent tests. Comparisons of methods with each other are neither, and Benjamini
    and Yekutieli's (2001) factor ``1 + 1/2 + ... + 1/m`` makes it hold under any dependence.

    Parameters
    ----------
    p_values : ndarray, shape (tests,)
    dependence : bool
        Apply Benjamini and Yekutieli's factor.
    """
    p = np.asarray(p_values, dtype=float)
    result = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    m = len(known)
    if m:
        order = known[np.argsort(-p[known], kind="stable")]
        factor = np.sum(1.0 / np.arange(1, m + 1)) if dependence else 1.0
        scaled = p[order] * m * factor / np.arange(m, 0, -1)
        result[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return result
