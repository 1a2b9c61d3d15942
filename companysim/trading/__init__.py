"""Pairs, cointegration and backtests."""

from companysim.trading.cointegration import adf, engle_granger
from companysim.trading.performance import max_drawdown, sharpe
from companysim.trading.simulator import Book, Rules, simulate
from companysim.trading.walk_forward import Backtest, Protocol, candidate_pairs, placebo, walk_forward

__all__ = [
    "Backtest",
    "Book",
    "Protocol",
    "Rules",
    "adf",
    "candidate_pairs",
    "engle_granger",
    "max_drawdown",
    "placebo",
    "sharpe",
    "simulate",
    "walk_forward",
]
