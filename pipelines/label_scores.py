"""Score the labels of runs on companies that had no part in making them, beside how much their latents matter.

Usage: ``python pipelines/label_scores.py --run runs/sample --run runs/sample-random``.

Companies are dealt into two halves; the labels made from one are judged on the other by their own terms, in detection
and in fuzzing (see companysim.explain.judges), and the judgements of both are joined. Beside them stand the control,
labels dealt to other latents at random, and the latents' importance: the share of the run's clusters in which each is
strong, under the similarity of the run and under the published one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from companysim.config import load_config
from companysim.encoding.store import Store
from companysim.explain.corpus import Corpus
from companysim.explain.judges import Kind, halves, judged, passages
from companysim.explain.labels import label_table
from companysim.explain.scores import Example, LabelScores, score, write_folder
from companysim.explain.strength import ClusterLatents, cluster_latents
from companysim.report.label_figure import by_spread, draw_labels
from companysim.similarity import PcaCosine, sae_similarity

KINDS: tuple[Kind, ...] = ("detection", "fuzzing")


def read(run: Path) -> Corpus:
    """Companies and latents of a run; its labels are made here."""
    config = load_config(run / "config.yaml")
    companies = pd.read_parquet(run / "universe" / "companies.parquet")
    failed = pd.read_parquet(run / "encoding" / "failures.parquet")["filing_id"]
    companies = companies[~companies["filing_id"].isin(failed)].reset_index(drop=True)
    encoded = Store(run / "encoding").read(companies)[1]
    matrix = encoded.pooled.matrix(config.similarity.pool)
    estimator = sae_similarity(config.similarity).fit(matrix)
    return Corpus(companies, encoded.pooled, encoded.starts, pd.DataFrame(), matrix, estimator)


def by_support(judgements: dict[int, list[Example]], support: pd.Series) -> pd.DataFrame:
    """Mean balanced accuracy of labels by their support in the passages they were made from."""
    table = score(judgements).table
    classes = pd.cut(support.reindex(table["latent"]).to_numpy(), [-0.01, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0])
    grouped = table["balanced_accuracy"].groupby(classes.astype(str))
    return pd.DataFrame({"latents": grouped.size(), "balanced_accuracy": grouped.mean()})


def cross_scored(
    corpus: Corpus, snippets: pd.DataFrame, seed: int = 0
) -> tuple[dict[str, dict[int, list[Example]]], pd.Series]:
    """Judgements by kind and latent, labels of either half on passages of the other, and the labels' mean support.

    A kind that is ``shuffled`` is the control: the same labels, dealt to other latents.
    """
    found: dict[str, dict[int, list[Example]]] = {name: {} for kind in KINDS for name in (kind, f"{kind}, shuffled")}
    first = halves(corpus.tickers, seed)
    support = []
    for made in (first, ~first):
        own = corpus.companies[made]
        table = label_table(snippets, dict(zip(own["filing_id"], own["text"], strict=True)), corpus.pooled)
        labels = table["label"]
        support.append(table["support"])
        order = np.random.default_rng(seed).permutation(len(labels))
        for kind in KINDS:
            for latent, examples in passages(corpus, np.flatnonzero(~made), kind, seed=seed).items():
                found[kind].setdefault(latent, []).extend(judged(labels[latent], examples, kind))
                other = labels[order[latent]]
                found[f"{kind}, shuffled"].setdefault(latent, []).extend(judged(other, examples, kind))
    return found, pd.concat(support, axis=1).mean(axis=1)


def importance(corpus: Corpus, run: Path) -> dict[str, ClusterLatents]:
    """Strong latents of the run's SAE clusters, by similarity."""
    partition = pd.read_parquet(run / "clustering" / "partition.parquet")
    labels = partition[partition["method"] == "sae"].set_index("ticker")["cluster"].loc[corpus.tickers].to_numpy()
    kinds = {"of the run": corpus.estimator, "published": PcaCosine(0.9).fit(corpus.matrix)}
    return {name: cluster_latents(kind, corpus.matrix, labels, corpus.tickers) for name, kind in kinds.items()}


def facts(scores: LabelScores) -> dict[str, float]:
    """Figures of one row of the table."""
    value, low, high = scores.mean()
    known = scores.table.dropna(subset="balanced_accuracy")
    return {
        "latents": len(known),
        "balanced_accuracy": value,
        "low": low,
        "high": high,
        "sensitivity": scores.mean("sensitivity")[0],
        "specificity": scores.mean("specificity")[0],
        "above_chance": float((known["low"] > 0.5).mean()),
        "below_chance": float((known["high"] < 0.5).mean()),
    }


def by_tenth(judgements: dict[int, list[Example]]) -> pd.Series:
    """Share of the passages in which the latent fires that are recognised, by how strongly it does."""
    said = [(one.distance, one.prediction) for examples in judgements.values() for one in examples if one.activating]
    table = pd.DataFrame(said, columns=["distance", "recognised"])
    return table["recognised"].astype(float).groupby(table["distance"].astype(int)).mean()


def main(
    run: Annotated[list[Path] | None, typer.Option(help="Finished runs.")] = None,
    out: Annotated[Path, typer.Option(help="Where tables and the figure go.")] = Path("runs/label_scores"),
    delphi: Annotated[bool, typer.Option(help="Write the judgements in delphi's format too.")] = False,
) -> None:
    """Score, print the tables and write them with the figure."""
    rows, shown = [], {}
    for place in run or [Path("runs/sample")]:
        corpus = read(place)
        judgements, support = cross_scored(corpus, pd.read_parquet(place / "encoding" / "snippets.parquet"))
        scores = {name: score(found) for name, found in judgements.items()}
        rows += [{"run": place.name, "score": name, **facts(found)} for name, found in scores.items()]
        for similarity, strong in importance(corpus, place).items():
            print(f"{place.name}, similarity {similarity}: {strong.summary()}")
            strong.table.to_csv(_made(out) / f"strong-{place.name}-{similarity.replace(' ', '-')}.csv", index=False)
            for kind in KINDS:
                table = scores[kind].table.assign(spread=strong.spread()[scores[kind].table["latent"]])
                classes = by_spread(table)
                print(f"{place.name}, {kind} by share of clusters in which the latent is strong, {similarity}")
                print(classes.round(3).to_string(index=False))
                classes.to_csv(out / f"spread-{place.name}-{similarity.replace(' ', '-')}-{kind}.csv", index=False)
                if similarity == "of the run":
                    table.to_csv(out / f"{place.name}-{kind}.csv", index=False)
                    if kind == "detection":
                        shown[f"{place.name}: {kind}"] = table
        print(f"{place.name}: sensitivity by tenth of the latent's companies, strongest first")
        print(pd.DataFrame({kind: by_tenth(judgements[kind]) for kind in KINDS}).round(3).T.to_string())
        for kind in KINDS:
            print(f"{place.name}: {kind} by the label's support in the passages it was made from")
            print(by_support(judgements[kind], support).round(3).T.to_string())
        if delphi:
            for kind in KINDS:
                _made(out / f"{place.name}-{kind}")
                write_folder(out / f"{place.name}-{kind}", "latents", judgements[kind])
    draw_labels(shown, out / "labels.png")
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    pd.DataFrame(rows).to_csv(out / "scores.csv", index=False)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    typer.run(main)
