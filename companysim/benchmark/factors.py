"""What is left of returns when common factors are taken out.

Similarity that survives the removal of factors everybody knows is worth more (METHOD.md, section 6). Known factors
come from a file (Fama and French 2015, with momentum); statistical ones are principal components of the window.
Regressions work on simple returns for known factors, since those are simple excess returns, and on whatever they are
given otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from companysim.benchmark.returns import Windows
from companysim.errors import ConfigError, DataError
from companysim.universe.panels import DATES, dates_first
from companysim.universe.tables import read_frame

Unit = Literal["auto", "percent", "decimal"]
RISK_FREE = "RF"
MISSING = (-99.99, -999.0)  # the data library's codes
_PERCENT_ABOVE = 0.1  # mean absolute market return; monthly decimals are near 0.035, daily percents near 0.7


@dataclass(frozen=True)
class Factors:
    """Factor returns as decimals.

    Attributes
    ----------
    returns : DataFrame, shape (periods, factors)
        Simple returns, indexed by date (month ends, or days).
    risk_free : Series, shape (periods,)
        0 where the files hold none.
    unit : {"percent", "decimal"}
        What the files were taken to be in.
    """

    returns: pd.DataFrame
    risk_free: pd.Series
    unit: str

    def summary(self) -> str:
        """Describe the factors in one line."""
        index = self.returns.index
        names = ", ".join(map(str, self.returns.columns))
        return f"{names}, {index[0]:%Y-%m-%d} to {index[-1]:%Y-%m-%d}, read as {self.unit}"


def read_factors(*paths: str | Path, unit: Unit = "auto") -> Factors:
    """Read factor files in the layout of French's data library, or as a parquet or CSV table with a date column.

    The library's CSV files begin with some lines of prose, name the factors in a line that starts with a comma, give
    months as 200001 or days as 20000103, and may end with a table of years, which is not read. A table's dates are its
    column ``date`` or ``month``, or else its first. Several files (the five factors and momentum) are joined on the
    dates all of them have.

    Parameters
    ----------
    unit : {"auto", "percent", "decimal"}
        The library's files are in percent. ``auto`` takes the returns for percent if the mean absolute value of the
        first factor is above 0.1.

    Raises
    ------
    DataError
        If a file cannot be read, holds no dated rows, repeats a date or factor, or the files share no date.
    """
    if not paths:
        raise ConfigError("no file of factors: give one or more")
    tables = [_read_one(Path(path)) for path in paths]
    table = pd.concat(tables, axis=1, join="inner").sort_index()
    twice = [name for name in table.columns if list(table.columns).count(name) > 1]
    if twice:
        raise DataError(f"the factor {twice[0]!r} stands in several files: keep one")
    if table.empty:
        raise DataError("the files of factors share no date: give files of the same frequency and time")
    table = table.mask(table.isin(MISSING)).dropna()
    factors = [name for name in table.columns if name != RISK_FREE]
    if not factors or table.empty:
        raise DataError(f"{paths[0]}: no row has a value of every factor")
    if unit == "auto":
        unit = "percent" if float(table[factors[0]].abs().mean()) > _PERCENT_ABOVE else "decimal"
    if unit not in ("percent", "decimal"):
        raise ConfigError(f"unit is {unit!r}: choose percent, decimal or auto")
    table = table / 100 if unit == "percent" else table
    free = table[RISK_FREE] if RISK_FREE in table else pd.Series(0.0, table.index)
    return Factors(table[factors], free, unit)


def _read_one(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        table = read_frame(path, "dates and factors")
        table = table if any(str(name).lower() in DATES for name in table.columns) else table.reset_index()
    else:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise DataError(f"cannot read {path} ({error.strerror}): give a file of factors") from error
        dated = [bool(line.split(",")[0].strip().replace("-", "").isdigit()) and "," in line for line in lines]
        if True not in dated:
            raise DataError(f"{path}: no line starts with a date: give the CSV file of French's data library")
        first = dated.index(True)
        stop = first + [*dated[first:], False].index(False)
        heads = [line for line in lines[:first] if "," in line]
        if not heads:
            raise DataError(f"{path}: no line before the first date names the factors")
        for number, line in enumerate(lines[first:stop], start=first + 1):
            if line.count(",") > heads[-1].count(","):  # pandas would take the dates for an index and shift the rest
                raise DataError(f"{path}: line {number} has more values than there are names: name every column")
        try:
            table = pd.read_csv(io.StringIO("\n".join([heads[-1], *lines[first:stop]])), skipinitialspace=True)
        except pd.errors.ParserError as error:
            raise DataError(f"cannot read {path} ({' '.join(str(error).split())}): give a CSV file") from error
    table = dates_first(table)
    dates = _dates(table.iloc[:, 0], path)
    twice = dates[dates.duplicated()]
    if len(twice):
        raise DataError(f"{path}: the date {twice[0]:%Y-%m-%d} stands more than once: keep one row of it")
    values: pd.DataFrame = table.iloc[:, 1:].apply(pd.to_numeric, errors="coerce")
    values.columns = [str(name).strip() for name in values.columns]
    values.index = dates
    return values


def _dates(column: pd.Series, path: Path) -> pd.DatetimeIndex:
    """Days of ``20000103`` or dates; month ends of ``200001``."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.DatetimeIndex(column, name="date")
    text = column.astype(str).str.strip()
    monthly = bool(text.str.fullmatch(r"\d{6}").all())
    try:
        if monthly:
            return pd.DatetimeIndex(pd.to_datetime(text, format="%Y%m") + pd.offsets.MonthEnd(0), name="date")
        plain = bool(text.str.fullmatch(r"\d{8}").all())
        return pd.DatetimeIndex(pd.to_datetime(text, format="%Y%m%d" if plain else "ISO8601"), name="date")
    except ValueError as error:
        said = str(error).splitlines()[0].rstrip(":. ")
        raise DataError(f"{path}: a date cannot be read ({said}): write 200001 or 20000103") from error


