"""The benchmark on a user's own tables, from files to comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from companysim.benchmark.autoencoder import ConditionalAutoencoder
from companysim.benchmark.comparison import Comparison, compare
from companysim.benchmark.factors import factor_residuals, pca_residuals, read_factors
from companysim.benchmark.groupings import Grouping
from companysim.benchmark.inputs import grouping_of, read_codes, read_features, schemes_of
from companysim.benchmark.returns import (
    Windows,
    Winsorised,
    calendar_windows,
    filing_windows,
    frequency_of,
    read_returns,
    winsorise,
)
from companysim.benchmark.table import frontier
from companysim.clustering import CorrelationCurve, correlation_curve
from companysim.errors import ConfigError, DataError, counted

SHARES = np.geomspace(0.0005, 0.3, 25)
RAW = "raw"


@dataclass(frozen=True)
class Study:
    """Comparisons of one set of groupings on raw returns and on what factors leave of them.

    Attributes
    ----------
    companies : tuple of str
    groupings : tuple of Grouping
    windows : dict of Windows
        By kind of return: ``raw``, ``factors``, ``components``, ``autoencoder``.
    comparisons : dict of Comparison
        By kind of return.
    frontier : DataFrame
        share_of_pairs, and of each grouping the mean raw correlation of so many most similar pairs.
    curves : dict of CorrelationCurve
        MC and coverage at every theta of each similarity's tree, on raw correlations averaged over years.
    extremes : Winsorised
        Raw returns outside the limits of the years before the comparison. They are listed; only with `clip` are the
        clipped returns used.
    clipped : bool
    """

    companies: tuple[str, ...]
    groupings: tuple[Grouping, ...]
    windows: dict[str, Windows]
    comparisons: dict[str, Comparison]
    frontier: pd.DataFrame
    curves: dict[str, CorrelationCurve]
    extremes: Winsorised | None
    clipped: bool

    def to_frame(self) -> pd.DataFrame:
        """Every figure of every comparison, one row each."""
        return pd.concat([c.estimates.assign(returns=kind) for kind, c in self.comparisons.items()], ignore_index=True)

    def summary(self) -> str:
        """One line a kind of return, and one on extreme returns."""
        lines = [f"{kind} returns, {comparison.summary()}" for kind, comparison in self.comparisons.items()]
        if self.extremes is not None and len(self.extremes.flagged):
            count, back = len(self.extremes.flagged), int(self.extremes.flagged["reversed"].sum())
            done = "pulled in" if self.clipped else "left as they are"
            lines.append(f"{count} extreme returns, {back} of them taken back by the next one, were {done}")
        return "\n".join(lines)


def run_study(
    features: Sequence[str | Path],
    returns: str | Path,
    codes: str | Path,
    *,
    first_year: int | None = None,
    last_year: int | None = None,
    window: Literal["calendar", "after_filing"] = "calendar",
    share_of_pairs: float = 0.01,
    without: Sequence[int] = (),
    factors: Sequence[str | Path] = (),
    components: int = 0,
    autoencoder: int = 0,
    clip: bool = False,
    null_draws: int = 1000,
    bootstrap_draws: int = 1000,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Study:
    """Compare the groupings and similarities of files with classification codes.

    Parameters
    ----------
    features, returns, codes : paths
        See `read_features`, `read_returns` and `read_codes`. Companies with returns that every features file
        describes are compared, in the order of their ids.
    first_year, last_year : int, optional
        The years of the returns by default.
    window : {"calendar", "after_filing"}
        With ``after_filing`` the 12 months after ``filed`` of the classification table, one window.
    share_of_pairs : float
        Where similarities' trees are cut.
    without : sequence of int
        Years to leave out in a second set of figures.
    factors : paths
        Files of factor returns, for residuals; see `read_factors`.
    components, autoencoder : int
        Principal components of each window, and factors of a conditional autoencoder fitted on the years before
        `first_year`, to take out; 0 for none.
    clip : bool
        Use the winsorised returns. Limits come from the years before `first_year`.
    null_draws, bootstrap_draws : int
        1 or more.
    seed : int
        0 or more.

    Raises
    ------
    ConfigError, DataError
        One sentence on what is wrong in the files or settings.
    """
    if not 0 < share_of_pairs <= 1:
        raise ConfigError(f"share_of_pairs is {share_of_pairs}: give a share above 0 and at most 1")
    least = {"null_draws": (null_draws, 1), "bootstrap_draws": (bootstrap_draws, 1), "seed": (seed, 0)}
    least |= {"components": (components, 0), "autoencoder": (autoencoder, 0)}
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise ConfigError(f"{name} is {value}: give {minimum} or more")
    read = [read_features(path) for path in features]
    if not read:
        raise ConfigError("no features: give one file or more")
    table = read_returns(returns)
    known = set(table.columns).intersection(*(entry.ids for entry in read))
    ids = sorted(known)
    if len(ids) < 3:
        few = counted(len(ids), "company has", "companies have")
        raise DataError(f"only {few} returns and all features: write their ids alike in all files")
    log = table[ids]
    dated = pd.DatetimeIndex(log.index)
    first, last = int(first_year or dated[0].year), int(last_year or dated[-1].year)
    classified = read_codes(codes)
    if not classified.index.isin(ids).any():
        raise DataError(f"{codes} holds none of the {len(ids)} companies compared: write their ids alike in all files")
    built = [grouping_of(entry, ids, share_of_pairs) for entry in read]
    groupings = [grouping for grouping, _ in built] + schemes_of(classified, ids)
    past = np.isfinite(log[dated.year < first].to_numpy(dtype=float)).any()
    extremes = winsorise(log, first - 1) if past else None
    if clip and extremes is None:
        raise ConfigError(f"no return before {first} sets the limits of clipping: raise first_year or do not clip")
    used = extremes.returns if clip and extremes is not None else log
    frequency = frequency_of(used)
    if window == "after_filing":
        if "filed" not in classified:
            raise DataError(f"{codes}: windows after the filing need a column 'filed'")
        days = classified["filed"]
        filed = {year: days.where(days.dt.year == year) for year in range(first, last + 1)}
        windows = {RAW: filing_windows(used, filed, frequency)}
    else:
        windows = {RAW: calendar_windows(used, range(first, last + 1), frequency)}
    if not windows[RAW].returns:
        raise DataError(f"no company has a return in {first}-{last}: choose other years")
    if not windows[RAW].to_frame()["pairs_scored"].any():
        needed = windows[RAW].min_periods
        raise DataError(
            f"{returns}: no two companies share {needed} {frequency} returns in any year of {first}-{last}: give daily "
            "or monthly returns (weekly ones count as daily) of longer years"
        )
    if factors:
        span = (60, 36) if frequency == "monthly" else (504, 252)
        windows["factors"] = factor_residuals(used, windows[RAW], read_factors(*factors), *span)
    if components:
        windows["components"] = pca_residuals(windows[RAW], components)
    if autoencoder:
        if frequency != "monthly":
            raise ConfigError("the conditional autoencoder takes monthly returns: give month ends")
        model = ConditionalAutoencoder(until=first - 1, factors=autoencoder, seed=seed).fit(used)
        windows["autoencoder"] = model.windows(used, windows[RAW])
    correlations = {kind: part.correlations() for kind, part in windows.items()}
    comparisons = {}
    for step, (kind, found) in enumerate(correlations.items()):

        def report(done: int, total: int, step: int = step) -> None:
            advance(step * total + done, total * len(correlations))

        comparisons[kind] = compare(
            groupings,
            found,
            without=without,
            null_draws=null_draws,
            bootstrap_draws=bootstrap_draws,
            seed=seed,
            advance=report,
        )
    shares = {g.name: frontier(g.similarity, correlations[RAW], SHARES) for g in groupings}
    average = mean_correlations(correlations[RAW])
    curves = {grouping.name: correlation_curve(tree, average) for grouping, tree in built if tree is not None}
    return Study(
        companies=tuple(ids),
        groupings=tuple(groupings),
        windows=windows,
        comparisons=comparisons,
        frontier=pd.DataFrame({"share_of_pairs": SHARES} | shares),
        curves=curves,
        extremes=extremes,
        clipped=clip,
    )


def mean_correlations(correlations: dict[int, np.ndarray]) -> np.ndarray:
    """Mean of each pair's correlations over the years that have one, shape (n, n); NaN where none has."""
    total: np.ndarray = np.sum([np.nan_to_num(values) for values in correlations.values()], axis=0)
    count = np.sum([np.isfinite(values) for values in correlations.values()], axis=0)
    result: np.ndarray = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return result
