"""`companysim sae train`, `groups` and `evaluate`: make a sparse autoencoder for any language model, and judge it."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from companysim.config import SAMPLE, EncoderConfig
from companysim.errors import ConfigError
from companysim.report.terminal import terminal

Model = Annotated[str, typer.Option(help="Language model: a registered name, a directory or a hub id.")]
Text = Annotated[str, typer.Option(help="Parquet or CSV file, folder of text files, hub data set, or 'sample'.")]
Column = Annotated[str, typer.Option(help="Column of the text.")]
Revision = Annotated[str | None, typer.Option(help="Commit or tag of a model on the hub.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="Of the language model: float32, bfloat16 or float16.")]
Window = Annotated[int, typer.Option(help="Tokens of context.")]
BatchTokens = Annotated[int, typer.Option(help="Tokens in one pass of the language model.")]
Documents = Annotated[int, typer.Option(min=1, help="Documents read.")]
say = partial(typer.echo, err=True)
MODEL, HOOK = EncoderConfig().model, EncoderConfig().hook
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def train_command(
    out: Annotated[Path, typer.Option(help="The SAE goes to a folder in it named after its hooks.")],
    model: Model = MODEL,
    hooks: Annotated[str, typer.Option(help="Module to read; several, joined by commas, share one SAE.")] = HOOK,
    text: Text = SAMPLE,
    column: Column = "text",
    text_revision: Annotated[str | None, typer.Option(help="Commit or tag of a data set on the hub.")] = None,
    split: Annotated[str, typer.Option(help="Of a data set on the hub.")] = "train",
    kind: Annotated[str, typer.Option(help="topk, batchtopk or jumprelu.")] = "topk",
    latents: Annotated[int, typer.Option(help="Width of the SAE.")] = 4096,
    k: Annotated[int, typer.Option("-k", help="Active latents a token.")] = 32,
    tokens: Annotated[int, typer.Option(help="Activations seen in training.")] = 4_000_000,
    batch: Annotated[int, typer.Option(help="Activations a step.")] = 2048,
    learning_rate: Annotated[float, typer.Option(help="Peak of Adam's rate.")] = 3e-3,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")] = 0.05,
    decay: Annotated[float, typer.Option(help="Share of the steps, at the end, in which it falls to 0.")] = 1 / 3,
    clip: Annotated[float, typer.Option(help="Norm the gradient is clipped to.")] = 1.0,
    dead_after: Annotated[int, typer.Option(help="Silent for so many activations, a latent counts as dead.")] = 200_000,
    auxiliary: Annotated[float, typer.Option(help="Weight of the loss that revives dead latents.")] = 1 / 32,
    sparsity: Annotated[float, typer.Option(help="Weight of the penalty towards k (jumprelu).")] = 1.0,
    bandwidth: Annotated[float, typer.Option(help="Kernel of the threshold's gradient (jumprelu).")] = 0.5,
    init_from: Annotated[str | None, typer.Option(help="SAE of a neighbouring layer to begin with.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Train on a copy of the model with random weights: the control.")
    ] = False,
    buffer: Annotated[int, typer.Option(min=1, help="Activations shuffled at once.")] = 500_000,
    on_disk: Annotated[bool, typer.Option("--on-disk", help="Keep them in a file instead of in memory.")] = False,
    window: Window = 256,
    batch_tokens: BatchTokens = 8192,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    precision: Annotated[str, typer.Option(help="Of the SAE's matrix products: float32 or bfloat16.")] = "float32",
    save_dtype: Annotated[str, typer.Option(help="Of the SAE on disk.")] = "float32",
    held_out: Annotated[int, typer.Option(min=0, help="One document in so many is left out and measured.")] = 50,
    checkpoint_every: Annotated[int, typer.Option(help="Activations between checkpoints.")] = 500_000,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")] = False,
    revision: Revision = None,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights and shuffles.")] = 0,
) -> None:
    """Train an SAE on the residual stream of any language model. Stop it, kill it, run it again: it goes on.

    TopK SAEs are written in sparsify's layout, BatchTopK and JumpReLU SAEs in that of sae-lens, with loss curve and
    card. With several GPUs: `accelerate launch -m companysim sae train ...`.
    """
    from companysim.encoding.models import sae_path
    from companysim.encoding.sae import load_sae
    from companysim.encoding.weights import resolve
    from companysim.sae_training.run import Surroundings, train_on_text
    from companysim.sae_training.spec import TrainingSpec
    from companysim.sae_training.texts import open_texts
    from companysim.sae_training.trainer import Record

    spec = TrainingSpec(
        kind=kind, latents=latents, k=k, tokens=tokens, batch=batch, learning_rate=learning_rate,  # type: ignore[arg-type]
        warmup=warmup, decay=decay, clip=clip, dead_after=dead_after, auxiliary=auxiliary, sparsity=sparsity,
        bandwidth=bandwidth, precision=precision, seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    surroundings = Surroundings(
        buffer, on_disk, window, batch_tokens, device, dtype, held_out, save_dtype, checkpoint_every, tensorboard
    )
    names = [name.strip() for name in hooks.split(",") if name.strip()]
    if not names:
        raise ConfigError("no hook is given: name a block, such as layers.26")
    texts = open_texts(_source(text), column, text_revision, split, seed)
    begin = None if init_from is None else load_sae(sae_path(EncoderConfig(sae=init_from), say), decoder=True)
    with _progress() as bars:
        reading = bars.add_task("language model, batches", total=None)
        training = bars.add_task("SAE, activations", total=spec.steps * batch)

        def report(record: Record) -> None:
            bars.update(training, completed=record.tokens)
            typer.echo(
                f"{record.tokens:>13,}  unexplained {record.unexplained:.4f}  L0 {record.l0:.1f}  dead "
                f"{record.dead_share:.2%}  rate {record.learning_rate:.1e}  {record.seconds:,.0f} s"
            )

        folder = train_on_text(
            resolve(model, say),
            names,
            texts,
            out,
            spec,
            surroundings,
            name=model,
            revision=revision,
            init=begin,
            random=random_weights,
            report=report,
            progress=lambda done, total: bars.update(reading, completed=done, total=total),
            say=say,
        )
    if _first():
        typer.echo(f"{folder} holds the SAE, its loss curve and its card")


def groups_command(
    model: Model = MODEL,
    text: Text = SAMPLE,
    column: Column = "text",
    groups: Annotated[int | None, typer.Option(help="Number of groups; all numbers are listed by default.")] = None,
    documents: Documents = 20,
    window: Window = 256,
    batch_tokens: BatchTokens = 2048,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Find layers whose residual streams are close enough to share one SAE.

    Close means: a small angle between them, averaged over tokens. Groups are runs of neighbouring layers; AMAD, the
    average over groups of the largest distance in each, is as small as it can be.
    """
    from companysim.encoding.layers import block_hooks
    from companysim.encoding.llm import ResidualStream
    from companysim.encoding.weights import resolve
    from companysim.report.console import table
    from companysim.sae_training.groups import angular_distances, shortened

    place = resolve(model, say)
    stream = ResidualStream(
        place, "", revision=revision, window=window, overlap=0, batch_tokens=batch_tokens, device=device, dtype=dtype
    )
    with _progress() as bars:
        task = bars.add_task("language model, batches", total=None)
        found = angular_distances(
            stream,
            _documents(text, column, documents),
            block_hooks(stream.network),
            report=lambda done, total: bars.update(task, completed=done, total=total),
        )
    frame = found.to_frame()
    if groups is not None:
        found.into(groups)  # refuses an impossible number
        frame = frame[frame["groups"] == groups]
    if as_json:
        body = {"tokens": found.tokens, "hooks": found.hooks, "distances": found.distances.round(6).tolist()}
        typer.echo(json.dumps(body | {"groupings": frame.to_dict("records")}, indent=1))
        return
    rows = [[str(row.groups), f"{row.amad:.4f}", shortened(str(row.layers))] for row in frame.itertuples()]
    title = f"Layers of {model} by angular distance, {found.tokens:,} tokens"
    terminal().print(table(title, ["groups", "AMAD", "layers"], rows, left=("layers",)))
    typer.echo("One SAE for a group: companysim sae train --hooks with the names of its layers, joined by commas.")


