"""The headline tables: every cell knows where in ``summary.json`` its figure stands."""

from __future__ import annotations

from typing import Any, NamedTuple

from companysim.report.console import NAMES, between, number
from companysim.results import Run


class Cell(NamedTuple):
    """One cell: what is shown, and where its figure stands in the summary, such as ``benchmark.0.pair_weighted``."""

    text: str
    path: str = ""


class Column(NamedTuple):
    """One column: its heading, what it means, the key of its figure, and how the figure is written."""

    heading: str
    meaning: str
    key: str
    style: str = "3"


class Table(NamedTuple):
    """A table ready to be written out."""

    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    note: str = ""


MAIN = (
    Column("MC", "mean over clusters of the mean correlation of their pairs", "mean_correlation"),
    Column("null", "MC of clusters of the same sizes filled at random", "size_matched_null"),
    Column("pair-weighted", "mean correlation of all grouped pairs", "pair_weighted"),
    Column("95 %", "interval of pair-weighted; firms and years resampled", "ci95", "between"),
    Column("coverage", "share of companies in a cluster of two or more", "coverage", "%0"),
    Column("pairs", "share of all pairs that are grouped", "share_of_pairs", "%2"),
)
BACKTEST = (
    Column("tested", "candidate pairs", "candidates", "0"),
    Column("passed", "pairs that passed the cointegration test", "passed", "0"),
    Column("pairs", "pairs traded", "pairs", "0"),
    Column("trades", "trades", "trades", "0"),
    Column("Sharpe gross", "annualised, before costs", "sharpe_gross", "2"),
    Column("Sharpe net", "annualised, after costs", "sharpe_net", "2"),
    Column("95 %", "interval of the net Sharpe ratio; days resampled in blocks", "sharpe_low sharpe_high", "between"),
    Column("return/yr", "net, of capital", "return_net_annual", "%2"),
    Column("drawdown", "deepest fall of the net book", "max_drawdown", "%1"),
    Column("placebo p", "share of books of random pairs at least as good", "placebo_p", "3"),
    Column("deflated", "probability that it is above the best of as many worthless trials", "deflated_sharpe", "2"),
)


def benchmark_cells(run: Run, section: str = "benchmark") -> Table | None:
    """Table of ``benchmark`` or ``benchmark_before`` of the summary; None where the run has no such years."""
    rows, years = run.summary[section], run.summary[f"{section}_years"]
    if not rows:
        return None
    columns = list(MAIN)
    for scheme in rows[0]["matched"]:
        name = scheme.upper()
        columns.append(
            Column(f"at {name}'s pairs", f"mean correlation of as many pairs as {name} groups", f"matched.{scheme}")
        )
        columns.append(Column("95 %", "its interval", f"matched_ci95.{scheme}", "between"))
    columns.append(Column("5 peers", "mean correlation of each company with its five nearest", "peers5"))
    title = f"Do similar companies move together? Monthly returns {min(years)}-{max(years)}"
    note = "" if section == "benchmark" else "The years on which choices of the default were made: not evidence."
    return Table(title, columns, _cells(section, rows, columns), note)


def backtest_cells(run: Run) -> Table:
    """Table of ``backtest`` of the summary."""
    window = run.config.backtest
    title = f"What would trading the pairs have earned? {window.formation_end} to {window.trading_end}, after costs"
    return Table(title, list(BACKTEST), _cells("backtest", run.summary["backtest"], list(BACKTEST)))


def _cells(section: str, rows: list[dict[str, Any]], columns: list[Column]) -> list[list[Cell]]:
    return [
        [
            Cell(NAMES.get(row["grouping"], str(row["grouping"]))),
            *(_cell(f"{section}.{place}", row, column) for column in columns),
        ]
        for place, row in enumerate(rows)
    ]


def _cell(prefix: str, row: dict[str, Any], column: Column) -> Cell:
    """Write the figure of a row; where it has none, a dash."""
    keys = column.key.split()
    values = [_at(row, key) for key in keys]
    path = " ".join(f"{prefix}.{key}" for key in keys)
    if column.style == "between":
        return Cell(between(values if len(values) == 2 else values[0]), path)
    return Cell(_written(values[0], column.style), path)


def _written(value: Any, style: str) -> str:
    if value is None:
        return "-"
    if style.startswith("%"):
        return f"{value:.{style[1:]}%}"
    return f"{value:,}" if style == "0" else number(float(value), int(style))


def _at(row: dict[str, Any], key: str) -> Any:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
