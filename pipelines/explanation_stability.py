"""How stable the explanations of a run's clusters are: companies halved, text removed, another year, another SAE seed.

Usage: ``python pipelines/explanation_stability.py --run runs/sample``.

- halves: what half of a cluster's companies (and half of the others) say, looked for in the other half.
- shorter: a tenth of each description removed, whole sentences drawn at random, at least one of each description; the
  rest encoded anew (some minutes).
- later: descriptions of the same companies by other authors from 2017, where the shared data has them; the clusters
  are cut to the companies that have one.

- seed: two SAEs trained alike on the run's texts but for the seed (some minutes; or any two given by --saes A B).

Beside each the same for groups of the same sizes drawn at random, whose explanations have nothing to be about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import scipy.sparse as sp
import typer
from seed_stability import compare_seeds

from companysim.config import RunConfig, load_config
from companysim.encoding.encode import clean
from companysim.encoding.filings import encode_filings
from companysim.encoding.models import encoder_settings, load_models
from companysim.encoding.store import Store
from companysim.explain.corpus import relative_strength
from companysim.explain.stability import Stability, resampled, stability
from companysim.workspace import write_text

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
REMOVED = 0.1
LONGEST = 1000  # characters of a later description, about as long as those of the sample
LEAST = 3  # members a cluster must have in the comparison


def shorter(text: str, rng: np.random.Generator) -> str:
    """Remove a tenth of the sentences, at least one, at random."""
    sentences = SENTENCE_END.split(clean(text))
    if len(sentences) < 2:
        return text
    gone = rng.choice(len(sentences), max(1, round(REMOVED * len(sentences))), replace=False)
    return " ".join(sentence for place, sentence in enumerate(sentences) if place not in gone)


def later(companies: pd.DataFrame, shared: Path) -> pd.DataFrame:
    """Yahoo descriptions of 2017 of the run's companies, cut to the length of the sample's."""
    profiles = pd.read_parquet(shared / "company_profiles.parquet")
    profiles = profiles[(profiles["vendor"] == "yahoo") & (profiles["vintage"] == "2017-10/11")]
    profiles = profiles.assign(cik=profiles["cik"].astype(int)).sort_values(["cik", "ticker"]).drop_duplicates("cik")
    known = companies[["filing_id", "ticker", "cik"]].assign(cik=companies["cik"].astype(int))
    found = known.merge(profiles[["cik", "description"]], on="cik")
    cut = [clean(text)[:LONGEST].rsplit(" ", 1)[0] if len(text) > LONGEST else text for text in found["description"]]
    return found.assign(text=cut)[["filing_id", "ticker", "text"]]


def strengths(config: RunConfig, filings: pd.DataFrame, folder: Path) -> sp.csr_array:
    """Encode filings, those that are not there yet, and return each latent over the mean of those that fire."""
    store = Store.create(folder, encoder_settings(config.encoder), replace=True)
    encode_filings(partial(load_models, config.encoder), filings, store, report=lambda done, _: say(folder.name, done))
    return strength_of(store, filings, config)


def strength_of(store: Store, filings: pd.DataFrame, config: RunConfig) -> sp.csr_array:
    """Strength of the latents of a store, row by row of `filings`."""
    return relative_strength(store.read(filings)[1].pooled.matrix(config.similarity.pool))


def say(what: str, done: float) -> None:
    """Print progress."""
    print(f"\r{what}: {done:.0f} filings", end="", flush=True)


def members_of(run: Path, companies: pd.DataFrame) -> dict[int, np.ndarray]:
    """Members of the run's SAE clusters of two or more, over the rows of `companies`."""
    partition = pd.read_parquet(run / "clustering" / "partition.parquet")
    own = partition[partition["method"] == "sae"].set_index("ticker")["cluster"]
    label = companies["ticker"].map(own).to_numpy()
    return {int(c): label == c for c in np.unique(label[label >= 0]) if (label == c).sum() >= 2}


def at_random(clusters: dict[int, np.ndarray], names: list[str], seed: int = 0) -> dict[int, np.ndarray]:
    """Draw groups of the same sizes at random, each on its own."""
    rng, order = np.random.default_rng(seed), np.argsort(names)
    groups = {}
    for cluster, member in clusters.items():
        groups[cluster] = np.zeros(len(names), dtype=bool)
        groups[cluster][order[rng.permutation(len(names))[: member.sum()]]] = True
    return groups


