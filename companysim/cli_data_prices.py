"""`companysim data prices`: daily prices from Yahoo or a file of one's own, with a report on their quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from companysim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from companysim.universe.quality import Quality

SHOWN = 8


def prices(
    tickers: Annotated[str | None, typer.Option(help="Tickers, separated by commas.")] = None,
    tickers_file: Annotated[
        Path | None, typer.Option(help="Text with a ticker a line; or CSV: ticker and, where it differs, symbol.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option(help="Parquet or CSV of your own: date, ticker, adj_close; or a column a ticker.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First day, such as 2002-01-01; all by default.")] = None,
    end: Annotated[str | None, typer.Option(help="Last day; yesterday by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the prices and their cache.")] = Path("mine"),
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 if a ticker failed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of sentences.")] = False,
) -> None:
    """Fetch daily prices through yfinance, or check a table of your own, and write `prices.parquet`.

    Only the days since the last call are fetched; the whole history again where a split or dividend has changed it. A
    stopped call goes on when repeated. `lines.csv` says what became of every ticker and when its prices end,
    `quality.csv` lists gaps, jumps, stale stretches and ended lines. The symbol of a company that changed its ticker
    is given in `--tickers-file`: its prices are then found under the new one and kept under yours.
    """
    from companysim.universe.panels import panel
    from companysim.universe.quality import quality
    from companysim.universe.schemas import PRICES
    from companysim.universe.sources.yahoo import download
    from companysim.universe.tables import read_frame
    from companysim.workspace import hold, write_csv, write_parquet, writing

    if (from_file is None) == (tickers is None and tickers_file is None):
        raise DataError("give the tickers by --tickers or --tickers-file, or a file of prices by --from-file")
    first, last = _day(start, "--start"), _day(end, "--end")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    failed = 0
    lines = None
    with writing(out), hold(out):
        if from_file is not None:
            wide = panel(read_frame(from_file, "date, ticker, adj_close"), PRICES, str(from_file)).loc[first:last]
            found = wide.reset_index().melt("date", var_name="ticker", value_name="adj_close").dropna(ignore_index=True)
            if found.empty:
                raise DataError(f"{from_file}: no price lies between --start and --end")
        else:
            from rich.console import Console

            from companysim.report.console import ConsoleReporter

            symbols = _symbols(tickers, tickers_file)
            with ConsoleReporter(Console(stderr=True)) as reporter:
                reporter.start("prices", "asking Yahoo")
                fetched = download(list(symbols), out, first, last, symbols=symbols, report=reporter.advance)
                reporter.end("prices", 0.0, cached=False)
            found, lines = fetched.prices, fetched.lines
            failed = int((lines["status"] == "failed").sum())
            wide = found.pivot(index="date", columns="ticker", values="adj_close")
            write_csv(out / "lines.csv", lines)
        flagged = quality(wide)
        write_parquet(out / "prices.parquet", found)
        write_csv(out / "quality.csv", flagged.flags)
    if as_json:
        typer.echo(json.dumps(_report(flagged, lines), indent=1))
    else:
        _print(flagged, lines, out)
    if failed:
        raise typer.Exit(1 if strict else 0)


def _print(flagged: Quality, lines: pd.DataFrame | None, out: Path) -> None:
    typer.echo(f"{out / 'prices.parquet'}: {flagged.summary()}")
    for sentence in flagged.flags["sentence"].head(SHOWN):
        typer.echo(f"  {sentence}")
    if len(flagged.flags) > SHOWN:
        typer.echo(f"  ... and {len(flagged.flags) - SHOWN} more in {out / 'quality.csv'}")
    if lines is None:
        return
    for status in ("failed", "kept"):
        some = lines[lines["status"] == status]
        if len(some):
            what = "without a price" if status == "failed" else "as cached, not brought up to date"
            shown = f"{', '.join(some['ticker'].head(SHOWN))}{' ...' if len(some) > SHOWN else ''}"
            typer.echo(f"{len(some)} {what} ({shown}): {some['reason'].iloc[0]}", err=True)


def _report(flagged: Quality, lines: pd.DataFrame | None) -> dict[str, object]:
    tables = {"flags": flagged.flags, "lines": flagged.lines} | ({} if lines is None else {"tickers": lines})
    return {name: json.loads(table.to_json(orient="records", date_format="iso")) for name, table in tables.items()}


def _day(text: str | None, option: str) -> pd.Timestamp | None:
    import pandas as pd

    if text is None:
        return None
    try:
        return pd.to_datetime(text, format="%Y-%m-%d")
    except ValueError as error:
        raise DataError(f"{option} is {text!r}: write 2012-02-28") from error


def _symbols(tickers: str | None, file: Path | None) -> dict[str, str]:
    """Symbol of each ticker, empty where it is the ticker's own."""
    from companysim.universe.sources.tickers import read_tickers
    from companysim.universe.tables import read_frame

    if file is None or file.suffix not in (".csv", ".parquet"):
        return dict.fromkeys(read_tickers(tickers, file), "")
    table = read_frame(file, "ticker and optionally symbol")
    if "ticker" not in table.columns:
        raise DataError(f"{file}: column 'ticker' is missing: name the tickers")
    symbols = table["symbol"].fillna("") if "symbol" in table.columns else [""] * len(table)
    pairs = zip(table["ticker"].astype(str), map(str, symbols), strict=True)
    return {ticker.strip(): symbol.strip() for ticker, symbol in pairs if ticker.strip()}
