"""Returns as the benchmark takes them: logs, in windows that say which months they may see, bad ticks shown.

A window never holds a return that begins before it. Where the 12 months after a filing are asked for, each company
has its own months, and a pair is compared over the months both windows share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from companysim.benchmark.correlations import MIN_MONTHS, correlation
from companysim.errors import ConfigError, DataError
from companysim.universe.panels import panel, returns_shaped
from companysim.universe.tables import read_frame

Frequency = Literal["monthly", "daily"]
KINDS = {"log returns": "log", "returns": "simple", "prices": "price"}
MIN_DAYS = 120
"""Common days a pair needs in a year of daily returns, as nine of twelve months in a year of monthly ones."""


@dataclass(frozen=True)
class Windows:
    """Log returns by year and their pairwise correlations' support.

    Attributes
    ----------
    returns : dict of DataFrame, shape (periods, companies)
        One entry a year; NaN where a company has no return or the period lies outside its own window.
    min_periods : int
        Common periods a pair needs for a correlation.
    kind : str
        ``calendar`` or ``after filing``.
    """

    returns: dict[int, pd.DataFrame]
    min_periods: int
    kind: str

    def correlations(self) -> dict[int, np.ndarray]:
        """Pairwise-complete correlations, shape (companies, companies) each; see `correlation`."""
        return {year: correlation(part.to_numpy(dtype=float), self.min_periods) for year, part in self.returns.items()}

    def to_frame(self) -> pd.DataFrame:
        """Count what is missing, one row a year.

        Returns
        -------
        DataFrame
            year, periods, complete (companies with a return in every period of their window's length), partial, none,
            pairs (all), pairs_scored (with `min_periods` common periods or more; constant series included).
        """
        rows = []
        for year, part in self.returns.items():
            seen = np.isfinite(part.to_numpy(dtype=float))
            count = seen.sum(axis=0)
            longest = int(count.max(initial=0))
            common = seen.T.astype(np.float32) @ seen.astype(np.float32)
            n = len(count)
            rows.append(
                {
                    "year": year,
                    "periods": longest,
                    "complete": int((count == longest).sum()) if longest else 0,
                    "partial": int(((count > 0) & (count < longest)).sum()),
                    "none": int((count == 0).sum()),
                    "pairs": n * (n - 1) // 2,
                    "pairs_scored": int(np.triu(common >= self.min_periods, 1).sum()),
                }
            )
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """Describe the windows in one line."""
        table = self.to_frame()
        if table.empty:
            return f"{self.kind} windows: none"
        scored = table["pairs_scored"].sum() / max(table["pairs"].sum(), 1)
        return (
            f"{self.kind} windows {min(self.returns)}-{max(self.returns)}: {scored:.1%} of the pairs have "
            f"{self.min_periods} or more common periods; {int(table['partial'].sum())} company-years are partial"
        )


def calendar_windows(
    returns: pd.DataFrame, years: range, frequency: Frequency = "monthly", min_periods: int | None = None
) -> Windows:
    """One window a calendar year: the returns dated in it (the published target).

    Parameters
    ----------
    returns : DataFrame, shape (periods, companies)
        Log returns, indexed by the date each ends on.
    years : range
        Years without any return are left out.
    frequency : {"monthly", "daily"}
    min_periods : int, optional
        Nine months or 120 days by default.
    """
    dated = _in_order(returns)
    found = {}
    for year in years:
        part = dated[pd.DatetimeIndex(dated.index).year == year]
        if np.isfinite(part.to_numpy(dtype=float)).any():
            found[year] = part
    return Windows(found, _minimum(frequency, min_periods), "calendar")


def filing_windows(
    returns: pd.DataFrame,
    filed: Mapping[int, pd.Series],
    frequency: Frequency = "monthly",
    min_periods: int | None = None,
) -> Windows:
    """Windows of the 12 months after each company's filing became readable.

    Monthly: the twelve calendar months after the month of the filing. Daily: every return that begins on the day of
    the filing or later and ends within twelve months of it; a return begins at the date of the row before it.

    Parameters
    ----------
    returns : DataFrame, shape (periods, companies)
        Log returns, indexed by the date each ends on.
    filed : mapping of year to Series
        When each company's filing of that year became readable, by company; NaT where it has none.

    Returns
    -------
    Windows
        Keyed as `filed` is; years in which no company has a return are left out.
    """
    dated = _in_order(returns)
    ends = pd.DatetimeIndex(dated.index)
    begins = np.concatenate([[np.datetime64("NaT")], ends.to_numpy()[:-1].astype("datetime64[ns]")])
    months = (ends.year * 12 + ends.month).to_numpy()
    values = dated.to_numpy(dtype=float)
    found = {}
    for year, when in filed.items():
        days = pd.DatetimeIndex(pd.to_datetime(when.reindex(dated.columns)))
        known = np.asarray(days.notna())
        if frequency == "monthly":
            first = np.where(known, days.year * 12 + days.month, 0)[None, :]
            inside = (months[:, None] > first) & (months[:, None] <= first + 12)
        else:
            start = days.to_numpy().astype("datetime64[ns]")[None, :]
            stop = (days + pd.DateOffset(months=12)).to_numpy().astype("datetime64[ns]")[None, :]
            inside = (begins[:, None] >= start) & (ends.to_numpy().astype("datetime64[ns]")[:, None] <= stop)
        part = np.where(inside & known, values, np.nan)
        rows = np.isfinite(part).any(axis=1)
        if rows.any():
            found[year] = pd.DataFrame(part, dated.index, dated.columns).iloc[np.flatnonzero(rows)]
    return Windows(found, _minimum(frequency, min_periods), "after filing")


@dataclass(frozen=True)
class Winsorised:
    """Returns with extreme values pulled in, and every value that was.

    Attributes
    ----------
    returns : DataFrame, shape (periods, companies)
    flagged : DataFrame
        date, ticker, log_return, limit, reversed (whether the next return takes back at least half of it, the mark of
        a bad tick); one row a flagged return, sorted.
    low, high : float
        Limits of the log return.
    """

    returns: pd.DataFrame
    flagged: pd.DataFrame
    low: float
    high: float

    def to_frame(self) -> pd.DataFrame:
        """Return `flagged`."""
        return self.flagged

    def summary(self) -> str:
        """Say in one line what was changed."""
        return (
            f"{len(self.flagged)} returns outside {np.expm1(self.low):.0%} to {np.expm1(self.high):+.0%} were set to "
            f"these limits, {int(self.flagged['reversed'].sum())} of them taken back by the next return"
        )


def winsorise(returns: pd.DataFrame, until: int, quantile: float = 1e-4) -> Winsorised:
    """Pull the log returns of all years to quantiles of those of the years up to `until`.

    Parameters
    ----------
    returns : DataFrame, shape (periods, companies)
        Log returns. They are copied, not changed.
    until : int
        Last year the limits may see; the years to be judged must lie after it.
    quantile : float
        Share cut off at either end of the training years, between 0 and 0.5.

    Raises
    ------
    ConfigError
        If the quantile is not between 0 and 0.5.
    DataError
        If there is no return up to `until`.
    """
    if not 0 < quantile < 0.5:
        raise ConfigError(f"quantile is {quantile}: give a share between 0 and 0.5")
    dated = _in_order(returns)
    values = dated.to_numpy(dtype=float)
    past = values[pd.DatetimeIndex(dated.index).year <= until]
    past = past[np.isfinite(past)]
    if not len(past):
        raise DataError(f"no return is dated {until} or earlier: the limits need years before those to be judged")
    low, high = (float(limit) for limit in np.quantile(past, [quantile, 1 - quantile]))
    with np.errstate(invalid="ignore"):
        beyond = (values < low) | (values > high)
        following = np.vstack([values[1:], np.full((1, values.shape[1]), np.nan)])
        back = beyond & (np.sign(following) == -np.sign(values)) & (np.abs(following) >= np.abs(values) / 2)
    rows, columns = np.nonzero(beyond)
    flagged = pd.DataFrame(
        {
            "date": dated.index[rows],
            "ticker": dated.columns[columns],
            "log_return": values[rows, columns],
            "limit": np.clip(values[rows, columns], low, high),
            "reversed": back[rows, columns],
        }
    ).sort_values(["date", "ticker"], ignore_index=True)
    return Winsorised(dated.clip(low, high), flagged, low, high)


def read_returns(path: str | Path) -> pd.DataFrame:
    """Read returns or prices, long or wide, as log returns.

    Long: a date (``date`` or ``month``), an id (``ticker``, ``id``, ``company`` or ``cik``) and one of ``return``,
    ``simple_return``, ``ret``, ``log_return``, ``adj_close``. Wide: dates in the first column, one column of simple
    returns a company; prices must be long. They are taken as they are dated: month ends give monthly returns, days
    daily ones.

    Returns
    -------
    DataFrame, shape (periods, companies)
        Log returns, sorted by date and id; NaN where there is none.

    Raises
    ------
    DataError
        If the file cannot be read, a date or number cannot, a day has two values, or a simple return is -1 or less, in
        which case the message names the column and the first bad rows; or if it holds wide prices, or those of one day.
    """
    table, schema = returns_shaped(read_frame(path, "returns or prices"), str(path))
    returns = log_returns_of(panel(table, schema, str(path)), KINDS[schema.name], str(path))
    if returns.empty:
        raise DataError(f"{path}: prices of a single day give no return: give two days or more")
    return returns


def log_returns_of(values: pd.DataFrame, kind: str, source: str = "returns") -> pd.DataFrame:
    """Log returns of log returns, simple returns or prices, shape (periods, companies); infinite values are NaN."""
    found = values.astype(float).replace([np.inf, -np.inf], np.nan)
    if kind == "log":
        return found
    floor = 0.0 if kind == "price" else -1.0
    impossible = (found <= floor).to_numpy()
    if impossible.any():
        row, column = np.argwhere(impossible)[0]
        what = "prices must be positive" if kind == "price" else "a simple return is above -1 (write -0.05 for -5 %)"
        raise DataError(f"{source}: {found.columns[column]} has {found.iloc[row, column]:g}: {what}")
    logs = np.log(found.to_numpy()) if kind == "price" else np.log1p(found.to_numpy())
    result = pd.DataFrame(logs, found.index, found.columns)
    return result.diff().iloc[1:] if kind == "price" else result


def frequency_of(returns: pd.DataFrame) -> Frequency:
    """``monthly`` if at most one return a month is dated, else ``daily``."""
    months = pd.DatetimeIndex(returns.index).to_period("M")
    return "monthly" if months.is_unique else "daily"


def _in_order(returns: pd.DataFrame) -> pd.DataFrame:
    if not isinstance(returns.index, pd.DatetimeIndex) or returns.index.has_duplicates:
        raise DataError("returns must be indexed by the date each ends on, every date once")
    return returns.sort_index()


def _minimum(frequency: Frequency, min_periods: int | None) -> int:
    minimum = (MIN_MONTHS if frequency == "monthly" else MIN_DAYS) if min_periods is None else min_periods
    if minimum < 2:
        raise ConfigError(f"min_periods is {minimum}: a correlation needs two or more periods")
    return minimum
