"""Choosing a threshold from correlation curves, exactly, and on past years only.

A theta is chosen on some years and used on others. Every choice here names the years it saw (`years_`), and the curves
of other years are not read. MC as a function of theta is a step function, so trying the distinct weights of the
training years' trees tries every theta there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from companysim.clustering.curve import FIGURES, CorrelationCurve
from companysim.errors import ConfigError, DataError


@dataclass(frozen=True)
class ThetaChoice:
    """A threshold and what it gave on the years it was chosen on. Figures are means over those years.

    Attributes
    ----------
    theta : float
    mean_correlation, pair_weighted, coverage, share_of_pairs, clusters : float
        Of the training years: what the choice was made by, hence no evidence.
    minimum_coverage : float
        Coverage that was required; 0 for a choice without that condition.
    years_ : tuple of int
        Years the choice saw.
    """

    theta: float
    mean_correlation: float
    pair_weighted: float
    coverage: float
    share_of_pairs: float
    clusters: float
    minimum_coverage: float
    years_: tuple[int, ...]

    def summary(self) -> str:
        """Describe the choice in one line."""
        return (
            f"theta {self.theta:.4g}, chosen on {self.years_[0]}-{self.years_[-1]} ({len(self.years_)} years): "
            f"MC {self.mean_correlation:.3f}, coverage {self.coverage:.1%}, share of pairs {self.share_of_pairs:.2%}"
        )


def best_theta(
    curves: Mapping[int, CorrelationCurve],
    years: Iterable[int],
    minimum_coverage: float = 0.30,
    thetas: np.ndarray | None = None,
) -> ThetaChoice:
    """One threshold for all years (G_CD): the highest MC, averaged over training years, at a minimum coverage.

    Without the condition the optimum is meaningless (METHOD.md, section 2: two clusters of 0.4 % of the firms);
    ``minimum_coverage=0`` shows it.

    Parameters
    ----------
    curves : mapping of year to CorrelationCurve
        Their thetas in one unit for all years: cosine distances, or z units of all years.
    years : iterable of int
        Training years. The curves of all others are not read.
    minimum_coverage : float
        Smallest share of companies, averaged over the training years, in a cluster of two or more.
    thetas : ndarray, optional
        Only try these, such as the published grid; all by default.

    Returns
    -------
    ThetaChoice
        The lowest theta of the best. A year without any scored cluster at a theta does not count there, and a theta
        is only considered where every year that can be scored at all is.

    Raises
    ------
    DataError
        If a training year has no curve, or no theta reaches the coverage with a score.
    """
    seen = _training(curves, years)
    tried = _all_thetas(seen.values()) if thetas is None else np.unique(np.asarray(thetas, dtype=float))
    means, scored = _means(seen, tried)
    allowed = scored & (means["coverage"].to_numpy() >= minimum_coverage) & np.isfinite(means["mean_correlation"])
    if not allowed.any():
        wanted = f"{minimum_coverage:.0%} of the companies of {_span(seen)}"
        raise DataError(f"no theta with a correlation covers {wanted}: ask for less coverage or give more years")
    best = int(np.where(allowed, means["mean_correlation"], -np.inf).argmax())
    return _choice(means.iloc[best], minimum_coverage, seen)


def rolling_thetas(
    curves: Mapping[int, CorrelationCurve],
    window: int = 5,
    minimum_coverage: float = 0.30,
    thetas: np.ndarray | None = None,
) -> dict[int, ThetaChoice]:
    """One threshold a year (G_CDR): for year t the `best_theta` of the years t - window to t - 1.

    Parameters
    ----------
    window : int
        Years to look back on.

    Returns
    -------
    dict of ThetaChoice
        For the years of `curves`, and the one after the last, all of whose `window` predecessors have a curve.
    """
    if window < 1:
        raise ConfigError(f"window is {window}: a choice needs one or more years before")
    candidates = sorted({*curves, *(year + 1 for year in curves)})
    pasts = {year: range(year - window, year) for year in candidates}
    return {
        year: best_theta(curves, past, minimum_coverage, thetas)
        for year, past in pasts.items()
        if all(before in curves for before in past)
    }


def theta_for_share(curves: Mapping[int, CorrelationCurve], years: Iterable[int], share: float) -> ThetaChoice:
    """One threshold whose share of grouped pairs, averaged over training years, is closest to `share`.

    This is how granularities are matched (as Hoberg and Phillips calibrate TNIC-3 to three-digit SIC); the lower of
    two equally close thresholds. At least one pair is grouped.

    Raises
    ------
    ConfigError
        If the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share is {share}: give the share of pairs to group, above 0 and at most 1")
    seen = _training(curves, years)
    means, _ = _means(seen, _all_thetas(seen.values()))
    if means.empty:
        raise DataError(f"no year of {_span(seen)} has two companies, hence no pair to group")
    return _choice(means.iloc[int(np.abs(means["share_of_pairs"] - share).to_numpy().argmin())], 0.0, seen)


def _training(curves: Mapping[int, CorrelationCurve], years: Iterable[int]) -> dict[int, CorrelationCurve]:
    wanted = sorted(set(years))
    absent = [year for year in wanted if year not in curves]
    if absent or not wanted:
        raise DataError(f"there is no curve for the training years {absent or wanted}: choose among {sorted(curves)}")
    return {year: curves[year] for year in wanted}


def _all_thetas(curves: Iterable[CorrelationCurve]) -> np.ndarray:
    return np.unique(np.concatenate([curve.theta[1:] for curve in curves]))


def _means(seen: Mapping[int, CorrelationCurve], thetas: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Figures at each theta, averaged over years, and where every year that is ever scored has a score."""
    figures = np.stack([curve.at(thetas)[list(FIGURES)].to_numpy(dtype=float) for curve in seen.values()])
    finite = np.isfinite(figures)
    number = finite.sum(axis=0)
    means = pd.DataFrame(np.nansum(figures, axis=0) / np.where(number > 0, number, np.nan), columns=list(FIGURES))
    means.insert(0, "theta", thetas)
    score = FIGURES.index("mean_correlation")
    ever = np.array([np.isfinite(curve.mean_correlation).any() for curve in seen.values()])
    return means, finite[ever, :, score].all(axis=0)


def _choice(row: pd.Series, minimum_coverage: float, seen: Mapping[int, CorrelationCurve]) -> ThetaChoice:
    names = ("theta", "mean_correlation", "pair_weighted", "coverage", "share_of_pairs", "clusters")
    return ThetaChoice(
        **{name: float(row[name]) for name in names}, minimum_coverage=minimum_coverage, years_=tuple(seen)
    )


def _span(seen: Mapping[int, CorrelationCurve]) -> str:
    years = list(seen)
    return f"{years[0]}-{years[-1]}"
