"""Several groupings, one protocol: what each earned, how sure that is, and what chance would have given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from companysim.config import BacktestConfig
from companysim.significance import null_p_value
from companysim.trading.bootstrap import bootstrap
from companysim.trading.costs import Costs
from companysim.trading.performance import capacity, deflated_sharpe, probabilistic_sharpe, sharpe, volume_shares
from companysim.trading.random_books import placebo
from companysim.trading.rules import Limits, Rules
from companysim.trading.walk_forward import (
    PROTOCOL,
    Backtest,
    Candidates,
    Protocol,
    Window,
    rolling_windows,
    walk_forward,
)


@dataclass(frozen=True)
class Comparison:
    """Backtests of several groupings.

    Attributes
    ----------
    results : dict of str to Backtest
    figures : DataFrame
        One row a grouping: protocol, grouping, the figures of `Backtest.summary`, sharpe_low and sharpe_high (95 %
        interval of the net ratio, stationary bootstrap), probabilistic_sharpe, deflated_sharpe, trials, capacity,
        placebo_median, placebo_95 (95th percentile), placebo_p.
    placebo : dict of str to ndarray, shape (books,)
        Net Sharpe ratios of each grouping's random books; NaN where a book never traded.
    """

    results: dict[str, Backtest]
    figures: pd.DataFrame
    placebo: dict[str, np.ndarray]

    def table(self, name: str) -> pd.DataFrame:
        """Tables of all groupings, one below the other, with the column `method`.

        Parameters
        ----------
        name : str
            ``windows``, ``pairs``, ``trades``, ``yearly`` or ``equity`` (the daily table, with date and protocol).
        """
        parts = []
        for method, result in self.results.items():
            if name == "equity":
                part = result.daily.rename_axis("date").reset_index().assign(method=method, protocol=PROTOCOL)
            elif name == "yearly":
                part = result.yearly().assign(method=method)
            else:
                part = getattr(result, name).assign(method=method)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)


def protocol_of(settings: BacktestConfig) -> Protocol:
    """Protocol that a configuration describes."""
    days = (settings.formation_start, settings.formation_end, settings.trading_end)
    first = Window(*(pd.Timestamp(day) for day in days))
    return Protocol(
        windows=rolling_windows(first, settings.roll_months),
        rules=Rules(**_of(Rules, settings)),
        costs=Costs(**_of(Costs, settings)),
        limits=Limits(**_of(Limits, settings)),
        **{name: getattr(settings, name) for name in ("p_value", "max_pairs", "fdr", "capital", "leverage")},
    )


def compare(
    prices: pd.DataFrame,
    groupings: Mapping[str, Candidates],
    settings: BacktestConfig,
    *,
    seed: int,
    volume: pd.DataFrame | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Backtest every grouping under the protocol of `settings`, and random books beside each.

    Parameters
    ----------
    prices : DataFrame, shape (days, companies)
    groupings : mapping of str to callable
        See `walk_forward`.
    settings : BacktestConfig
    volume : DataFrame, shape (days, companies), optional
        Dollars traded, from which the capacity is read.
    advance : callable
        Told about progress.

    Raises
    ------
    DataError, ConfigError
        See `walk_forward` and `Protocol`.
    """
    protocol, steps = protocol_of(settings), len(groupings) + 1
    results: dict[str, Backtest] = {}
    for name, candidates in groupings.items():
        results[name] = walk_forward(prices, candidates, protocol)
        advance(len(results), steps)
    chance = placebo(
        prices,
        [result.counts for result in results.values()],
        protocol,
        pool=settings.placebo_pairs,
        books=settings.placebo_books,
        seed=seed,
    )
    advance(steps, steps)
    nets = {name: result.daily["return_net"].to_numpy() for name, result in results.items()}
    ratios = np.array([float(sharpe(net)) for net in nets.values()])
    ratios = ratios[np.isfinite(ratios)]
    trials = max(settings.trials or 0, len(groupings))
    variance = float(ratios.var(ddof=1)) if len(ratios) > 1 else None
    rows = []
    for name, result in results.items():
        net, figures, books = nets[name], result.summary(), chance[result.counts]
        resampled = bootstrap(net, lambda draws: sharpe(draws, axis=1), settings.bootstrap_draws, seed)
        room = np.nan if volume is None else capacity(volume_shares(result.trades, volume), result.capital)
        low, high = _quantiles(resampled, (0.025, 0.975))
        median, top = _quantiles(books, (0.5, 0.95))
        rows.append(
            {
                "protocol": PROTOCOL,
                "grouping": name,
                **figures,
                "sharpe_low": low,
                "sharpe_high": high,
                "probabilistic_sharpe": probabilistic_sharpe(net),
                "deflated_sharpe": deflated_sharpe(net, trials, variance),
                "trials": trials,
                "capacity": room,
                "placebo_median": median,
                "placebo_95": top,
                "placebo_p": null_p_value(float(figures["sharpe_net"]), books),
            }
        )
    return Comparison(results, pd.DataFrame(rows), {name: chance[result.counts] for name, result in results.items()})


def _quantiles(values: np.ndarray, levels: tuple[float, float]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, levels)
    return float(low), float(high)


def _of(kind: type, settings: BacktestConfig) -> dict[str, Any]:
    """Take from the settings what are fields of a dataclass."""
    return {field.name: getattr(settings, field.name) for field in fields(kind)}
