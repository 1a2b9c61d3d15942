"""`companysim data`: fetch filings, prices, codes and factors, and check tables, before a run reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from companysim.cli_data_check import check
from companysim.cli_data_classifications import classifications
from companysim.cli_data_factors import factors
from companysim.cli_data_prices import prices
from companysim.cli_resumable import resumable
from companysim.errors import DataError, counted

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Fetch filings, prices, codes and factors, and check tables."""


@app.command("filings")
@resumable
def filings_command(
    tickers: Annotated[
        str | None, typer.Option(help="Such as AAPL,MSFT; a company of the past with its CIK, LEH=806085.")
    ] = None,
    tickers_file: Annotated[
        Path | None, typer.Option(help="Text with a ticker a line; or CSV: ticker and, where known, cik.")
    ] = None,
    years: Annotated[str | None, typer.Option(help="Fiscal years, such as 2015-2020.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to; a stopped download goes on there.")] = Path("mine"),
    from_folder: Annotated[
        Path | None, typer.Option(help="Read a folder of annual reports instead of downloading any.")
    ] = None,
    amendments: Annotated[bool, typer.Option("--amendments", help="Keep amendments (10-K/A) too.")] = False,
    identity: Annotated[
        str | None,
        typer.Option(help="Your name and e-mail address, which the SEC wants; EDGAR_IDENTITY of the environment."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 if a filing failed.")] = False,
) -> None:
    """Fetch annual reports from EDGAR and take their business descriptions.

    10-K, 10-K405, 10-KSB and 20-F, one a company and fiscal year. Writes `filings.parquet` and `companies.csv`, which
    `companysim run` reads, and `report.csv`, which says of every filing what became of it and why.
    """
    from companysim.report.console import ConsoleReporter
    from companysim.universe import COMPANIES, FILINGS, check_table
    from companysim.universe.sources.edgar import Edgar, edgar_client
    from companysim.universe.sources.edgar_download import FAILED, KEPT, download_filings
    from companysim.universe.sources.raw_filings import read_raw_filings
    from companysim.universe.sources.tickers import parse_years, read_tickers
    from companysim.workspace import write_csv, write_parquet

    only = None
    with ConsoleReporter(Console(stderr=True)) as reporter:
        if from_folder is None:
            if years is None:
                raise DataError("give --years, such as --years 2015-2020")
            wanted, fiscal_years = read_tickers(tickers, tickers_file), parse_years(years)
            reporter.start("download", "fetching annual reports from EDGAR")
            with edgar_client(identity) as client:
                index = download_filings(
                    Edgar(client), wanted, fiscal_years, out, amendments=amendments, report=reporter.advance
                )
            only = set(index.loc[index["status"] == KEPT, "filing_id"])
        elif tickers or tickers_file or years:
            raise DataError("--from-folder takes what the folder holds: leave out --tickers and --years")
        reporter.start("extraction", "taking business descriptions")
        found = read_raw_filings(from_folder or out, out, only=only, report=reporter.advance)
    write_csv(out / "report.csv", found.report)
    described = len(found.filings) + len(found.texts)
    failed = found.report[found.report["status"] == FAILED]
    if not described:
        first = (failed if len(failed) else found.report).iloc[0]  # none fails where index.csv leaves out all
        reason = first.reason or f"index.csv says of {first.filing_id or first.ticker} that it is {first.status}"
        raise DataError(f"no business description was found; the first reason is: {reason}")
    if len(found.texts):
        write_parquet(out / "texts.parquet", found.texts)
        some = counted(len(found.texts), "description", "descriptions")
        typer.echo(f"{some} without company, day or year: {out / 'texts.parquet'}")
    if len(found.filings):
        check_table(found.filings, FILINGS, str(out / "filings.parquet"))
        check_table(found.companies, COMPANIES, str(out / "companies.csv"))
        write_parquet(out / "filings.parquet", found.filings)
        write_csv(out / "companies.csv", found.companies)
        first, last = found.filings["fiscal_year"].min(), found.filings["fiscal_year"].max()
        filings = counted(len(found.filings), "filing", "filings")
        companies = counted(found.filings["cik"].nunique(), "company", "companies")
        typer.echo(
            f"{filings} of {companies}, fiscal years {first} to {last}: "
            f"{out / 'filings.parquet'}, {out / 'companies.csv'}"
        )
    if len(failed):
        row = failed.iloc[0]
        typer.echo(
            f"{len(failed)} failed, see {out / 'report.csv'}; the first is {row.filing_id or row.ticker}: {row.reason}",
            err=True,
        )
        raise typer.Exit(1 if strict else 0)


app.command("prices")(resumable(prices))
app.command("classifications")(classifications)
app.command("factors")(factors)
app.command("check")(check)
