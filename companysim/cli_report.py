"""`companysim report` and `companysim serve`: look at a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(help="Directory of a finished run.")]


def report(
    run: RunArgument = Path("runs/sample"),
    out: Annotated[Path | None, typer.Option(help="File to write; report.html in the run by default.")] = None,
) -> None:
    """Write the report of a finished run: one HTML file that needs no network, to look at or pass on."""
    from companysim.report.html import write_report
    from companysim.results import Run

    finished = Run(run)
    typer.echo(str(write_report(finished, out or finished.root / "report.html")))


def serve(
    run: RunArgument = Path("runs/sample"),
    host: Annotated[str, typer.Option(help="Address to bind; other than loopback only with a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.", min=0, max=65535)] = 8765,
    token: Annotated[
        str | None,
        typer.Option(envvar="COMPANYSIM_TOKEN", help="Asked of every request; better set in the environment."),
    ] = None,
) -> None:
    """Serve a local page over RUN and the runs beside it: search companies, compare runs, download tables.

    It reads and never writes. Only this machine can open it; whoever can log in here can too.
    """
    from companysim.serve import find_runs, listen

    listen(find_runs(run), host, port, token, typer.echo)