def evaluate_command(
    path: Annotated[str, typer.Argument(help="Directory or hub id of an SAE, or 'sample'.")],
    model: Annotated[str | None, typer.Option(help="Language model; the one the checkpoint names by default.")] = None,
    hook: Annotated[str | None, typer.Option(help="Module it reads; what the checkpoint says by default.")] = None,
    text: Text = SAMPLE,
    column: Column = "text",
    documents: Documents = 20,
    window: Window = 256,
    batch_tokens: BatchTokens = 2048,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Judge an SAE on text it has not seen: variance, sparsity, dead latents, and what it does to the LLM.

    Cross-entropy recovered is 1 if the language model predicts as well from the reconstruction as from its own residual
    stream, and 0 if no better than from zeros.
    """
    from companysim.encoding.models import sae_path
    from companysim.encoding.sae import load_sae
    from companysim.encoding.sae_info import inspect_sae
    from companysim.encoding.weights import resolve
    from companysim.report.console import number, table
    from companysim.sae_training.evaluate import evaluate

    known = EncoderConfig(sae=path)
    place = sae_path(known, say)
    sae = load_sae(place, decoder=True, device=device)
    name = model or (known.model if path == SAMPLE else inspect_sae(place).model)
    where = hook or sae.hook or (known.hook if path == SAMPLE else None)
    if name is None or where is None:
        raise ConfigError("the checkpoint does not say what it reads: give --model and --hook")
    with _progress() as bars:
        task = bars.add_task("language model, batches", total=None)
        found = evaluate(
            sae,
            resolve(name, say),
            where,
            _documents(text, column, documents),
            revision=revision,
            window=window,
            batch_tokens=batch_tokens,
            device=device,
            dtype=dtype,
            report=lambda done, total: bars.update(task, completed=done, total=total),
        )
    figures = found.to_dict()
    if as_json:
        typer.echo(json.dumps(figures, indent=1))
        return
    rows = [
        [key.replace("_", " "), f"{value:,}" if isinstance(value, int) else number(value, 4)]
        for key, value in figures.items()
        if key != "density"
    ]
    terminal().print(table(f"SAE in {path} at {name}", ["what", "value"], rows, left=("what",)))
    histogram = [[str(row["density"]), f"{row['latents']:,}"] for row in figures["density"]]
    terminal().print(
        table("Latents by the share of tokens they fire on", ["share", "latents"], histogram, left=("share",))
    )


def _source(text: str) -> str:
    from companysim.universe import bundled

    return str(bundled("sample/filings.parquet")) if text == SAMPLE else text


def _documents(text: str, column: str, count: int) -> list[str]:
    from itertools import islice

    from companysim.sae_training.texts import open_texts

    return list(islice(open_texts(_source(text), column).read(0), count))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        speed_estimate_period=3600,  # a long run reports once in minutes
        console=Console(stderr=True),
        disable=not _first(),
    )


def _first() -> bool:
    """Whether this is the only process, or the first of those a launcher has started."""
    return os.environ.get("RANK", "0") == "0"
