"""The fair picture: correlation of the most similar pairs against how many pairs one looks at."""

from __future__ import annotations

from pathlib import Path

from matplotlib.dates import DateFormatter, YearLocator
from matplotlib.figure import Figure

from companysim.report.console import NAMES
from companysim.results import Run
from companysim.workspace import write

# Okabe and Ito's colours, which colour-blind readers tell apart, each with a line style of its own.
STYLES = {
    "sae": ("#D55E00", "-", 2.6),
    "sae_pca": ("#CC79A7", "--", 1.6),
    "residual_mean": ("#E69F00", "--", 1.6),
    "tfidf": ("#0072B2", "-", 1.6),
    "minilm": ("#56B4E9", "-.", 1.6),
    "sic": ("#000000", ":", 1.6),
    "gics": ("#009E73", (0, (5, 1)), 1.6),
}


def draw(run: Run, path: Path) -> None:
    """Draw the run's frontier and equity curves into a PNG, without a display."""
    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=130)
    left, right = figure.subplots(1, 2)
    frontier = run.frontier
    summary = run.summary
    everything = next(row for row in summary["benchmark"] if row["grouping"] == "all_pairs")["pair_weighted"]
    for name, (colour, line, width) in STYLES.items():
        left.plot(100 * frontier["share_of_pairs"], frontier[name], color=colour, ls=line, lw=width, label=NAMES[name])
        book = run.equity[run.equity["method"] == name]
        right.plot(book["date"], 100 * book["return_net"].cumsum(), color=colour, ls=line, lw=width, label=NAMES[name])
    left.axhline(everything, color="grey", lw=0.8)
    left.annotate("all pairs", (30, everything), ha="right", va="bottom", color="grey", fontsize=8)
    years = summary["benchmark_years"]
    left.set(xscale="log", xlabel="share of all pairs looked at, %", ylabel="mean return correlation")
    left.set_title(f"Most similar pairs, monthly returns {min(years)}-{max(years)}", fontsize=10)
    left.xaxis.set_major_formatter("{x:g}")
    left.legend(frameon=False, fontsize=8)
    right.xaxis.set_major_locator(YearLocator())
    right.xaxis.set_major_formatter(DateFormatter("%Y"))
    right.axhline(0, color="grey", lw=0.8)
    right.set(ylabel="cumulative net return, % of capital")
    right.set_title("Walk-forward pairs trading, after costs", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    write(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))
