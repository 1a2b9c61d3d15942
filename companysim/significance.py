"""P-values from resamples, and p-values that know how many there are."""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-9


def null_p_value(value: float, null: np.ndarray) -> float:
    """Chance that a draw from the null does as well: ``(1 + draws >= value) / (1 + draws)``.

    The value itself counts as one draw (Phipson and Smyth 2010), so that no p-value is 0. A draw of the very same
    pairs, added up in another order, does as well: differences below `ROUNDING` of the value are none. Draws that are
    NaN are left out; NaN where `value` is no number, or no draw is.
    """
    null = null[np.isfinite(null)]
    if not (np.isfinite(value) and len(null)):
        return float("nan")
    return float((1 + (null >= value - ROUNDING * abs(value)).sum()) / (1 + len(null)))


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


def adjusted(p_values: np.ndarray, dependence: bool = False, n_tests: int | None = None) -> np.ndarray:
    """P-values adjusted for the false discovery rate; those that are NaN stay so and are not counted.

    Benjamini and Hochberg (1995): with the p-values in rising order, ``min over j >= i of m p_(j) / j``, at most 1. It
    holds for independent and positively dependent tests. Comparisons of methods with each other are neither, nor are
    pairs that share legs, and Benjamini and Yekutieli's (2001) factor ``1 + 1/2 + ... + 1/m`` makes it hold under any
    dependence.

    Parameters
    ----------
    p_values : ndarray, shape (tests,)
    dependence : bool
        Apply Benjamini and Yekutieli's factor.
    n_tests : int, optional
        The number of tests m, where `p_values` holds only some of them; by default the p-values that are numbers.
    """
    p = np.asarray(p_values, dtype=float)
    result = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    m = len(known) if n_tests is None else n_tests
    factor = m * (np.sum(1.0 / np.arange(1, m + 1)) if dependence else 1.0)
    scaled = p[order] * factor / np.arange(1, len(order) + 1)
    result[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return result
