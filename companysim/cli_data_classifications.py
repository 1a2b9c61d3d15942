"""`companysim data classifications`: every scheme and level of the companies' codes in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def classifications(
    companies: Annotated[Path, typer.Option(help="Parquet or CSV: ticker, cik, company, sic, sic_source, ...")],
    gics: Annotated[
        Path | None, typer.Option(help="Parquet or CSV of your own: ticker, gics (eight digits; or gics8).")
    ] = None,
    yahoo: Annotated[bool, typer.Option("--yahoo", help="Ask Yahoo for its sector and industry, one by one.")] = False,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("mine"),
) -> None:
    """Derive the SIC tree, Fama-French industries and GICS levels, and write `classifications.parquet`.

    SIC codes are those of the companies table, such as EDGAR's. GICS is proprietary: bring your own codes. Companies
    with the GICS codes are written to `companies.csv`, ready for `companysim run`.
    """
    from companysim.errors import counted
    from companysim.universe.classifications import classify, with_gics
    from companysim.universe.schemas import COMPANIES, codes_schema
    from companysim.universe.tables import check_table, read_frame, read_table
    from companysim.workspace import write_csv, write_parquet, writing

    table = read_table(companies, COMPANIES)
    if gics is not None:
        own = read_frame(gics, "ticker and gics")
        if "gics" not in own.columns:
            own = own.rename(columns={"gics8": "gics"})
        codes = check_table(own, codes_schema(["gics"]), str(gics))
        table = with_gics(table, dict(zip(codes["ticker"], codes["gics"], strict=True)), gics.name)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    profiles, failed = _profiles(sorted(table["ticker"])) if yahoo else ({}, {})
    found = classify(table, profiles)
    with writing(out):
        write_parquet(out / "classifications.parquet", found)
        write_csv(out / "companies.csv", table)
    counts = found.groupby("scheme", sort=False)["cik"].size()
    schemes = [scheme for scheme in ("sic", "ff48", "gics", "yahoo_sector") if scheme in counts]
    shown = ", ".join(f"{scheme} {counts[scheme]}" for scheme in schemes)
    number = counted(table["cik"].nunique(), "company", "companies")
    typer.echo(f"{out / 'classifications.parquet'}: {number}; with a code: {shown or 'none'}")
    if failed:
        typer.echo(f"{len(failed)} not classified by Yahoo; the first: {next(iter(failed.values()))}", err=True)


def _profiles(tickers: list[str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Yahoo's profile of each ticker, and why there is none."""
    from companysim.errors import DataError
    from companysim.universe.sources.yahoo import Yahoo

    source = Yahoo()
    found, failed = {}, {}
    for ticker in tickers:
        try:
            found[ticker] = source.profile(ticker.replace(".", "-"))
        except DataError as error:
            failed[ticker] = str(error)
    return found, failed