def factor_residuals(
    returns: pd.DataFrame, windows: Windows, factors: Factors, estimation: int = 60, minimum: int = 36
) -> Windows:
    """Residual returns of each window, with exposures estimated on the periods before it.

    For company i, ``r_it - rf_t = a_i + b_i . f_t + e_it`` by least squares over the `estimation` periods that end
    before the window's first one; the residual of the window is ``r_it - rf_t - b_i . f_t``. Exposures therefore never
    see the window. (The intercept is not subtracted: a correlation does not see it.)

    Parameters
    ----------
    returns : DataFrame, shape (periods, companies)
        Log returns of all periods; simple ones are formed inside.
    windows : Windows
        What to take residuals of, from the same returns.
    estimation, minimum : int
        Periods looked back on (60 months; for days give 252 or more), and how many of them a company needs.

    Raises
    ------
    DataError
        If the factors do not cover the periods of a window.
    """
    dated = returns.sort_index()
    simple = pd.DataFrame(np.expm1(dated.to_numpy(dtype=float)), dated.index, dated.columns)
    found = {}
    for year, part in windows.returns.items():
        places = _places(factors, pd.DatetimeIndex(part.index), year)
        before = simple.loc[simple.index < part.index[0]].iloc[-estimation:]
        rows = _aligned(factors, pd.DatetimeIndex(before.index))
        before = before.iloc[rows >= 0]
        rows = rows[rows >= 0]
        f = factors.returns.to_numpy(dtype=float)
        free = factors.risk_free.to_numpy(dtype=float)
        excess = before.to_numpy(dtype=float) - free[rows][:, None]
        exposures = _exposures(excess, f[rows], minimum)
        own = np.expm1(part.to_numpy(dtype=float)) - free[places][:, None]
        found[year] = pd.DataFrame(own - f[places] @ exposures, part.index, part.columns)
    return Windows(found, windows.min_periods, f"{windows.kind}, residual of {', '.join(factors.returns.columns)}")