def rows_for(name: str, found: Stability, random: Stability) -> list[dict[str, object]]:
    """Table rows of one comparison and of its control."""
    rows = []
    for groups, result in (("clusters", found), ("random groups", random)):
        figures = result.figures()
        cells = {f"{figure}_{column}": figures.loc[figure, column] for figure in figures.index for column in figures}
        rows.append({"change": name, "groups": groups, "number": result.table["cluster"].nunique(), **cells})
    return rows


def main(
    run: Annotated[Path, typer.Option(help="A finished run.")] = Path("runs/sample"),
    out: Annotated[Path, typer.Option(help="Where re-encoded texts and tables are kept.")] = Path("runs/stability"),
    shared: Annotated[Path, typer.Option(help="Folder of the shared data.")] = Path("../shared/data"),
    encode_texts: Annotated[bool, typer.Option(help="Encode shortened and later texts.")] = True,
    train_seeds: Annotated[bool, typer.Option(help="Train two SAEs of different seeds.")] = True,
    saes: Annotated[tuple[Path, Path] | None, typer.Option(help="Two SAEs to compare instead of training.")] = None,
) -> None:
    """Compare, and write ``stability.csv``, ``clusters.csv`` and ``seeds.json``."""
    config = load_config(run / "config.yaml")
    companies = pd.read_parquet(run / "universe" / "companies.parquet")
    failed = pd.read_parquet(run / "encoding" / "failures.parquet")["filing_id"]
    companies = companies[~companies["filing_id"].isin(failed)].reset_index(drop=True)
    names = companies["ticker"].tolist()
    out.mkdir(parents=True, exist_ok=True)
    base = strength_of(Store(run / "encoding"), companies, config)
    clusters = members_of(run, companies)
    random = at_random(clusters, names)
    rows, each = [], []

    def add(name: str, compare: Callable[[dict[int, np.ndarray]], Stability], own: dict, other: dict) -> None:
        report(name, compare(own), compare(other))

    def report(name: str, found: Stability, control: Stability) -> None:
        rows.extend(rows_for(name, found, control))
        each.append(found.to_frame().assign(change=name))
        print(f"{name}: {found.summary()}; at random: {control.summary()}", flush=True)

    add("half of the companies", lambda groups: resampled(base, groups, names), clusters, random)
    if encode_texts:
        rng = np.random.default_rng(0)
        cut = companies.sort_values("filing_id")
        cut = cut.assign(text=[shorter(text, rng) for text in cut["text"]]).sort_index()
        share = 1 - cut["text"].str.len().sum() / companies["text"].map(clean).str.len().sum()
        second = strengths(config, cut, out / "shorter")
        print(f"\rshorter: {share:.1%} of the characters removed")
        add(f"{share:.0%} of the text removed", lambda groups: stability(base, second, groups), clusters, random)
        if (shared / "company_profiles.parquet").exists():
            other = later(companies, shared)
            third = strengths(config, other, out / "later")
            place = companies.reset_index().set_index("filing_id")["index"].loc[other["filing_id"]].to_numpy()
            known = {c: member[place] for c, member in clusters.items() if member[place].sum() >= LEAST}
            print(f"\rlater: {len(other)} companies, {len(known)} clusters of {LEAST} or more of them")
            other_random = at_random(known, other["ticker"].tolist())
            add("other author, 2017", lambda groups: stability(base[place], third, groups), known, other_random)
    if train_seeds:
        groups = {"clusters": clusters, "random": random}
        results, figures = compare_seeds(config, companies, groups, out, given=saes)
        for way, found in results.items():
            report(f"another SAE seed, latents matched by {way}", found["clusters"], found["random"])
        write_text(out / "seeds.json", json.dumps(figures, indent=1) + "\n")
        print(json.dumps(figures))
    pd.DataFrame(rows).to_csv(out / "stability.csv", index=False)
    pd.concat(each).to_csv(out / "clusters.csv", index=False)
    print(json.dumps({"clusters": len(clusters), "changes": [row["change"] for row in rows[::2]]}))


if __name__ == "__main__":
    typer.run(main)
