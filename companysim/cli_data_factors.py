"""`companysim data factors`: Fama and French's factors from the data library or from files of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def factors(
    from_file: Annotated[
        list[Path] | None, typer.Option(help="A file of the library, or a table with a date column; may be repeated.")
    ] = None,
    frequency: Annotated[Literal["monthly", "daily"], typer.Option(help="Of what is downloaded.")] = "monthly",
    refresh: Annotated[bool, typer.Option("--refresh", help="Download again what is there.")] = False,
    library: Annotated[str | None, typer.Option(help="Address of French's data library or a mirror.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("mine"),
) -> None:
    """Write `factors.parquet`: five factors, momentum and the risk-free rate, as decimals.

    The library's own files are kept in the folder `factors`. `companysim benchmark --factors` reads either.
    """
    from companysim.benchmark import read_factors
    from companysim.benchmark.factors import RISK_FREE
    from companysim.universe.schemas import factors_schema
    from companysim.universe.sources.french import LIBRARY, fetch_factors
    from companysim.universe.tables import check_table
    from companysim.workspace import write_parquet, writing

    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        paths = from_file or fetch_factors(out / "factors", frequency, library=library or LIBRARY, refresh=refresh)
    found = read_factors(*paths)
    table = found.returns.assign(**{RISK_FREE: found.risk_free}).rename_axis("date").reset_index()
    table = check_table(table, factors_schema(table.columns[1:]), ", ".join(map(str, paths)))
    with writing(out):
        write_parquet(out / "factors.parquet", table)
    typer.echo(f"{out / 'factors.parquet'}: {found.summary()}")
