"""Pairs, cointegration and backtests."""

from companysim.significance import null_p_value as placebo_p
from companysim.trading.candidates import cluster_pairs, nearest_pairs, placebo_pairs
from companysim.trading.cointegration import adf, engle_granger
from companysim.trading.comparison import Comparison, compare, protocol_of
from companysim.trading.costs import Costs
from companysim.trading.multiple_testing import discoveries
from companysim.trading.partitions import Partitions
from companysim.trading.performance import deflated_sharpe, max_drawdown, probabilistic_sharpe, sharpe
from companysim.trading.random_books import placebo
from companysim.trading.rules import Limits, Rules
from companysim.trading.simulator import Book, simulate
from companysim.trading.walk_forward import Backtest, Protocol, Window, rolling_windows, walk_forward

__all__ = [
    "Backtest",
    "Book",
    "Comparison",
    "Costs",
    "Limits",
    "Partitions",
    "Protocol",
    "Rules",
    "Window",
    "adf",
    "cluster_pairs",
    "compare",
    "deflated_sharpe",
    "discoveries",
    "engle_granger",
    "max_drawdown",
    "nearest_pairs",
    "placebo",
    "placebo_p",
    "placebo_pairs",
    "probabilistic_sharpe",
    "protocol_of",
    "rolling_windows",
    "sharpe",
    "simulate",
    "walk_forward",
]
