"""MacKinnon's p-values of unit-root and cointegration statistics, for whole arrays.

MacKinnon (1994), "Approximate asymptotic distribution functions for unit-root and cointegration tests", fits the normal
quantile of the p-value by a polynomial in the statistic: one of second order in the left tail, one of third order
elsewhere. A test of residuals has more variables than a test of one series, and its own coefficients: reading the
p-value of an Engle-Granger statistic from the table of one series rejects far too often.

There are p-values here and no critical values, since the published table of 2010 and its copies disagree (two series,
constant, 1 %: the last coefficient is -22.527 in the paper and -33.527 in statsmodels 0.15).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Trend = Literal["n", "c", "ct"]


class _Surface(NamedTuple):
    lowest: float  # the fit holds from here ...
    left: float  # ... to here for the left tail, whose coefficients are `small`
    highest: float  # beyond this p is 1
    small: tuple[float, ...]  # ascending powers
    large: tuple[float, ...]


_SURFACES: dict[tuple[str, int], _Surface] = {
    ("n", 1): _Surface(-19.04, -1.04, np.inf, (0.6344, 1.2378, 0.032496), (0.4797, 0.93557, -0.06999, 0.033066)),
    ("c", 1): _Surface(-18.83, -1.61, 2.74, (2.1659, 1.4412, 0.038269), (1.7339, 0.93202, -0.12745, -0.010368)),
    ("ct", 1): _Surface(-16.18, -2.89, 0.70, (3.2512, 1.6047, 0.049588), (2.5261, 0.61654, -0.37956, -0.060285)),
    ("c", 2): _Surface(-18.86, -2.62, 0.92, (2.92, 1.5012, 0.039796), (2.1945, 0.64695, -0.29198, -0.042377)),
}


def mackinnon_p(statistic: npt.ArrayLike, trend: Trend, variables: int = 1) -> np.ndarray:
    """Asymptotic p-values of Dickey-Fuller statistics: ``Phi(c0 + c1 t + c2 t^2 [+ c3 t^3])``.

    Parameters
    ----------
    statistic : array_like
        t-statistics of the lagged level; NaN gives NaN.
    trend : {"n", "c", "ct"}
        Deterministic terms: none, a constant, a constant and a linear trend. For residuals, those of the cointegrating
        regression.
    variables : int
        1 for a series, 2 for the residual of one series regressed on another (with a constant).

    Returns
    -------
    ndarray
        p-values, above 0: below the range of the fit (about -19) that of its lower end, 1e-22 or less.
    """
    surface = _SURFACES[trend, variables]
    t = np.asarray(statistic, dtype=float)
    inside = np.clip(t, surface.lowest, surface.highest)
    quantile = np.where(
        inside <= surface.left,
        np.polynomial.polynomial.polyval(inside, surface.small),
        np.polynomial.polynomial.polyval(inside, surface.large),
    )
    return np.where(t > surface.highest, 1.0, ndtr(quantile))
