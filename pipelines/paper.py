"""Rerun the paper from its own published features: METHOD.md, sections 1 to 3.

Usage: ``python pipelines/paper.py pipelines/paper.yaml --out runs/paper``; see the head of the YAML file.

Features (summed latents of each filing) are standardised and reduced by PCA over all years, cosine distances of each
year expressed in z units of all years, and the year's spanning tree cut at the published threshold. The clusters are
scored by the twelve monthly log returns published with the filings, beside SIC codes. What is printed has the fair
figures too: the mean over all grouped pairs, random clusters of the same sizes, and the mean correlation of as many
most similar pairs as SIC groups.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from companysim.benchmark import correlation, partition
from companysim.benchmark.metrics import score_year, top_pairs_weights, weighted_correlation
from companysim.benchmark.resampling import interval, over_draws, yearly_null
from companysim.clustering import ThresholdMST, distance_moments, spanning_tree
from companysim.errors import CompanySimError, ConfigError, DataError
from companysim.similarity import PcaCosine
from companysim.universe.sic import place
from companysim.universe.sources.hub import FEATURES, MONTHS, PAIRS, REPORTS, DataSet, fetch_features, fetch_reports
from companysim.workspace import write_csv, write_parquet

NAMES = {"features": "sae", "pairs": "sae_pairs"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """A data set of the hub at a commit, or a local folder."""

    repo: str
    revision: str | None = None

    def open(self, endpoint: str | None) -> DataSet:
        """Return the data set; raises `ConfigError` if it is not pinned."""
        return DataSet(self.repo, self.revision, endpoint)


class PaperConfig(_Section):
    """Settings of the rerun; see ``pipelines/paper.yaml``."""

    similarity: Literal["features", "pairs"] = "features"
    features: Source = Source(repo=FEATURES)
    pairs: Source = Source(repo=PAIRS)
    reports: Source = Source(repo=REPORTS)
    width: Annotated[int, Field(ge=1)] = 131_072
    components: Annotated[int, Field(ge=1)] = 4000
    theta: float = -3.13
    first_year: int = 1996
    last_year: int = 2020
    draws: Annotated[int, Field(ge=1)] = 1000
    seed: int = 0


def load(path: Path) -> PaperConfig:
    """Read the settings; an unknown key or impossible value is a `ConfigError`."""
    try:
        return PaperConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}): give a YAML file such as paper.yaml") from error
    except (ValidationError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} cannot be used ({first}): see pipelines/paper.yaml for the settings") from error


def clusters_from_features(
    config: PaperConfig, reports: pd.DataFrame, folder: Path, endpoint: str | None
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Labels and similarities of each year from the published features, and the rows of `reports` they are of."""
    found = fetch_features(config.features.open(endpoint), folder, config.width, _progress)
    print(f"\n{found.matrix.shape[0]:,} filings with features, {found.dropped} incomplete", flush=True)
    at = pd.Index(found.ids).get_indexer(pd.Index(reports["filing_id"]))
    model = PcaCosine(n_components=config.components, seed=config.seed).fit(found.matrix)
    print(f"{len(model.components_):,} components explain {model.explained_variance_ratio_.sum():.1%}", flush=True)
    rows = {int(year): np.flatnonzero((reports["year"] == year) & (at >= 0)) for year in _years(config, reports)}
    vectors = {year: model.transform(found.matrix[at[own]]) for year, own in rows.items() if len(own) > 2}
    moments = distance_moments(vectors.values())
    labels = {
        year: ThresholdMST(theta=config.theta, standardise=moments).fit(own).labels_ for year, own in vectors.items()
    }
    return labels, {year: own @ own.T for year, own in vectors.items()}, {year: rows[year] for year in vectors}


