"""What a person sees in the terminal: progress while a run works, tables with one sentence each when it is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from companysim.errors import counted
from companysim.pipeline import Reporter
from companysim.results import Run

WIDE = 130
"""Columns a terminal needs for the full tables."""
NAMES = {
    "sae": "SAE latents",
    "sae_pca": "SAE, published",
    "sic": "SIC",
    "gics": "GICS",
    "minilm": "MiniLM",
    "tfidf": "TF-IDF",
    "residual_mean": "residual mean",
    "all_pairs": "all pairs",
}


class ConsoleReporter(Reporter):
    """A progress bar per stage on stderr, with counts and time remaining."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<38}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> ConsoleReporter:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def start(self, stage: str, what: str) -> None:
        """Add a bar for the stage."""
        self._task = self._progress.add_task(what, total=1)

    def advance(self, done: int, total: int) -> None:
        """Move the bar."""
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total)

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(Text(message))

    def end(self, stage: str, seconds: float, cached: bool) -> None:
        """Fill the bar."""
        assert self._task is not None
        task = self._progress.tasks[self._task]
        text = f"{task.description} (from disk)" if cached else task.description
        self._progress.update(self._task, description=text, completed=task.total)


def number(value: Any, digits: int = 3) -> str:
    """Write a figure with fixed digits; a missing one is a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ("grouping", "cluster")
) -> Table:
    """Return a plain table: the columns in `left` at the left, the others at the right; nothing in it is markup."""
    result = Table(title=Text(title, "bold"), title_justify="left", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        result.add_column(Text(column), justify="left" if column in left else "right", no_wrap=column not in left)
    for row in rows:
        result.add_row(*map(Text, row))
    return result


def benchmark_table(rows: Sequence[dict[str, Any]], years: Sequence[int], *, wide: bool = True) -> Table:
    """Return the benchmark's entries as a table; without nulls and intervals where the terminal is narrow."""
    schemes = list(rows[0]["matched"])
    columns = ["grouping", "MC", "null", "pair-weighted", "95 %", "coverage", "pairs"]
    columns += [f"at {scheme.upper()}'s pairs" for scheme in schemes] + ["5 peers"]
    body = []
    for row in rows:
        cells = [
            NAMES.get(row["grouping"], row["grouping"]),
            number(row.get("mean_correlation")),
            number(row.get("size_matched_null")),
            number(row["pair_weighted"]),
            between(row.get("ci95")),
            f"{row['coverage']:.0%}",
            f"{row['share_of_pairs']:.2%}",
        ]
        for scheme in schemes:
            value = number(row.get("matched", {}).get(scheme))
            spread = between(row.get("matched_ci95", {}).get(scheme))
            cells.append(f"{value} ({spread})" if wide and spread != "-" else value)
        body.append([*cells, number(row.get("peers5"))])
    title = f"Do similar companies move together? Monthly returns {min(years)}-{max(years)}"
    return table(title, *(columns, body) if wide else without(("null", "95 %", "coverage"), columns, body))


def between(spread: Sequence[float | None] | None) -> str:
    """Write an interval; a missing one is a dash."""
    if spread is None or spread[0] is None:
        return "-"
    return f"{spread[0]:.2f}..{spread[1]:.2f}"


