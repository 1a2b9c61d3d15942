"""Equity and drawdown of walk-forward books, one above the other."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg", force=False)
import pandas as pd
from matplotlib.figure import Figure

from companysim.report.console import NAMES
from companysim.report.figure import STYLES
from companysim.trading.performance import drawdown
from companysim.workspace import write


def draw_backtest(equity: pd.DataFrame, path: Path) -> None:
    """Draw net and gross equity, and the net drawdown, into a PNG, without a display.

    Parameters
    ----------
    equity : DataFrame
        Daily rows of one or more methods: date, method, return_gross, return_net, as in `Run.equity`.
    path : path
    """
    figure = Figure(figsize=(9, 6), layout="constrained", dpi=130)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    spare = list(STYLES.values())
    for place, (name, book) in enumerate(equity.groupby("method", sort=False)):
        colour, line, width = STYLES.get(str(name), spare[place % len(spare)])
        net = book["return_net"].to_numpy()
        label = NAMES.get(str(name), str(name))
        upper.plot(book["date"], 100 * net.cumsum(), color=colour, ls=line, lw=width, label=label)
        upper.plot(book["date"], 100 * book["return_gross"].cumsum(), color=colour, lw=0.5, alpha=0.5)
        lower.plot(book["date"], -100 * drawdown(net), color=colour, ls=line, lw=width / 2)
    upper.axhline(0, color="grey", lw=0.8)
    upper.set(ylabel="cumulative return, % of capital")
    upper.set_title("Walk-forward pairs trading: after costs (thin: before)", fontsize=10)
    upper.legend(frameon=False, fontsize=8)
    lower.set(ylabel="drawdown, %")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    write(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))
