"""`companysim data check`: whether a folder of tables is ready to be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def check(
    folder: Annotated[Path, typer.Argument(help="Folder with filings, companies, prices, ... as parquet or CSV.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of sentences.")] = False,
) -> None:
    """Check every table of a folder: what it holds, what is wrong, and what a run would leave out and why.

    Tables are known by the names of their files: filings, companies, prices, returns, classifications, partitions,
    groups, pairs, factors. Exits with code 2 if a table has an error.
    """
    from companysim.universe.checkup import check_folder

    found = check_folder(folder)
    typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.summary())
    if found.errors:
        raise typer.Exit(2)