def without(
    left_out: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Leave columns out of a table."""
    kept = [position for position, column in enumerate(columns) if column not in left_out]
    return [columns[position] for position in kept], [[row[position] for position in kept] for row in rows]


def benchmark_sentence(rows: Sequence[dict[str, Any]]) -> str:
    """Say which grouping explains returns best at matched granularity, whoever it is, and how sure that is."""
    meaning = "MC averages over clusters and rewards tiny ones; its null fills clusters of the same sizes at random."
    sae, *others = sorted((row for row in rows if "matched" in row), key=lambda row: row["grouping"] != "sae")
    usable = [scheme for scheme, value in sae["matched"].items() if value is not None]
    if not usable:
        return f"No company has a verified code, so there is no number of pairs to match. {meaning}"
    scheme = usable[0]
    rival = max(others, key=lambda row: row["matched"][scheme] or -1.0)
    lead = sae["matched"][scheme] - rival["matched"][scheme]
    low, high = rival["lead_ci95"][scheme]
    verdict = "leads" if lead > 0 else "trails"
    sure = "a difference beyond chance" if low > 0 or high < 0 else "which may be chance"
    return (
        f"At the same number of pairs as {scheme.upper()} groups, the SAE {verdict} its best rival "
        f"({NAMES[rival['grouping']]}) by {abs(lead):.3f} (95 % interval of SAE less rival {low:+.2f} to {high:+.2f}, "
        f"firms and years resampled): {sure}. {meaning}"
    )


def robust_sentence(robust: dict[str, dict[str, float | None]], components: int) -> str:
    """Say in one sentence whether the matched figure survives a cap on industries and the removal of common factors."""
    removed = counted(components, "principal component", "principal components")
    asked = {
        "capped": "With at most 5 % of these pairs from any one SIC-2 industry",
        "components": f"with {removed} taken out of each year's returns",
    }
    told = []
    for key, condition in asked.items():
        values = {name: value for name, value in robust.get(key, {}).items() if value is not None}
        others = {name: value for name, value in values.items() if name != "sae"}
        if "sae" in values and others:
            rival = max(others, key=lambda name: others[name])
            best = f"its best rival ({NAMES[rival]}) {others[rival]:.3f}"
            told.append(f"{condition} the SAE has {values['sae']:.3f}, {best}")
    return "; ".join(told) + "." if told else ""


def backtest_table(rows: Sequence[dict[str, Any]], start: str, stop: str, *, wide: bool = True) -> Table:
    """Return the backtest's entries as a table; the main columns only where the terminal is narrow."""
    columns = ["grouping", "tested", "passed", "pairs", "trades", "Sharpe gross", "Sharpe net", "95 %", "return/yr"]
    columns += ["drawdown", "placebo p", "deflated"]
    body = [
        [
            NAMES.get(row["grouping"], row["grouping"]),
            *(str(row[key]) for key in ("candidates", "passed", "pairs", "trades")),
            number(row["sharpe_gross"], 2),
            number(row["sharpe_net"], 2),
            between((row["sharpe_low"], row["sharpe_high"])),
            f"{row['return_net_annual']:.2%}",
            f"{row['max_drawdown']:.1%}",
            number(row["placebo_p"], 3),
            number(row["deflated_sharpe"], 2),
        ]
        for row in rows
    ]
    title = f"What would trading the pairs have earned? Walk-forward, {start} to {stop}, after costs"
    narrow = ("tested", "passed", "95 %", "return/yr", "drawdown", "deflated")
    return table(title, *(columns, body) if wide else without(narrow, columns, body))


def backtest_sentence(rows: Sequence[dict[str, Any]]) -> str:
    """Say what the columns mean, how many pairs are no chance finds, and whether any grouping beats its placebo."""
    winners = [named(row) for row in rows if row["placebo_p"] is not None and row["placebo_p"] < 0.05]
    verdict = f"below 0.05 for {', '.join(winners)}" if winners else "below 0.05 for none"
    passed, real = (sum(row[key] for row in rows) for key in ("passed", "discoveries"))
    trials = counted(max((row["trials"] for row in rows), default=0), "worthless trial", "worthless trials")
    return (
        "Pairs are chosen and measured on the formation window alone and filled later than the signal. Of the "
        f"{passed} that passed the test, {real} {'survives' if real == 1 else 'survive'} control of false discoveries. "
        "The placebo repeats the procedure on random pairs; the share of placebo books at least as good (p) is "
        f"{verdict}. 95 %: interval of the net Sharpe ratio, days resampled in blocks. Deflated: probability that it "
        f"is above what the best of {trials} would show."
    )


def named(row: dict[str, Any]) -> str:
    """Name of a row's grouping for people."""
    return NAMES.get(row["grouping"], str(row["grouping"]))


def years_table(years: pd.DataFrame) -> Table:
    """Return the rows of `Comparison.table("yearly")`: net return by year, one column a method."""
    wide = years.pivot(index="year", columns="method", values="return_net")[years["method"].unique()]
    trades = years.groupby("year")["trades"].sum()
    body = [
        [str(year), *(f"{value:.2%}" for value in row), str(trades[year])]
        for year, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    columns = ["year", *(NAMES.get(name, name) for name in wide.columns), "trades"]
    return table("Net return by year", columns, body, left=())


def peers_table(peers: pd.DataFrame, title: str, years: tuple[int, int]) -> Table:
    """Return the rows of `Run.peers` as a table."""
    columns = {"rank": "rank", "ticker": "ticker", "company": "company", "similarity": "similarity"}
    columns |= {"same_sic": "same SIC", "same_gics": "same GICS", "correlation": f"correlation {years[0]}-{years[1]}"}
    columns |= {"why": "what they share (terms of two latents)"}
    shown = [name for name in columns if name in peers]
    body = [[number(value) for value in row] for row in peers[shown].itertuples(index=False)]
    return table(title, [columns[name] for name in shown], body, left=("company", columns["why"]))


def print_run(run: Run, console: Console, took: float) -> None:
    """Print a run's headline tables, what they mean, where everything is, and the seconds it `took`."""

    def say(sentence: str, soft_wrap: bool = False) -> None:
        console.print(Text(sentence), soft_wrap=soft_wrap)

    summary, wide = run.summary, console.width >= WIDE
    universe, encoder = summary["universe"], summary["encoder"]
    dropped = ", ".join(f"{reason} {count}" for reason, count in universe["dropped"].items() if count) or "none"
    start, stop = universe["prices"]
    say(
        f"\n{universe['companies']} companies, prices {start} to {stop} (left out: {dropped}); "
        f"{encoder['tokens']:,} tokens through {encoder['model']} to {encoder['hook']}.\n"
    )
    clusters = run.clusters()
    body = [[str(row.cluster), str(row.size), shorten(str(row.tickers))] for row in clusters.head(8).itertuples()]
    largest = table("The largest SAE clusters", ["cluster", "size", "companies"], body, left=("cluster", "companies"))
    console.print(largest)
    theta = summary["clustering"]["sae"]
    say(
        f"The spanning tree is cut at cosine distance {theta['theta']:.3f} ({theta['theta_z']:+.2f} in z units), where "
        f"the share of grouped pairs is closest to {run.config.clustering.share_of_pairs:.1%}.\n"
    )
    console.print(benchmark_table(summary["benchmark"], summary["benchmark_years"], wide=wide))
    robust = robust_sentence(summary["benchmark_robust"], run.config.benchmark.components)
    say(" ".join(filter(None, (benchmark_sentence(summary["benchmark"]), robust))) + "\n")
    if summary["benchmark_before"]:
        before = benchmark_table(summary["benchmark_before"], summary["benchmark_before_years"], wide=wide)
        console.print(before)
        say("The years before, on which choices such as the SAE's depth were made: not evidence, only comparison.\n")
    window = run.config.backtest
    trading = backtest_table(summary["backtest"], str(window.formation_end), str(window.trading_end), wide=wide)
    console.print(trading)
    say(backtest_sentence(summary["backtest"]) + "\n")
    seconds = summary["timings"]
    spent = ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items())
    for line in (
        f"Results: {run.root}/ (report.html to look at, summary.json, CSV and parquet tables, figure.png).",
        f"This call took {took:.0f} s. Computing all of it took {sum(seconds.values()):.0f} s ({spent}).",
    ):
        say(line, soft_wrap=True)


def shorten(text: str, width: int = 80) -> str:
    """Cut a list of words at `width` characters and say how many were left out."""
    if len(text) <= width:
        return text
    kept = text[:width].rsplit(" ", 1)[0]
    return f"{kept} ... and {len(text.split()) - len(kept.split())} more"
