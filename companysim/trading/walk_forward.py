"""The walk-forward protocol: choose pairs on a formation window, trade them on what follows, move on.

At the end of each formation window the grouping that is readable by then names candidate pairs, cointegration on the
window's prices chooses among them, and what is chosen is traded until the next window takes over. Hedge ratios,
intercepts and z-score scales come from the formation window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from companysim.errors import ConfigError, DataError, counted
from companysim.trading.cointegration import engle_granger
from companysim.trading.costs import Costs
from companysim.trading.multiple_testing import discoveries
from companysim.trading.performance import (
    correlation,
    exposure,
    hit_rate,
    market_returns,
    max_drawdown,
    sharpe,
    turnover,
)
from companysim.trading.rules import Limits, Rules
from companysim.trading.sessions import market_days
from companysim.trading.simulator import TRADING_DAYS, Book, check_prices, simulate

PROTOCOL = "walk_forward"
MIN_FORMATION = 60
MIN_TRADING = 2
PAIR_COLUMNS = ["hedge_ratio", "adf_t", "p_value", "lags", "half_life"]
Candidates = Callable[[pd.Timestamp, pd.Index], tuple[np.ndarray, np.ndarray]]
"""Given a formation end and tickers, pairs as positions in the tickers; see `companysim.trading.Partitions`."""


@dataclass(frozen=True)
class Window:
    """One step: pairs are chosen on the days from `formation_start` to `formation_end`, both included.

    Trading runs from the day after to `trading_end`.

    Raises
    ------
    ConfigError
        If the dates do not ascend.
    """

    formation_start: pd.Timestamp
    formation_end: pd.Timestamp
    trading_end: pd.Timestamp

    def __post_init__(self) -> None:
        if not self.formation_start < self.formation_end < self.trading_end:
            raise ConfigError(
                f"formation {self.formation_start:%Y-%m-%d} to {self.formation_end:%Y-%m-%d}, trading to "
                f"{self.trading_end:%Y-%m-%d}: the three dates must ascend"
            )


def rolling_windows(first: Window, months: int | None) -> tuple[Window, ...]:
    """Windows that roll from the first one to its `trading_end`.

    Parameters
    ----------
    first : Window
        Its formation window, and the end of all trading.
    months : int, optional
        Length of each trading window and step of the formation window, whose length stays; None for one window.

    Raises
    ------
    ConfigError
        If `months` is below 1.
    """
    if months is None:
        return (first,)
    if months < 1:
        raise ConfigError(f"roll_months is {months}: it must be at least 1")
    found = []
    for step in range(0, 12 * 300, months):
        # From the first date, not from the last: the 31st would otherwise become the 28th for good.
        formation_end = first.formation_end + pd.DateOffset(months=step)
        if formation_end >= first.trading_end:
            break
        trading_end = min(first.formation_end + pd.DateOffset(months=step + months), first.trading_end)
        found.append(Window(first.formation_start + pd.DateOffset(months=step), formation_end, trading_end))
    return tuple(found)


@dataclass(frozen=True)
class Protocol:
    """Windows, selection and trading of a walk-forward backtest.

    Attributes
    ----------
    windows : tuple of Window
        In order; their trading days may not overlap. See `rolling_windows`.
    p_value : float
        Largest cointegration p-value of a traded pair.
    max_pairs : int
        At most so many pairs a window, smallest p-values first.
    fdr : float
        Share of false discoveries at which the count beside the raw one is taken (Benjamini and Yekutieli).
    rules, costs, limits : Rules, Costs, Limits
    capital : float
        The account, in the currency of the trades. Profits do not change it.
    leverage : float
        Gross value of a full book at entry over the capital. Each position gets an equal part: of `limits.max_open`
        places where it is set, of the window's pairs otherwise.

    Raises
    ------
    ConfigError
        If there is no window, trading windows overlap, or capital or leverage is not positive.
    """

    windows: tuple[Window, ...]
    p_value: float = 0.01
    max_pairs: int = 50
    fdr: float = 0.05
    rules: Rules = field(default_factory=Rules)
    costs: Costs = field(default_factory=Costs)
    limits: Limits = field(default_factory=Limits)
    capital: float = 1e6
    leverage: float = 1.0

    def __post_init__(self) -> None:
        if not self.windows:
            raise ConfigError("a walk-forward protocol needs at least one window")
        for one, two in zip(self.windows, self.windows[1:], strict=False):
            if one.trading_end > two.formation_end:
                raise ConfigError(
                    f"trading to {one.trading_end:%Y-%m-%d} overlaps with trading after {two.formation_end:%Y-%m-%d}: "
                    "let each trading window end by the next formation end"
                )
        if not (0 < self.capital < np.inf and 0 < self.leverage < np.inf):
            raise ConfigError(f"capital {self.capital:g} and leverage {self.leverage:g} must be positive")

    def size(self, pairs: int) -> float:
        """Gross value of a position at entry where so many pairs are chosen."""
        return self.capital * self.leverage / (self.limits.max_open or max(1, pairs))


@dataclass(frozen=True)
class Backtest:
    """Result of one grouping.

    Attributes
    ----------
    windows : DataFrame
        formation_start, formation_end, trading_end; candidates (pairs tested), passed (of these, pairs under the
        p-value; by chance alone about ``candidates * p_value``), discoveries (of those that passed, pairs left at the
        protocol's share of false discoveries among all tested), pairs (traded).
    pairs : DataFrame
        Traded pairs: ticker_1, ticker_2, hedge_ratio, adf_t, p_value, lags, half_life, formation_start, formation_end.
    trades : DataFrame
        ticker_1, ticker_2, side, entry, exit, value_1, value_2, z_entry, pnl_gross, cost, carry, pnl_net, reason.
    daily : DataFrame
        By date and over the capital: return_gross, return_net (profit of the pairs beyond cash), interest (of the
        capital itself), long, short (values held at the close), traded (value of the fills), market (the equally
        weighted return of all lines).
    capital : float
        The account.
    """

    windows: pd.DataFrame
    pairs: pd.DataFrame
    trades: pd.DataFrame
    daily: pd.DataFrame
    capital: float

    @property
    def counts(self) -> tuple[int, ...]:
        """Candidate pairs of each window."""
        return tuple(int(count) for count in self.windows["candidates"])

    def equity(self) -> pd.Series:
        """Value of the account at each close: capital, profits and interest added up."""
        return self.capital * (1 + (self.daily["return_net"] + self.daily["interest"]).cumsum())

    def summary(self) -> dict[str, float | int]:
        """Headline figures; see `companysim.trading.performance` for their definitions."""
        daily, trades = self.daily, self.trades
        gross, net = daily["return_gross"].to_numpy(), daily["return_net"].to_numpy()
        value = (trades["value_1"].abs() + trades["value_2"].abs()).to_numpy()
        held = (trades["exit"] - trades["entry"]).dt.days
        traded = len(trades)
        return {
            **{name: int(self.windows[name].sum()) for name in ("candidates", "passed", "discoveries", "pairs")},
            "trades": traded,
            "sharpe_gross": float(sharpe(gross)),
            "sharpe_net": float(sharpe(net)),
            "return_net_annual": float(net.mean() * TRADING_DAYS),
            "max_drawdown": max_drawdown(net),
            "hit_rate": hit_rate(trades["pnl_net"].to_numpy()),
            "profit_per_trade_bp": float(trades["pnl_net"].sum() / value.sum() * 1e4) if traded else float("nan"),
            "days_held": float(held.mean()) if traded else float("nan"),
            "turnover": turnover(daily["traded"].to_numpy()),
            "exposure": exposure(daily["long"].to_numpy(), daily["short"].to_numpy()),
            "market_correlation": correlation(net, daily["market"].to_numpy()),
        }

    def yearly(self) -> pd.DataFrame:
        """One row a calendar year: year, return_gross, return_net, sharpe_net, max_drawdown, trades (closed)."""
        closed = pd.DatetimeIndex(self.trades["exit"]).year.value_counts()
        rows = []
        for year, days in self.daily.groupby(pd.DatetimeIndex(self.daily.index).year):
            net = days["return_net"].to_numpy()
            rows.append(
                {
                    "year": year,
                    "return_gross": days["return_gross"].sum(),
                    "return_net": net.sum(),
                    "sharpe_net": float(sharpe(net)),
                    "max_drawdown": max_drawdown(net),
                    "trades": int(closed.get(year, 0)),
                }
            )
        return pd.DataFrame(rows)


def walk_forward(prices: pd.DataFrame, candidates: Candidates, protocol: Protocol) -> Backtest:
    """Backtest the pairs that a grouping names.

    Parameters
    ----------
    prices : DataFrame, shape (days, companies)
        Columns are tickers; their order changes nothing. Days on which fewer than half of the live lines have a price
        are left out; see `companysim.trading.sessions`.
    candidates : callable
        Asked at each formation end, with that day and the tickers; must answer with what was readable by then, as
        `companysim.trading.Partitions` does.

    Raises
    ------
    DataError
        If a window is too short, a price is not positive, or no grouping was readable at a formation end. A last window
        that is too short to trade in is left out if there is another.
    """
    prices = ordered(prices)
    windows, pairs, trades, daily = [], [], [], []
    for window in tradable_windows(prices, protocol.windows):
        tested = screen(formation_prices(prices, window), *candidates(window.formation_end, prices.columns))
        chosen = select(tested, protocol.p_value, protocol.max_pairs)
        book = trade(prices, window, chosen, protocol, size=protocol.size(len(chosen)))
        dates = {"formation_start": window.formation_start, "formation_end": window.formation_end}
        passed = (tested["p_value"] < protocol.p_value).to_numpy()
        found = passed & (discoveries(tested["p_value"]).adjusted_by <= protocol.fdr)
        counts = {"candidates": len(tested), "passed": int(passed.sum()), "discoveries": int(found.sum())}
        counts["pairs"] = len(chosen)
        windows.append({**dates, "trading_end": window.trading_end, **counts})
        named = _named(prices, chosen)
        pairs.append(pd.concat([named, chosen[PAIR_COLUMNS]], axis=1).assign(**dates))
        legs = named.iloc[book.trades["pair"].to_numpy(dtype=int)].reset_index(drop=True)
        trades.append(pd.concat([legs, book.trades.drop(columns="pair")], axis=1))
        daily.append(_daily(book, protocol.capital))
    days = pd.concat(daily)
    # Nights are counted from the last close before trading, so that a weekend's interest is not lost.
    before = prices.index[prices.index <= protocol.windows[0].formation_end][-1:]
    nights = np.diff(before.append(days.index).to_numpy()) / np.timedelta64(1, "D")
    days.insert(2, "interest", protocol.costs.interest(nights))
    days["market"] = market_returns(prices).reindex(days.index)
    return Backtest(
        windows=pd.DataFrame(windows),
        pairs=pd.concat(pairs, ignore_index=True),
        trades=pd.concat(trades, ignore_index=True),
        daily=days,
        capital=protocol.capital,
    )


def ordered(prices: pd.DataFrame) -> pd.DataFrame:
    """Prices of the days of the market, with dates that ascend and columns in the order of the tickers, each once."""
    if not (prices.index.is_monotonic_increasing and prices.index.is_unique):
        raise DataError("the dates of the prices do not ascend: sort them and drop those that come twice")
    if not prices.columns.is_unique:
        twice = prices.columns[prices.columns.duplicated()][0]
        raise DataError(f"{twice} has more than one column of prices: keep one")
    return market_days(prices.sort_index(axis=1))


def tradable_windows(prices: pd.DataFrame, windows: tuple[Window, ...]) -> tuple[Window, ...]:
    """Windows without the last one where the prices leave it too few days to trade and there is another."""
    too_short = len(trading_days(prices, windows[-1])) < MIN_TRADING
    return windows[:-1] if too_short and len(windows) > 1 else windows


def trading_days(prices: pd.DataFrame, window: Window) -> pd.Index:
    """Days after formation up to the end of trading."""
    days: pd.Index = prices.index[(prices.index > window.formation_end) & (prices.index <= window.trading_end)]
    return days


def formation_prices(prices: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Prices of the formation window: the only ones that selection may see."""
    found = prices.loc[window.formation_start : window.formation_end]
    if len(found) < MIN_FORMATION:
        raise DataError(
            f"the formation window {window.formation_start:%Y-%m-%d} to {window.formation_end:%Y-%m-%d} has only "
            f"{counted(len(found), 'day', 'days')} of prices: at least {MIN_FORMATION} are needed"
        )
    check_prices(found)
    return found


def screen(formation: pd.DataFrame, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    """Cointegration tests of the pairs whose legs have every price of the formation window.

    One row a test made; the index is the place of its pair among those given.
    """
    full = complete(formation)
    usable = np.flatnonzero(full[first] & full[second])
    tested = engle_granger(np.log(formation.to_numpy(dtype=float)), first[usable], second[usable]).set_axis(usable)
    return tested[tested["status"] == "ok"]


def complete(formation: pd.DataFrame) -> np.ndarray:
    """Whether each company has every price of the formation window, shape (companies,)."""
    found: np.ndarray = formation.notna().all().to_numpy()
    return found


def select(tested: pd.DataFrame, p_value: float, max_pairs: int) -> pd.DataFrame:
    """Pairs with a positive hedge ratio and a small p-value, the smallest first."""
    good = tested[(tested["p_value"] < p_value) & (tested["hedge_ratio"] > 0)]
    return good.sort_values(["p_value", "adf_t", "first", "second"]).head(max_pairs).reset_index(drop=True)


def trade(
    prices: pd.DataFrame,
    window: Window,
    pairs: pd.DataFrame,
    protocol: Protocol,
    *,
    size: float = 1.0,
    accounts: np.ndarray | None = None,
) -> Book:
    """Simulate pairs over the trading days of a window; the formation days only feed rolling z-scores."""
    known, days = prices.loc[window.formation_start : window.trading_end], trading_days(prices, window)
    if len(days) < MIN_TRADING:
        raise DataError(
            f"{counted(len(days), 'day', 'days')} of prices after {window.formation_end:%Y-%m-%d} up to "
            f"{window.trading_end:%Y-%m-%d}: there is nothing to trade on, at least {MIN_TRADING} are needed"
        )
    rules, costs, limits = protocol.rules, protocol.costs, protocol.limits
    return simulate(known, pairs, rules, costs, limits, size=size, start=days[0], accounts=accounts)


def _named(prices: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    tickers = pd.array(prices.columns.to_numpy(), dtype="str")  # a type that an empty table has, too
    return pd.DataFrame({f"ticker_{i}": tickers[pairs[leg].to_numpy()] for i, leg in ((1, "first"), (2, "second"))})


def _daily(book: Book, capital: float) -> pd.DataFrame:
    columns = {
        "return_gross": book.gross.sum(axis=1),
        "return_net": book.net.sum(axis=1),
        "long": book.long,
        "short": book.short,
        "traded": book.traded,
    }
    return pd.DataFrame(columns, index=book.dates) / capital
