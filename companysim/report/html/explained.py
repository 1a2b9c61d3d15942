"""Clusters and the latents that define them: from the run's explanations where it has them, else computed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from companysim.report.html.material import Material, read_table

DEFINING = 6
"""Latents named for each cluster."""
PRESENT = 3.0
"""Multiple of the mean latent that fires in a description from which on a latent counts as present."""
SCORES = ("precision", "recall", "held_out_precision", "held_out_recall")


def label_table(material: Material) -> pd.DataFrame:
    """Read the labels of all latents: label, method (how it was made), support (NaN where unknown), by latent."""
    table = read_table(material.run, "explain/labels.parquet")
    if "method" not in table:
        table["method"] = "terms"
    if "support" not in table:
        table["support"] = np.nan
    return table.drop_duplicates("latent").set_index("latent")


def cluster_rows(material: Material) -> list[dict[str, Any]]:
    """One entry a cluster of `Run.clusters`, the largest first.

    Returns
    -------
    list of dict
        ``members`` (rows of `Run.companies`, by ticker), ``correlation`` (mean monthly correlation of its pairs over
        the benchmark's years, None without one), ``rule`` and each of `SCORES` (None unless the run's explanations have
        them), ``latents`` (a list of latent, inside, outside: shares of companies in which it is present).
    """
    run = material.run
    row = {ticker: place for place, ticker in enumerate(run.companies["ticker"])}
    members = [sorted(row[ticker] for ticker in str(found).split()) for found in run.clusters()["tickers"]]
    rules, latents = _explanations(material)
    found = []
    for rows in members:
        key = frozenset(run.companies["ticker"].iloc[rows])
        rule = rules.get(key, {})
        found.append(
            {
                "members": rows,
                "correlation": _mean_correlation(material, rows),
                **{name: rule.get(name) for name in ("rule", *SCORES)},
                "latents": latents[key] if key in latents else defining_latents(material, rows),
            }
        )
    return found


def defining_latents(material: Material, members: list[int], count: int = DEFINING) -> list[dict[str, Any]]:
    """Latents present in a larger share of a cluster's companies than of all others, the largest difference first.

    Present: three times as strong as the mean latent that fires in the description, or more. Ties go to the latent with
    the larger mean strength inside less outside, then to the smaller one.
    """
    strength = material.strength
    inside = np.zeros(strength.shape[0], dtype=bool)
    inside[members] = True
    row = np.repeat(inside, np.diff(strength.indptr))
    present, width = strength.data >= PRESENT, strength.shape[1]

    def share(kept: np.ndarray, weights: np.ndarray | None, companies: np.ndarray) -> np.ndarray:
        chosen = None if weights is None else weights[kept]
        found: np.ndarray = np.bincount(strength.indices[kept], chosen, width) / max(int(companies.sum()), 1)
        return found

    shares, others = share(row & present, None, inside), share(~row & present, None, ~inside)
    mean, usual = share(row, strength.data, inside), share(~row, strength.data, ~inside)
    order = np.lexsort((np.round(usual - mean, 9), np.round(others - shares, 9)))[:count]
    return [
        {"latent": int(j), "inside": round(float(shares[j]), 6), "outside": round(float(others[j]), 6)}
        for j in order
        if shares[j] > others[j]
    ]


def _mean_correlation(material: Material, rows: list[int]) -> float | None:
    """Mean over years of the mean correlation of a cluster's pairs."""
    above = np.triu_indices(len(rows), 1)
    yearly = [values[np.ix_(rows, rows)][above] for values in material.monthly.values()]
    means = [float(np.nanmean(values)) for values in yearly if np.isfinite(values).any()]
    return round(float(np.mean(means)), 6) if means else None


def _explanations(material: Material) -> tuple[dict[frozenset[str], dict[str, Any]], dict[frozenset[str], list[Any]]]:
    """Rules and defining latents the run's explain stage wrote, by the tickers of the cluster; empty where it did not.

    Clusters are known by their companies, so that no numbering has to agree.
    """
    folder = material.run.root / "explain"
    if not (folder / "clusters.parquet").is_file():
        return {}, {}
    clusters = read_table(material.run, "explain/clusters.parquet").astype(object)
    clusters = clusters.where(clusters.notna(), None)
    keys = {row.cluster: _tickers(row.companies) for row in clusters.itertuples()}
    wanted = [name for name in ("rule", *SCORES) if name in clusters]
    rules = {keys[row["cluster"]]: {name: row[name] for name in wanted} for row in clusters.to_dict("records")}
    latents: dict[frozenset[str], list[Any]] = {}
    if (folder / "cluster_latents.parquet").is_file():
        table = read_table(material.run, "explain/cluster_latents.parquet").sort_values(["cluster", "rank"])
        for row in table[table["cluster"].isin(list(keys))].to_dict("records"):
            entry = {name: round(float(row[name]), 6) for name in ("inside", "outside")}
            latents.setdefault(keys[row["cluster"]], []).append({"latent": int(row["latent"]), **entry})
    return rules, {key: rows[:DEFINING] for key, rows in latents.items()}


def _tickers(companies: Any) -> frozenset[str]:
    return frozenset(companies.split() if isinstance(companies, str) else companies)
