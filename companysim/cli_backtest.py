"""`companysim backtest`: walk-forward pairs trading on one's own prices and groupings."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from companysim.errors import DataError
from companysim.report.terminal import terminal

if TYPE_CHECKING:
    from datetime import date

    import pandas as pd
    from rich.console import Console

    from companysim.config import BacktestConfig
    from companysim.trading import Comparison, Partitions

FORMATION_MONTHS = 36
TRADING_MONTHS = 12


def backtest(
    prices: Annotated[
        Path,
        typer.Option(help="Parquet or CSV: date, ticker, adj_close [, dollar_volume]; or dates and a column a ticker."),
    ],
    groups: Annotated[
        Path,
        typer.Option(help="Parquet or CSV: ticker, cluster, date readable (or year: its 31 December) [, method]."),
    ],
    config: Annotated[Path | None, typer.Option(help="YAML with the section backtest; else defaults.")] = None,
    out: Annotated[Path, typer.Option(help="Where tables and plot are written.")] = Path("runs/backtest"),
    seed: Annotated[int, typer.Option(min=0, help="Of the placebo and the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of tables.")] = False,
) -> None:
    """Choose cointegrated pairs inside your groups, trade what follows, and compare with random pairs.

    Unless the configuration says otherwise, pairs are chosen on three years of prices and traded for one, year after
    year. A grouping is used from its date on and never before.
    """
    from rich.console import Console

    from companysim.config import load_backtest
    from companysim.report.backtest_figure import draw_backtest
    from companysim.report.console import ConsoleReporter
    from companysim.trading import compare
    from companysim.trading.inputs import check_tickers, read_groups, read_prices
    from companysim.workspace import write_csv, write_parquet, writing

    table, volume = read_prices(prices)
    groupings = read_groups(groups)
    check_tickers(table, groupings)
    settings = load_backtest(config, lambda: default_dates(table, groupings), TRADING_MONTHS)
    with writing(out):  # before anything is computed
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    with ConsoleReporter(Console(stderr=True)) as reporter:
        reporter.start("backtest", "backtesting pairs")
        found = compare(table, groupings, settings, seed=seed, volume=volume, advance=reporter.advance)
        reporter.end("backtest", 0.0, cached=False)
    if not any(any(result.counts) for result in found.results.values()):
        raise DataError(
            f"no pair of {groups} could be tested in any window: a pair needs two companies in one group, both with a "
            "price on every day of the formation window"
        )
    with writing(out):
        write_csv(out / "backtest.csv", found.figures)
        for name in ("windows", "pairs", "yearly", "trades", "equity"):
            write_csv(out / f"{name}.csv", found.table(name))
        for name in ("trades", "equity"):
            write_parquet(out / f"{name}.parquet", found.table(name))
        draw_backtest(found.table("equity"), out / "backtest.png")
    if as_json:
        typer.echo(json.dumps(_rows(found), indent=1))
    elif as_csv:
        typer.echo(found.figures.to_csv(index=False), nl=False)
    else:
        print_backtest(found, out, settings, terminal())


def default_dates(prices: pd.DataFrame, groupings: dict[str, Partitions]) -> dict[str, date]:
    """Windows that fit the tables: three years of formation, one of trading, to the last price.

    The first formation window ends three years after the first price, or, where a grouping became readable only
    later, on the first day on which all were.

    Raises
    ------
    DataError
        If nothing is left to trade.
    """
    import pandas as pd

    first, last = prices.index[0], prices.index[-1]
    readable = max(partitions.first for partitions in groupings.values())
    formation_end = max(first + pd.DateOffset(months=FORMATION_MONTHS) - pd.Timedelta(days=1), readable)
    if formation_end >= last:
        raise DataError(
            f"prices from {first:%Y-%m-%d} to {last:%Y-%m-%d} and groupings from {readable:%Y-%m-%d} leave no day to "
            "trade after three years of formation: give more prices, or formation and trading dates by --config"
        )
    formation_start = max(first, formation_end - pd.DateOffset(months=FORMATION_MONTHS) + pd.Timedelta(days=1))
    return {
        "formation_start": formation_start.date(),
        "formation_end": formation_end.date(),
        "trading_end": last.date(),
    }


def print_backtest(found: Comparison, out: Path, settings: BacktestConfig, console: Console) -> None:
    """Print the tables of a comparison, what of the settings' years was left out, and where everything is."""
    from companysim.report.console import WIDE, backtest_sentence, backtest_table, years_table

    rows, windows = _rows(found), found.table("windows")
    start, stop = windows["formation_end"].min(), windows["trading_end"].max()
    wide = console.width >= WIDE
    console.print(backtest_table(rows, f"{start:%Y-%m-%d}", f"{stop:%Y-%m-%d}", wide=wide))
    console.print(backtest_sentence(rows) + "\n")
    console.print(years_table(found.table("yearly")))
    if f"{stop:%Y-%m-%d}" < f"{settings.trading_end}":
        left_out = f"\nLeft out: the days after {stop:%Y-%m-%d}, with prices on fewer than two of them to trade on."
        console.print(left_out)
    room = [row for row in rows if row["capacity"] is not None]
    if room:
        said = ", ".join(f"{row['grouping']} {row['capacity']:,.0f}" for row in room)
        sentence = f"\nCapital at which 19 of 20 legs stay within 1 % of a usual day's volume: {said}."
        console.print(sentence)
    written = f"\nTables and plot: {out}/ (trades.csv, equity.csv, backtest.png, ...)."
    console.print(written, soft_wrap=True)


def _rows(found: Comparison) -> list[dict[str, Any]]:
    """Figures as plain values, None where there is none."""
    rows: list[dict[str, Any]] = json.loads(found.figures.to_json(orient="records", double_precision=15))
    return rows
