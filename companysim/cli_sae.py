"""`companysim sae`: look at a sparse autoencoder, check where it reads, train one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from companysim.cli_resumable import resumable
from companysim.cli_sae_training import evaluate_command, groups_command, say, train_command
from companysim.config import SAMPLE, EncoderConfig
from companysim.errors import ConfigError
from companysim.report.terminal import terminal

app = typer.Typer(help="Look at a sparse autoencoder, check where it reads, or train one.", no_args_is_help=True)
app.command("train")(resumable(train_command))
app.command("groups")(groups_command)
app.command("evaluate")(evaluate_command)
Sae = Annotated[str, typer.Argument(help="Directory or hub id of an SAE, or 'sample'.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("inspect")
def inspect_command(path: Sae, as_json: Json = False) -> None:
    """Print format, size, activation and hook of an SAE; only its headers are read."""
    from companysim.encoding.models import sae_path
    from companysim.encoding.sae_info import inspect_sae
    from companysim.report.console import table

    info = inspect_sae(sae_path(EncoderConfig(sae=path), say))
    if as_json:
        typer.echo(json.dumps(asdict(info), indent=1))
        return
    threshold = info.threshold and (
        f"{info.threshold[0]:.4g}" if len(set(info.threshold)) == 1 else "{:.4g} to {:.4g}".format(*info.threshold)
    )
    activation = f"{info.activation}, k = {info.k}" if info.k else info.activation
    rows = {
        "format": info.format,
        "latents": f"{info.latents:,}",
        "width": f"{info.width:,}",
        "activation": activation + (f", threshold {threshold}" if threshold else ""),
        "encodes": info.input,
        "hook": info.hook or "not stated: take it from the publisher and check it with `companysim sae verify`",
        "model": info.model or "not stated",
        "decoder": "yes" if info.decoder else "no",
        "on disk": f"{info.dtype}, {info.bytes / 1e6:,.1f} MB",
        "tensors": ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in info.tensors.items()),
    }
    shown = table(f"SAE in {path}", ["what", "value"], [*map(list, rows.items())], left=("what", "value"))
    terminal().print(shown, soft_wrap=True)


@app.command("verify")
def verify_command(
    path: Sae,
    model: Annotated[str | None, typer.Option(help="Language model; the one the checkpoint names by default.")] = None,
    hook: Annotated[str | None, typer.Option(help="Where the SAE is said to read, such as layers.12.")] = None,
    texts: Annotated[str, typer.Option(help="Parquet or CSV file with a column 'text', or 'sample'.")] = SAMPLE,
    documents: Annotated[int, typer.Option(min=1, help="Texts read, from the first.")] = 20,
    neighbours: Annotated[int, typer.Option(min=0, help="Blocks tried on either side.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the language model.")] = "float32",
    as_json: Json = False,
) -> None:
    """Measure what an SAE leaves unexplained where it is said to read and around, and say if another place fits better.

    The same name may mean the output of a block or its input; an SAE read one block off still gives latents, only
    worse ones.
    """
    import pandera.pandas as pa

    from companysim.encoding.models import sae_path
    from companysim.encoding.sae import load_sae
    from companysim.encoding.sae_info import inspect_sae
    from companysim.encoding.verify import verify_sae
    from companysim.encoding.weights import resolve
    from companysim.report.console import ConsoleReporter, number, table
    from companysim.universe import FILINGS, bundled, read_table

    known = EncoderConfig(sae=path)
    place = sae_path(known, say)
    name = model or (known.model if path == SAMPLE else inspect_sae(place).model)
    if name is None:
        raise ConfigError("the checkpoint does not name its language model: give --model")
    file = bundled("sample/filings.parquet") if texts == SAMPLE else Path(texts)
    schema = pa.DataFrameSchema({"text": FILINGS.columns["text"]}, name="texts")
    chosen = read_table(file, schema)["text"].head(documents).tolist()
    sae = load_sae(place, decoder=True, device=device)
    with ConsoleReporter(Console(stderr=True)) as reporter:
        reporter.start("verify", "Reconstructing the residual stream")
        found = verify_sae(
            sae,
            resolve(name, say),
            chosen,
            hook or sae.hook or (known.hook if path == SAMPLE else None),
            neighbours=neighbours,
            device=device,
            dtype=dtype,
            report=reporter.advance,
        )
    frame = found.to_frame()
    if as_json:
        typer.echo(json.dumps({"summary": found.summary(), "fits": frame.to_dict("records")}, indent=1))
        return
    body = [
        [
            f"{row.hook} (claimed)" if row.claimed else str(row.hook),
            f"{row.fraction_unexplained:.1%}",
            number(row.l0, 1),
            number(row.cosine),
            f"{row.tokens:,}",
        ]
        for row in frame.itertuples()
    ]
    console = terminal()
    columns = ["module", "unexplained", "active latents", "cosine", "tokens"]
    console.print(table(f"SAE in {path} at {name}", columns, body, left=("module",)))
    console.print(found.summary(), soft_wrap=True)
