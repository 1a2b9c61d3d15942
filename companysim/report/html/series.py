"""The curves of the report: frontier, thresholds, equity and drawdown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from companysim.clustering import SpanningTree, correlation_curve
from companysim.matrices import load_arrays
from companysim.report.html.material import Material
from companysim.trading.performance import drawdown

FIGURES = ("mean_correlation", "pair_weighted", "coverage", "share_of_pairs", "clusters", "largest")


def frontier_series(material: Material) -> dict[str, Any]:
    """Mean correlation of the most similar pairs by share of pairs, one list a grouping, and that of all pairs."""
    frontier = material.run.frontier
    rows = material.run.summary["benchmark"]
    methods = [name for name in frontier.columns if name != "share_of_pairs"]
    return {
        "share": _plain(frontier["share_of_pairs"].to_numpy(dtype=float), 6),
        "lines": {name: _plain(frontier[name].to_numpy(dtype=float), 4) for name in methods},
        "all": next(row["pair_weighted"] for row in rows if row["grouping"] == "all_pairs"),
    }


def theta_series(material: Material) -> dict[str, Any]:
    """Figures of the SAE clusters at every threshold, and the tree they come from.

    The figures of a year are those of `correlation_curve`; shown is their mean over the benchmark's years, as in the
    tables. A browser joins the first k edges to have the clusters of the k-th threshold.

    Returns
    -------
    dict
        ``theta`` (rising), ``edges`` (how many are joined at each), one list for each of `FIGURES`, ``left``, ``right``
        (ends of the edges in rising order of weight) and ``chosen`` (position of the run's own threshold).
    """
    run = material.run
    arrays = load_arrays(run.root / "clustering" / "sae_tree.safetensors")
    tree = SpanningTree(arrays["left"], arrays["right"], arrays["weight"], len(run.companies))
    curves = [correlation_curve(tree, values).to_frame() for values in material.monthly.values()]
    mean = pd.concat(curves).groupby(level=0).mean().iloc[1:]
    theta = mean["theta"].to_numpy()
    chosen = int(np.searchsorted(theta, run.summary["clustering"]["sae"]["theta"], side="right")) - 1
    return {
        "theta": _plain(theta, 6),
        "edges": np.searchsorted(tree.weight, theta, side="right").tolist(),
        "left": tree.left.tolist(),
        "right": tree.right.tolist(),
        "chosen": max(chosen, 0),
        **{name: _plain(mean[name].to_numpy(dtype=float), 6) for name in FIGURES},
    }


def equity_series(material: Material) -> dict[str, Any]:
    """Cumulative net and gross return and net drawdown of every book, at the last trading day of each week.

    Sampling keeps the file small; the deepest drawdown of the table is of days and may lie between two weeks.
    """
    equity = material.run.equity
    dates = pd.DatetimeIndex(sorted(equity["date"].unique()))
    weeks = np.asarray(pd.Series(np.arange(len(dates))).groupby(dates.to_period("W")).last(), dtype=int)
    books: dict[str, Any] = {}
    for method, book in equity.groupby("method", sort=False):
        own = book.set_index("date").reindex(dates)[["return_net", "return_gross"]].fillna(0.0)
        net = own["return_net"].to_numpy()
        books[str(method)] = {
            "net": _plain(net.cumsum()[weeks], 5),
            "gross": _plain(own["return_gross"].to_numpy().cumsum()[weeks], 5),
            "drawdown": _plain(-drawdown(net)[weeks], 5),
        }
    return {"date": [f"{date:%Y-%m-%d}" for date in dates[weeks]], "books": books}


def _plain(values: np.ndarray, digits: int) -> list[float | None]:
    """Round, with None for what is not a number, as JSON needs it."""
    return [round(float(value), digits) if np.isfinite(value) else None for value in values]
