"""How well labels predict where latents fire, against the share of clusters in which the latents matter."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companysim.workspace import write

EDGES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 1.0)


def by_spread(table: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean balanced accuracy of latents by the share of clusters in which they are strong.

    Parameters
    ----------
    table : DataFrame
        spread (share of clusters) and balanced_accuracy, one row a latent; NaN where a latent has no score.
    draws, seed : int
        Of the bootstrap over latents behind the intervals.

    Returns
    -------
    DataFrame
        share (``0`` or an interval open below), latents, balanced_accuracy, low, high (95 %); classes without a scored
        latent are left out.
    """
    known = table.dropna(subset="balanced_accuracy")
    rng = np.random.default_rng(seed)
    rows = []
    for low, high in ((-1.0, 0.0), *pairwise(EDGES)):
        own = (
            known.loc[(known["spread"] > low) & (known["spread"] <= high), "balanced_accuracy"].sort_values().to_numpy()
        )
        if len(own):
            means = own[rng.integers(0, len(own), (draws, len(own)))].mean(axis=1)
            name = "0" if high == 0 else f"{low:.0%} to {high:.0%}"
            rows.append((name, len(own), own.mean(), *np.quantile(means, [0.025, 0.975])))
    return pd.DataFrame(rows, columns=["share", "latents", "balanced_accuracy", "low", "high"])


def draw_labels(tables: dict[str, pd.DataFrame], path: Path) -> None:
    """Draw the latents of one or more runs, and the means of `by_spread`, into a PNG, without a display.

    Parameters
    ----------
    tables : dict of str to DataFrame
        By the name shown; columns as in `by_spread`.
    path : path
    """
    figure = Figure(figsize=(5.5 * len(tables), 4.2), layout="constrained", dpi=130)
    panels = np.atleast_1d(figure.subplots(1, len(tables), sharey=True))
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        known = table.dropna(subset="balanced_accuracy")
        axes.plot(100 * known["spread"], known["balanced_accuracy"], ".", color="#0072B2", ms=3, alpha=0.3)
        means = by_spread(table)
        middle = {f"{low:.0%} to {high:.0%}": 50 * (low + high) for low, high in pairwise(EDGES)}
        place = [middle.get(share, 0.0) for share in means["share"]]
        error = [means["balanced_accuracy"] - means["low"], means["high"] - means["balanced_accuracy"]]
        axes.errorbar(place, means["balanced_accuracy"], error, color="#D55E00", marker="o", lw=1.6, capsize=3)
        axes.axhline(0.5, color="grey", lw=0.8)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks([0, 1, 3, 10, 30, 100], minor=False)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="share of clusters in which the latent is strong, %", xlim=(-0.2, 110), ylim=(0.2, 1.02))
        axes.set_title(name, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("balanced accuracy of the label")
    write(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))
