"""Clusters as the run's explanations have them: members, correlation, rule, the latents that define them."""

from __future__ import annotations

from typing import Any

from companysim.report.html.material import Material

DEFINING = 6
"""Latents named for each cluster."""
FIGURES = ("mean_correlation", "precision", "recall", "held_out_precision", "held_out_recall")


def cluster_rows(material: Material) -> list[dict[str, Any]]:
    """One entry a cluster of `Run.clusters`, the largest first.

    Returns
    -------
    list of dict
        ``members`` (rows of `Run.companies`, by ticker), ``rule``, each of `FIGURES` (None where it has no value) and
        ``latents`` (a list of latent, inside, outside: shares of companies in which it is present).
    """
    run = material.run
    row = {ticker: place for place, ticker in enumerate(run.companies["ticker"])}
    defining = run.cluster_latents.sort_values(["cluster", "rank"])
    defining = defining[defining["rank"] <= DEFINING].round({"inside": 6, "outside": 6})
    latents = {
        number: rows[["latent", "inside", "outside"]].to_dict("records") for number, rows in defining.groupby("cluster")
    }
    table = run.cluster_rules.sort_values("cluster")
    table = table.round(dict.fromkeys(FIGURES, 6)).astype(object)
    return [
        {
            "members": sorted(row[ticker] for ticker in found["companies"].split()),
            "latents": latents.get(found["cluster"], []),
            **{name: found[name] for name in ("rule", *FIGURES)},
        }
        for found in table.where(table.notna(), None).to_dict("records")
    ]
