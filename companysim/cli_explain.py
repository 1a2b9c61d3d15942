"""`companysim explain`: why two companies are alike, what a cluster is about; `companysim label`: names of latents."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from companysim.errors import ConfigError, DataError
from companysim.report.terminal import terminal

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from companysim.explain import ClusterExplanation, PairExplanation
    from companysim.results import Run

RunDirectory = Annotated[Path, typer.Option("--run", help="Directory of a finished run.")]


class Labeller(StrEnum):
    """Who writes labels."""

    terms = "terms"
    llm = "llm"
    endpoint = "endpoint"


def explain_command(
    ticker_1: Annotated[str | None, typer.Argument(help="Ticker of a company of the run.")] = None,
    ticker_2: Annotated[str | None, typer.Argument(help="Ticker of another.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Explain a cluster instead: its number, or the ticker of a member.")
    ] = None,
    method: Annotated[str, typer.Option(help="Grouping the cluster is of.")] = "sae",
    run: RunDirectory = Path("runs/sample"),
    k: Annotated[int, typer.Option("-k", help="Number of latents.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of tables.")] = False,
) -> None:
    """Say why two companies are similar, or what a cluster is about.

    For a pair: the latents that make the two alike, with what each contributes to the similarity and the sentence of
    either company in which it fires most, and those that set the two apart. For a cluster: the latents that define it,
    the smallest rule that recovers it, its codes and the members that fit least. No model is run.
    """
    from companysim.results import Run

    if (cluster is None) == (ticker_1 is None) or (ticker_1 is None) != (ticker_2 is None):
        raise DataError("give two tickers, or --cluster with a number or a ticker")
    finished = Run(run)
    if cluster is not None:
        group = finished.explain_cluster(cluster, k, method)
        _emit(group.to_frame(), cluster_record(group), as_json, as_csv, lambda console: print_cluster(group, console))
    else:
        pair = finished.explain(str(ticker_1), str(ticker_2), k)
        _emit(pair.to_frame(), pair_record(pair), as_json, as_csv, lambda console: print_pair(pair, console))


def label_command(
    by: Annotated[Labeller, typer.Option(help="terms: words of the passages; llm: a model here; endpoint: a service.")],
    model: Annotated[
        str | None, typer.Option(help="Causal model: a local directory, a hub id; the service's name.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Of an OpenAI-compatible service: http://localhost:8000/v1.")
    ] = None,
    count: Annotated[int, typer.Option(help="Latents a model names: those that define clusters first.")] = 300,
    device: Annotated[str, typer.Option(help="Of the local model.")] = "cpu",
    run: RunDirectory = Path("runs/sample"),
) -> None:
    """Name the latents of a run anew: by terms, by a local language model, or by a service of your choice.

    Labels by terms need no model and are the default of every run. A model is shown the passages in which a latent
    fires most and should be an instruction-tuned one of a billion parameters or more; latents it does not name keep
    their label by terms. Nothing is sent anywhere but by `--by endpoint`, which sends those passages to the base URL;
    its key is read from OPENAI_API_KEY. A command that was stopped goes on where it was.
    """
    from rich.console import Console

    from companysim.explain import label_table
    from companysim.report.console import ConsoleReporter
    from companysim.results import Run

    if count < 1:
        raise ConfigError(f"--count is {count}: ask for at least one latent")
    finished = Run(run)
    texts = dict(zip(finished.companies["filing_id"], finished.companies["text"], strict=True))
    if by is Labeller.terms:
        finished.relabel(label_table(finished.snippets, texts, finished.pooled))
        typer.echo(f"{len(finished.labels)} latents labelled by terms")
        return
    from companysim.explain.endpoint import endpoint
    from companysim.explain.llm_labels import llm_labels, local_model

    if model is None or (by is Labeller.endpoint) != (base_url is not None):
        raise ConfigError("give --model with --by llm, and --model and --base-url with --by endpoint")
    how = f"{by} {model}"
    labels = finished.labels.copy()
    named = set(labels.index[labels["method"] == how])
    wanted = [latent for latent in important(finished)[:count] if latent not in named]
    complete = endpoint(base_url, model) if base_url is not None else local_model(model, device)
    found: dict[int, str] = {}
    with ConsoleReporter(Console(stderr=True)) as reporter:
        reporter.start("label", "naming latents")
        try:
            for done, (latent, label) in enumerate(llm_labels(finished.snippets, texts, complete, wanted), start=1):
                if label:
                    found[latent] = label
                reporter.advance(done, len(wanted))
        finally:  # what a model took hours for is kept when it stops
            if found:
                labels.loc[list(found), "label"] = list(found.values())
                labels.loc[list(found), "method"] = how
                labels.loc[list(found), "support"] = float("nan")
                finished.relabel(labels)
    typer.echo(f"{len(found)} latents labelled by {how}, {len(named)} before, {len(wanted) - len(found)} keep theirs")


def important(run: Run) -> list[int]:
    """Latents in the order in which labels matter: those that define clusters, then those that fire most widely."""
    defining = run.cluster_latents.sort_values(["rank", "cluster"])["latent"]
    usual = run.labels[run.labels["documents"] > 0].sort_values(["documents", "latent"], ascending=[False, True])
    return [int(latent) for latent in dict.fromkeys([*defining, *usual["latent"]])]


def pair_record(pair: PairExplanation) -> dict[str, Any]:
    """Return a pair's explanation as plain values for JSON."""
    return {
        "tickers": pair.tickers,
        "companies": pair.companies,
        "similarity": pair.similarity,
        "usual_similarity": pair.usual,
        "correlation": pair.correlation,
        "latents": _records(pair.table),
    }


