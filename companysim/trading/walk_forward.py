"""The walk-forward protocol: choose pairs on the formation window, trade them on what follows.

Hedge ratios, intercepts and z-score scales come from the formation window and stay frozen. The placebo repeats the
whole procedure, screen included, on random pairs in the same number, so that "cointegrated" pairs found by chance
alone are what a grouping has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from companysim.errors import DataError
from companysim.trading.cointegration import engle_granger
from companysim.trading.performance import max_drawdown, sharpe
from companysim.trading.simulator import TRADING_DAYS, Book, Rules, check_prices, simulate

PROTOCOL = "walk_forward"


@dataclass(frozen=True)
class Protocol:
    """Windows and selection of a walk-forward backtest.

    Attributes
    ----------
    formation_start, formation_end : Timestamp
        Days the pairs are chosen and measured on, inclusive.
    trading_end : Timestamp
        Trading runs from the day after `formation_end` to this day.
    p_value : float
        Largest cointegration p-value of a traded pair.
    max_pairs : int
        At most so many pairs, smallest p-values first.
    rules : Rules
    """

    formation_start: pd.Timestamp
    formation_end: pd.Timestamp
    trading_end: pd.Timestamp
    p_value: float = 0.01
    max_pairs: int = 50
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class Backtest:
    """Result of one grouping.

    Attributes
    ----------
    candidates : int
        Pairs tested for cointegration.
    passed : int
        Of these, pairs under the p-value (by chance alone about ``candidates * p_value``).
    pairs : DataFrame
        Traded pairs: ticker_1, ticker_2, hedge_ratio, adf_t, p_value, lags, half_life.
    trades : DataFrame
        ticker_1, ticker_2, side, entry, exit, pnl_gross, cost, pnl_net, reason.
    daily : DataFrame
        return_gross, return_net by date: profit over the capital of all traded pairs.
    """

    candidates: int
    passed: int
    pairs: pd.DataFrame
    trades: pd.DataFrame
    daily: pd.DataFrame

    def summary(self) -> dict[str, float | int]:
        """Headline figures."""
        gross, net = self.daily["return_gross"].to_numpy(), self.daily["return_net"].to_numpy()
        traded = len(self.trades)
        return {
            "candidates": self.candidates,
            "passed": self.passed,
            "pairs": len(self.pairs),
            "trades": traded,
            "sharpe_gross": float(sharpe(gross)),
            "sharpe_net": float(sharpe(net)),
            "return_net_annual": float(net.mean() * TRADING_DAYS),
            "max_drawdown": max_drawdown(net),
            "hit_rate": float((self.trades["pnl_net"] > 0).mean()) if traded else float("nan"),
        }


def candidate_pairs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs inside the clusters of a partition; negative labels have no cluster."""
    inside = np.equal.outer(labels, labels) & (labels >= 0)[:, None]
    first, second = np.nonzero(np.triu(inside, 1))
    return first, second