def clusters_from_pairs(
    config: PaperConfig, reports: pd.DataFrame, endpoint: str | None
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Labels and similarities of each year from the published cosine similarities; a pair not listed has the lowest."""
    table = config.pairs.open(endpoint).table(["Company1", "Company2", "year", "cosine_similarity"])
    table = table.dropna(subset=["cosine_similarity"])
    if table.empty:
        raise DataError(f"{config.pairs.repo} has no cosine similarity: check the data set's name")
    year_of = pd.to_numeric(table["year"])
    distance = 1 - table["cosine_similarity"].to_numpy(dtype=float)
    moments = distance.mean(), distance.std()
    labels, similarities, rows = {}, {}, {}
    for year in _years(config, reports):
        part = table[year_of == year]
        ends = [part[name].astype(str) for name in ("Company1", "Company2")]
        own = np.flatnonzero((reports["year"] == year) & reports["filing_id"].isin(set(ends[0]) | set(ends[1])))
        if len(own) < 3:
            continue
        ids = pd.Index(reports["filing_id"].iloc[own])
        i, j = (ids.get_indexer(pd.Index(end)) for end in ends)
        both = (i >= 0) & (j >= 0) & (i != j)
        values = part["cosine_similarity"].to_numpy(dtype=float)[both]
        similarity = np.full((len(ids), len(ids)), values.min(initial=1.0))
        similarity[i[both], j[both]] = similarity[j[both], i[both]] = values
        tree = spanning_tree((1 - similarity - moments[0]) / moments[1])
        labels[int(year)], similarities[int(year)], rows[int(year)] = tree.labels(config.theta), similarity, own
    return labels, similarities, rows


def table(
    name: str,
    reports: pd.DataFrame,
    labels: dict[int, np.ndarray],
    similarities: dict[int, np.ndarray],
    rows: dict[int, np.ndarray],
    draws: int,
) -> pd.DataFrame:
    """Figures of every grouping, means over years.

    Returns
    -------
    DataFrame
        Indexed by grouping: mean_correlation, pair_weighted, coverage, share_of_pairs, size_matched_null, null_low,
        null_high, at_sic_pairs (mean correlation of as many most similar pairs as share a SIC code), years.
    """
    months = reports[[f"m{month}" for month in range(1, MONTHS + 1)]].to_numpy(dtype=float)
    correlations = {year: correlation(months[own].T, MONTHS) for year, own in rows.items()}
    codes = {year: reports["sic"].iloc[own].tolist() for year, own in rows.items()}
    sic = {year: partition("sic4", own).labels for year, own in codes.items()}
    groupings = {
        name: labels,
        "sic4": sic,
        "sic_division": {
            year: partition("sic_division", [place(code).division for code in own]).labels
            for year, own in codes.items()
        },
        "all_pairs": {year: np.zeros(len(own), dtype=np.int64) for year, own in rows.items()},
    }
    lines = []
    for grouping, own in groupings.items():
        scores = pd.DataFrame([vars(score_year(part, correlations[year])) for year, part in own.items()])
        random = over_draws(yearly_null(own, correlations, draws, seed=0))
        low, high = interval(random)
        figures = scores[["mean_correlation", "pair_weighted", "coverage", "share_of_pairs"]].mean().to_dict()
        null = {"size_matched_null": random.mean(), "null_low": low, "null_high": high}
        lines.append({"grouping": grouping, **figures, **null, "years": len(own)})
    found = pd.DataFrame(lines).set_index("grouping")
    found.insert(7, "at_sic_pairs", np.nan)
    matched = []
    for year, values in correlations.items():
        pairs = int((np.equal.outer(sic[year], sic[year]) & (sic[year] >= 0)).sum() - (sic[year] >= 0).sum()) // 2
        if pairs:
            weights = top_pairs_weights(similarities[year], pairs)
            matched.append(weighted_correlation(weights, {year: values}))
    found.loc[name, "at_sic_pairs"] = float(np.mean(matched)) if matched else np.nan
    found.loc["sic4", "at_sic_pairs"] = found.loc["sic4", "pair_weighted"]
    return found


def run(config: PaperConfig, out: Path, endpoint: str | None = None) -> pd.DataFrame:
    """Fetch, cluster, score; writes ``table.csv`` and ``partitions.parquet``."""
    out.mkdir(parents=True, exist_ok=True)
    reports = fetch_reports(config.reports.open(endpoint))
    print(f"{len(reports):,} filings with returns of {reports['cik'].nunique():,} companies", flush=True)
    if config.similarity == "features":
        found = clusters_from_features(config, reports, out / "features", endpoint)
    else:
        found = clusters_from_pairs(config, reports, endpoint)
    labels, similarities, rows = found
    if not labels:
        raise DataError(f"no year from {config.first_year} to {config.last_year} has three filings of both data sets")
    name = NAMES[config.similarity]
    parts = [
        pd.DataFrame({"method": name, "year": year, "cluster": own, "filing_id": reports["filing_id"].iloc[rows[year]]})
        for year, own in labels.items()
    ]
    write_parquet(out / "partitions.parquet", pd.concat(parts, ignore_index=True))
    result = table(name, reports, labels, similarities, rows, config.draws)
    write_csv(out / "table.csv", result.reset_index())
    return result


def _years(config: PaperConfig, reports: pd.DataFrame) -> list[int]:
    return sorted({int(year) for year in reports["year"] if config.first_year <= year <= config.last_year})


def _progress(rows: int) -> None:
    print(f"\r{rows:,} rows read", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?", default=Path(__file__).with_name("paper.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/paper"))
    arguments = parser.parse_args()
    try:
        print(run(load(arguments.config), arguments.out).round(3).to_string())
    except CompanySimError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