def cluster_record(group: ClusterExplanation) -> dict[str, Any]:
    """Return a cluster's explanation as plain values for JSON."""
    rule = group.rule
    return {
        "cluster": group.cluster,
        "size": len(group.members),
        "similarity": group.similarity,
        "mean_correlation": group.mean_correlation,
        "usual_correlation": group.usual_correlation,
        "members": _records(group.members),
        "latents": _records(group.latents),
        "rule": {
            "text": group.rule_text,
            "conditions": [{"latent": c.latent, "threshold": c.threshold} for c in rule.conditions],
            "precision": rule.precision,
            "recall": rule.recall,
            "f1": rule.f1,
            "held_out_precision": group.held_out_precision,
            "held_out_recall": group.held_out_recall,
        },
        "codes": _records(group.codes),
        "outliers": _records(group.outliers),
    }


def print_pair(pair: PairExplanation, console: Console) -> None:
    """Print a pair's explanation: one table a side."""
    from companysim.explain.pairs import SIDES

    mixed = pair.table["method"].nunique() > 1
    _say(console, pair.headline())
    for side, title in zip(SIDES, pair.titles(), strict=True):
        rows = pair.side(side).to_dict("records")
        if not rows:
            continue
        table = _table(title, [pair.measure(side), "latent", "label"], ["", "sentences"])
        for row in rows:
            cells: tuple[str, str, str | Text] = (pair.figure(side, row), str(row["latent"]), _label(row, mixed))
            for ticker, sentence in pair.sentences(side, row):
                table.add_row(*cells, ticker, _marked(sentence))
                cells = ("", "", "")
        console.print(table)
        console.print()
    if pair.verdict():
        _say(console, pair.verdict())
    _say(
        console,
        f"{pair.measure('shared').capitalize()}s add up to the similarity over all latents; latents are ranked by what "
        f"they contribute beyond their contribution to two average companies, which is {pair.usual:.3f} in all. "
        f"Without it: change of the similarity if the latent were removed. {_methods(pair.table)}",
    )


def print_cluster(group: ClusterExplanation, console: Console) -> None:
    """Print a cluster's explanation: its latents as a table, the rest in sentences."""
    _say(console, group.headline(), "  " + " ".join(group.members["ticker"].sort_values()))
    mixed = group.latents["method"].nunique() > 1
    table = _table("What defines it", ["inside", "outside", "lift", "latent", "label"], ["", "strongest in"])
    for row in group.latents.to_dict("records"):
        shares = f"{row['inside']:.0%}", f"{row['outside']:.0%}", f"{row['lift']:.1f}"
        table.add_row(*shares, str(row["latent"]), _label(row, mixed), row["ticker"], _marked(row["sentence"]))
    if len(group.latents):
        console.print(table)
        console.print()
    else:
        _say(console, "No latent is present in more of the members than of the other companies.")
    _say(console, group.rule_sentence(), group.codes_sentence(), group.outliers_sentence())
    _say(
        console,
        "Inside, outside: share of members and of other companies in which the latent is present, three times as "
        f"strong as the document's average latent or more. {_methods(group.latents)}",
    )


def _table(title: str, figures: list[str], texts: list[str]) -> Table:
    """Return a table with figures, a label of limited width and a sentence that takes the rest."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name in figures[:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(figures[-1], max_width=24)
    table.add_column(texts[0], no_wrap=True)
    table.add_column(texts[1], ratio=1)
    return table


def _label(row: dict[Any, Any], mixed: bool) -> Text:
    """Label of a latent, with how it was made where labels of several kinds stand in a table."""
    from rich.text import Text

    from companysim.explain.labels import shown

    text = Text(shown(row["label"], row["support"]), style="" if row["label"] else "dim")
    return text.append(f" ({row['method']})", style="dim") if mixed else text


def _marked(sentence: str) -> Text:
    """Sentence with the firing words bold, in ``<<`` and ``>>`` so that they are seen without a terminal too."""
    from rich.text import Text

    text = Text(sentence)
    for match in re.finditer(r"<<.*?>>", sentence):
        text.stylize("bold", *match.span())
    return text


def _methods(table: pd.DataFrame) -> str:
    """Say how the labels shown were made."""
    counts = table["method"].value_counts()
    from companysim.explain.labels import BELIEVABLE

    told = ", ".join(f"{method} ({number})" for method, number in sorted(counts.items()))
    doubt = " (?): the label's terms occur in less than half of the passages in which its latent fires most."
    return f"Labels by {told}.{doubt if (table['support'] < BELIEVABLE).any() else ''}" if told else ""


def _say(console: Console, *lines: str) -> None:
    """Print sentences, then an empty line."""
    from rich.text import Text

    for line in filter(None, lines):
        console.print(Text(line))
    console.print()


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, None where there is none."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return rows


def _emit(found: pd.DataFrame, record: dict[str, Any], as_json: bool, as_csv: bool, show: Any) -> None:
    if as_json:
        typer.echo(json.dumps(_plain(record), indent=1))
    elif as_csv:
        typer.echo(found.to_csv(index=False), nl=False)
    else:
        show(terminal())


def _plain(value: Any) -> Any:
    """Replace what JSON does not know, NaN and infinity, by None."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and value - value != 0 else value
