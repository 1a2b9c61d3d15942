"""Companies, their codes, their place on the map, and their peers with reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from companysim.explain import shared_latents
from companysim.explain.clusters import GICS_SECTORS
from companysim.report.html.layout import layout
from companysim.report.html.material import Material
from companysim.results import REASONS
from companysim.universe.sic import DIVISIONS, place

PEERS = 10
DESCRIPTIONS = 2_500_000
"""Characters all descriptions together may take, so that the file stays below 8 MB."""


def division(sic: str) -> str:
    """Name of the division a SIC code belongs to; empty without a code."""
    letter = place(sic).division
    return DIVISIONS[letter][0] if letter else ""


def sector(gics: str) -> str:
    """Name of the sector a GICS code belongs to; empty without a code."""
    return GICS_SECTORS.get(gics[:2], "")


def company_rows(material: Material, clusters: dict[str, int], seed: int) -> list[dict[str, Any]]:
    """One entry a company, in the order of the run.

    Parameters
    ----------
    material : Material
    clusters : dict of str to int
        Cluster of each grouped ticker.
    seed : int
        Of the map.
    """
    companies = material.run.companies
    places = layout(material.similarity, seed)
    room = max(200, min(1500, DESCRIPTIONS // len(companies)))
    return [
        {
            "ticker": row["ticker"],
            "name": row["company"],
            "lines": row["lines"],
            "sic": row["sic"],
            "gics": row["gics"],
            "division": division(row["sic"]),
            "sector": sector(row["gics"]),
            "cluster": clusters.get(row["ticker"], -1),
            "text": _cut(" ".join(row["text"].split()), room),
            "latents": outstanding(material, i),
            "filed": f"{pd.Timestamp(row['filed']):%Y-%m-%d}",
            "x": round(float(places[i, 0]), 4),
            "y": round(float(places[i, 1]), 4),
        }
        for i, row in enumerate(companies.to_dict("records"))
    ]


def peer_rows(material: Material, count: int = PEERS) -> list[list[dict[str, Any]]]:
    """Nearest companies of each company, with the latents they share most beyond the usual; the same as `Run.peers`.

    Returns
    -------
    list of list of dict
        By company: ``i`` (row of the peer), ``s`` (similarity), ``r`` (correlation of daily returns, None without
        one), ``why`` (latents).
    """
    run = material.run
    tickers, latents = run.companies["ticker"], run.latents
    found = []
    for row, values in enumerate(material.similarity):
        order = [int(i) for i in np.lexsort((tickers, -values)) if i != row][:count]
        own = latents[[row]].toarray().ravel()
        found.append(
            [
                {
                    "i": i,
                    "s": round(float(values[i]), 6),
                    "r": _finite(run.correlations[row, i]),
                    "why": shared_latents(own, latents[[i]], run.usual_latents, REASONS).tolist(),
                }
                for i in order
            ]
        )
    return found


def outstanding(material: Material, row: int, count: int = 3) -> list[int]:
    """Latents whose weight in a description is most above the mean over companies, strongest first."""
    own = material.run.latents[[row]]
    active, excess = own.indices, own.data - material.run.usual_latents[own.indices]
    return [int(active[j]) for j in np.argsort(-excess, kind="stable")[:count] if excess[j] > 0]


def _finite(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _cut(text: str, room: int) -> str:
    """Cut a text at a word and say so."""
    return text if len(text) <= room else text[:room].rsplit(" ", 1)[0] + " ..."