def formation_prices(prices: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Prices of the formation window: the only ones that selection may see."""
    if not prices.index.is_monotonic_increasing:
        raise DataError("the dates of the prices do not ascend: sort them")
    window = prices.loc[protocol.formation_start : protocol.formation_end]
    if len(window) < 60:
        raise DataError(
            f"the formation window {protocol.formation_start:%Y-%m-%d} to {protocol.formation_end:%Y-%m-%d} has only "
            f"{len(window)} days of prices: at least 60 are needed"
        )
    check_prices(window)
    return window


def trading_prices(prices: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Prices of the trading window."""
    after = prices.loc[protocol.formation_end : protocol.trading_end]
    after = after[after.index > protocol.formation_end]
    if len(after) < 2:
        raise DataError(
            f"{len(after)} days of prices after {protocol.formation_end:%Y-%m-%d} up to "
            f"{protocol.trading_end:%Y-%m-%d}: there is nothing to trade on, at least 2 are needed"
        )
    return after


def screen(formation: pd.DataFrame, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    """Cointegration tests of the pairs whose legs have every price of the formation window."""
    complete = formation.notna().all().to_numpy()
    usable = complete[first] & complete[second]
    return engle_granger(np.log(formation.to_numpy(dtype=float)), first[usable], second[usable])


def select(tested: pd.DataFrame, p_value: float, max_pairs: int) -> pd.DataFrame:
    """Pairs with a positive hedge ratio and a small p-value, the smallest first."""
    good = tested[(tested["p_value"] < p_value) & (tested["hedge_ratio"] > 0)]
    return good.sort_values(["p_value", "adf_t", "first", "second"]).head(max_pairs).reset_index(drop=True)


def walk_forward(prices: pd.DataFrame, labels: np.ndarray, protocol: Protocol) -> Backtest:
    """Backtest the pairs inside the clusters of one partition.

    Parameters
    ----------
    prices : DataFrame, shape (days, companies)
    labels : ndarray of int, shape (companies,)
        Must come from what was readable by `protocol.formation_end`.

    Raises
    ------
    DataError
        If a window is too short, a price is not positive, or there is not one label a company.
    """
    if len(labels) != prices.shape[1]:
        raise DataError(f"{len(labels)} labels for {prices.shape[1]} companies with prices: give one label a column")
    first, second = candidate_pairs(labels)
    tested = screen(formation_prices(prices, protocol), first, second)
    pairs = select(tested, protocol.p_value, protocol.max_pairs)
    trading = trading_prices(prices, protocol)
    return _result(tested, protocol, pairs, simulate(trading, pairs, protocol.rules), trading)


def placebo(
    prices: pd.DataFrame, candidates: list[int], protocol: Protocol, *, pool: int, books: int, seed: int
) -> dict[int, np.ndarray]:
    """Net Sharpe ratios of books formed the same way from random pairs.

    Parameters
    ----------
    candidates : list of int
        Numbers of candidate pairs to match, one for each grouping.
    pool : int
        Random pairs tested once; each book draws its candidates from them without replacement.
    books : int
        Books drawn for each number.

    Returns
    -------
    dict of candidates to ndarray, shape (books,)
        NaN where a book found no pair to trade.
    """
    rng = np.random.default_rng(seed)
    n = prices.shape[1]
    i, j = np.triu_indices(n, 1)
    drawn = np.sort(rng.choice(len(i), size=min(pool, len(i)), replace=False))
    tested = screen(formation_prices(prices, protocol), i[drawn], j[drawn])
    passing = select(tested.assign(row=np.arange(len(tested))), protocol.p_value, len(tested))
    net = simulate(trading_prices(prices, protocol), passing, protocol.rules).net
    place = np.full(len(tested), -1)
    place[passing["row"].to_numpy(dtype=int)] = np.arange(len(passing))  # passing pairs in order of p-value
    result = {}
    for count in sorted(set(candidates)):
        draw = np.random.default_rng([seed, count])  # so that one grouping's placebo does not depend on the others
        values = np.full(books, np.nan)
        for book in range(books):
            members = place[draw.choice(len(tested), size=min(count, len(tested)), replace=False)]
            traded = np.sort(members[members >= 0])[: protocol.max_pairs]
            if len(traded):
                values[book] = sharpe(net[:, traded].mean(axis=1))
        result[count] = values
    return result


def _result(
    tested: pd.DataFrame, protocol: Protocol, pairs: pd.DataFrame, book: Book, trading: pd.DataFrame
) -> Backtest:
    tickers = trading.columns.to_numpy()
    named = pd.DataFrame({"ticker_1": tickers[pairs["first"]], "ticker_2": tickers[pairs["second"]]})
    kept = ["hedge_ratio", "adf_t", "p_value", "lags", "half_life"]
    trades = named.iloc[book.trades["pair"].to_numpy(dtype=int)].reset_index(drop=True)
    capital = max(1, len(pairs))
    return Backtest(
        candidates=len(tested),
        passed=int((tested["p_value"] < protocol.p_value).sum()),
        pairs=pd.concat([named, pairs[kept]], axis=1),
        trades=pd.concat([trades, book.trades.drop(columns="pair")], axis=1),
        daily=pd.DataFrame(
            {"return_gross": book.gross.sum(axis=1) / capital, "return_net": book.net.sum(axis=1) / capital},
            index=trading.index,
        ),
    )
