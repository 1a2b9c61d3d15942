"""Pictures of a comparison: interactive ones by plotly, and the same as PNG by matplotlib, which needs no browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companysim.benchmark import Comparison
from companysim.benchmark.comparison import EVERYBODY
from companysim.clustering import CorrelationCurve
from companysim.report.console import NAMES
from companysim.workspace import write, write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-."))


class Line(NamedTuple):
    """One line of a chart; of the panel below if `lower`."""

    name: str
    x: np.ndarray
    y: np.ndarray
    lower: bool = False


class Chart(NamedTuple):
    """A chart both libraries can draw: one panel, or two that share x."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    y_below: str = ""
    logarithmic: bool = False
    level: float | None = None

    def plotly(self) -> go.Figure:
        """Draw with plotly."""
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

        rows = 2 if self.y_below else 1
        heights = [0.7, 0.3][:rows] if rows == 2 else None
        figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=heights)
        for line in self.lines:
            colour, dash = self._style(line.name)
            figure.add_trace(
                go.Scatter(
                    x=line.x,
                    y=line.y,
                    name=line.name,
                    legendgroup=line.name,
                    showlegend=not line.lower,
                    mode="lines",
                    line={"color": colour, "dash": dash[0]},
                ),
                row=2 if line.lower else 1,
                col=1,
            )
        if self.level is not None:
            grey = {"color": "grey", "width": 1}
            figure.add_hline(y=self.level, line=grey, annotation_text="all pairs", row=1, col=1)
        figure.update_layout(title=self.title, template="plotly_white", hovermode="x unified")
        figure.update_xaxes(type="log" if self.logarithmic else "linear")
        figure.update_xaxes(title_text=self.x, row=rows, col=1)
        figure.update_yaxes(title_text=self.y, row=1, col=1)
        if self.y_below:
            figure.update_yaxes(title_text=self.y_below, row=2, col=1)
        return figure

    def png(self, path: Path) -> None:
        """Draw with matplotlib into a PNG file, the same bytes for the same figures."""
        figure = Figure(figsize=(8, 6 if self.y_below else 4.5), layout="constrained", dpi=130)
        panels = figure.subplots(2, 1, sharex=True, height_ratios=(7, 3)) if self.y_below else [figure.subplots()]
        for line in self.lines:
            colour, dash = self._style(line.name)
            label = None if line.lower else line.name
            panels[1 if line.lower else 0].plot(line.x, line.y, color=colour, ls=dash[1], lw=1.6, label=label)
        if self.level is not None:
            panels[0].axhline(self.level, color="grey", lw=0.8)
        if self.logarithmic:
            panels[0].set_xscale("log")
            panels[-1].xaxis.set_major_formatter("{x:g}")
        panels[0].set(ylabel=self.y)
        panels[0].set_title(self.title, fontsize=10)
        panels[-1].set(xlabel=self.x)
        if self.y_below:
            panels[1].set(ylabel=self.y_below)
        if self.lines:
            panels[0].legend(frameon=False, fontsize=8)
        for panel in panels:
            panel.spines[["top", "right"]].set_visible(False)
        write(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))

    def save(self, folder: Path, name: str) -> None:
        """Write ``name.html`` (self-contained) and ``name.png``."""
        html = self.plotly().to_html(include_plotlyjs=True, full_html=True, div_id=name)
        write_text(folder / f"{name}.html", html)
        self.png(folder / f"{name}.png")

    def _style(self, name: str) -> tuple[str, tuple[str, str]]:
        place = list(dict.fromkeys(line.name for line in self.lines)).index(name)
        return COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]


def frontier_chart(frontier: pd.DataFrame, level: float | None = None, title: str = "") -> Chart:
    """Mean correlation of the most similar pairs against their share, every method on one axis: the fair picture.

    Parameters
    ----------
    frontier : DataFrame
        share_of_pairs and one column a grouping.
    level : float, optional
        Mean correlation of all pairs, drawn as a line.
    """
    x = 100 * frontier["share_of_pairs"].to_numpy(dtype=float)
    names = [str(name) for name in frontier.columns if name != "share_of_pairs"]
    lines = [Line(NAMES.get(name, name), x, frontier[name].to_numpy(dtype=float)) for name in names]
    heading = title or "Most similar pairs"
    return Chart(heading, "share of all pairs looked at, %", "mean return correlation", lines, "", True, level)


def theta_chart(curves: Mapping[str, CorrelationCurve], title: str = "") -> Chart:
    """MC at every theta, with the coverage below: an MC without its coverage says nothing."""
    lines = []
    for name, curve in curves.items():
        seen = np.isfinite(curve.theta)
        x = np.repeat(curve.theta[seen], 2)[1:]  # steps: a figure holds until the next merge
        for values, lower in ((curve.mean_correlation, False), (100 * curve.coverage, True)):
            lines.append(Line(NAMES.get(name, name), x, np.repeat(values[seen], 2)[:-1], lower))
    heading = title or "Clusters at every theta"
    return Chart(heading, "theta (edges heavier than it are removed)", "MC", lines, "companies in a cluster, %")


def years_chart(comparison: Comparison, figure: str = "at_sic4_pairs", title: str = "") -> Chart:
    """One figure of every grouping, year by year."""
    chosen = comparison.yearly[comparison.yearly["figure"] == figure]
    lines = []
    for name in chosen["grouping"].unique():
        own = chosen[chosen["grouping"] == name].sort_values("year")
        lines.append(Line(NAMES.get(str(name), str(name)), own["year"].to_numpy(), own["value"].to_numpy(dtype=float)))
    level = comparison.value(EVERYBODY, "pair_weighted")
    heading = title or f"{figure.replace('_', ' ')}, year by year"
    return Chart(heading, "year", "mean return correlation", lines, level=level if np.isfinite(level) else None)