def pca_residuals(windows: Windows, factors: int) -> Windows:
    """Residual returns after the first principal components of each window itself.

    Series are standardised, a missing value counts as its series' mean, the components' T scores are the leading
    eigenvectors of the T x T cross product, and each series is regressed on them and a constant over its own periods.
    In-sample by construction: the components are of the window that is judged, which removes as much common movement
    as any linear factors could. Twelve months leave eleven degrees of freedom, so few components (1 to 3) can be taken.

    Parameters
    ----------
    factors : int
        Components to take out, 1 or more.

    Raises
    ------
    ConfigError
        If no window has two periods more than components; windows that do not are left out.
    """
    if factors < 1:
        raise ConfigError(f"factors is {factors}: take out one or more")
    found = {}
    for year, part in windows.returns.items():
        x = part.to_numpy(dtype=float)
        if len(x) < factors + 2:
            continue
        seen = np.isfinite(x)
        count = np.maximum(seen.sum(axis=0), 1)
        filled = np.where(seen, x, 0.0)
        centred = np.where(seen, filled - filled.sum(axis=0) / count, 0.0)
        squares = np.square(centred).sum(axis=0)
        varies = squares > 1e-20 * np.square(filled).sum(axis=0)
        scaled = centred[:, varies] / np.sqrt(squares[varies])
        scores = np.linalg.eigh(scaled @ scaled.T)[1][:, ::-1][:, :factors]
        exposures = _exposures(np.where(seen, centred, np.nan), scores, factors + 2)
        left = np.where(seen, centred, np.nan) - scores @ exposures
        left[:, np.nansum(left**2, axis=0) <= 1e-20 * squares] = np.nan  # explained to the last bit: nothing is left
        found[year] = pd.DataFrame(left, part.index, part.columns)
    if windows.returns and not found:
        longest = max(len(part) for part in windows.returns.values())
        raise ConfigError(f"the windows have {longest} periods: take out {max(longest - 2, 0)} components at most")
    return Windows(found, windows.min_periods, f"{windows.kind}, residual of {factors} principal components")


def _exposures(y: np.ndarray, factors: np.ndarray, minimum: int) -> np.ndarray:
    """Least-squares slopes of each column of `y` over its own periods, shape (factors, series); NaN below `minimum`.

    All normal equations at once: with a mask m_i of the periods series i has, ``X' diag(m_i) X b_i = X' (m_i y_i)``.
    """
    k = factors.shape[1]
    exposures = np.full((k, y.shape[1]), np.nan)
    x = np.column_stack([np.ones(len(factors)), factors])
    seen = np.isfinite(y)
    enough = seen.sum(axis=0) >= max(minimum, k + 2)
    if not enough.any():
        return exposures
    m, values = seen[:, enough].astype(float), np.where(seen, y, 0.0)[:, enough]
    products = np.einsum("tn,tj,tk->njk", m, x, x, optimize=True)
    moments = (x.T @ values).T
    exposures[:, enough] = (np.linalg.pinv(products, hermitian=True) @ moments[:, :, None])[:, 1:, 0].T
    return exposures


def _aligned(factors: Factors, dates: pd.DatetimeIndex) -> np.ndarray:
    """Row of the factors for each date, -1 if none: by month where both are monthly, else by day."""
    own = pd.DatetimeIndex(factors.returns.index)
    if own.to_period("M").is_unique and dates.to_period("M").is_unique:
        return np.asarray(own.to_period("M").get_indexer(dates.to_period("M")))
    return np.asarray(own.normalize().get_indexer(dates.normalize()))


def _places(factors: Factors, dates: pd.DatetimeIndex, year: int) -> np.ndarray:
    places = _aligned(factors, dates)
    if (places < 0).any():
        missing = dates[int((places < 0).argmax())]
        raise DataError(f"the factors have no value for {missing:%Y-%m-%d} (window {year}): give a longer file")
    return places


def past_returns(returns: pd.DataFrame) -> tuple[np.ndarray, Sequence[str]]:
    """Characteristics of each company and month from its earlier months, shape (months, companies, 5), and their names.

    Momentum (months 12 to 2 before), reversal (the month before), long reversal (36 to 13 before), volatility and beta
    to the equal-weighted mean (36 months before). Each is NaN until its months are there; none sees the month itself.
    """
    monthly = returns.sort_index()
    past = monthly.shift(1)
    market = past.mean(axis=1)
    window = past.rolling(36, min_periods=24)
    spread = window.var()
    beta = past.rolling(36, min_periods=24).cov(market).div(market.rolling(36, min_periods=24).var(), axis=0)
    named: dict[str, pd.DataFrame] = {
        "momentum": monthly.shift(2).rolling(11, min_periods=9).sum(),
        "reversal": past,
        "long_reversal": monthly.shift(13).rolling(24, min_periods=18).sum(),
        "volatility": spread**0.5,
        "beta": beta,
    }
    return np.stack([frame.to_numpy(dtype=float) for frame in named.values()], axis=2), tuple(named)
