"""False discoveries among many tests.

A search over m pairs finds about m q of them at p <= q even if no pair is cointegrated. Benjamini and Hochberg (1995)
keep the expected share of false ones among the discoveries below q if the tests are independent or positively
dependent; Benjamini and Yekutieli (2001) whatever their dependence (pairs share legs), at the price of a factor
``1 + 1/2 + .. + 1/m``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from companysim.errors import DataError
from companysim.significance import adjusted


@dataclass(frozen=True)
class Discoveries:
    """What survives of many tests.

    Attributes
    ----------
    n_tests : int
        Tests made.
    q : float
        Share of false discoveries accepted.
    p_value, adjusted_bh, adjusted_by : ndarray, shape (n,)
        The p-values given and the smallest q at which each is a discovery; NaN where p is.
    """

    n_tests: int
    q: float
    p_value: np.ndarray
    adjusted_bh: np.ndarray
    adjusted_by: np.ndarray

    def summary(self) -> dict[str, float | int]:
        """Discoveries (bh, by) beside the raw count of p <= q and the count expected if nothing were there."""
        return {
            "tests": self.n_tests,
            "q": self.q,
            "raw": int((self.p_value <= self.q).sum()),
            "expected_by_chance": self.n_tests * self.q,
            "bh": int((self.adjusted_bh <= self.q).sum()),
            "by": int((self.adjusted_by <= self.q).sum()),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a test: p_value, adjusted_bh, adjusted_by."""
        return pd.DataFrame(
            {"p_value": self.p_value, "adjusted_bh": self.adjusted_bh, "adjusted_by": self.adjusted_by}
        )


def discoveries(p_value: npt.ArrayLike, q: float = 0.05, n_tests: int | None = None) -> Discoveries:
    """Control the share of false discoveries over the number of tests actually made.

    Parameters
    ----------
    p_value : array_like, shape (n,)
        NaN for a test that was not made.
    q : float
        Share of false discoveries accepted.
    n_tests : int, optional
        Tests made, where `p_value` holds only some of them, such as those that passed an earlier filter; the others
        count as p = 1. By default the p-values that are not NaN.

    Raises
    ------
    DataError
        If a p-value or q lies outside [0, 1], or `n_tests` is smaller than the number of p-values.
    """
    p = np.asarray(p_value, dtype=float)
    made = int((~np.isnan(p)).sum())
    tests = made if n_tests is None else n_tests
    if not 0 <= q <= 1:
        raise DataError(f"q = {q} is no share: give a number from 0 to 1")
    if ((p < 0) | (p > 1)).any():
        raise DataError("a p-value lies outside 0 to 1: give p-values, not statistics")
    if tests < made:
        raise DataError(f"n_tests = {tests}, but there are {made} p-values: count every test that was made")
    return Discoveries(tests, q, p, adjusted(p, False, tests), adjusted(p, True, tests))
