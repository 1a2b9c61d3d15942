"""Companies, their codes, their place on the map, and their peers with reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from companysim.report.html.layout import layout
from companysim.report.html.material import Material

PEERS = 10
REASONS = 2
DESCRIPTIONS = 2_500_000
"""Characters all descriptions together may take, so that the file stays below 8 MB."""
GICS_SECTORS = {
    "10": "Energy",
    "15": "Materials",
    "20": "Industrials",
    "25": "Consumer Discretionary",
    "30": "Consumer Staples",
    "35": "Health Care",
    "40": "Financials",
    "45": "Information Technology",
    "50": "Communication Services",
    "55": "Utilities",
    "60": "Real Estate",
}
SIC_DIVISIONS = (
    (1, 9, "Agriculture"),
    (10, 14, "Mining"),
    (15, 17, "Construction"),
    (20, 39, "Manufacturing"),
    (40, 49, "Transport and utilities"),
    (50, 51, "Wholesale"),
    (52, 59, "Retail"),
    (60, 67, "Finance"),
    (70, 89, "Services"),
    (91, 97, "Public administration"),
)
"""First and last two-digit major group of each division of the Standard Industrial Classification (OSHA's manual)."""


def division(sic: str) -> str:
    """Name of the division a SIC code belongs to; empty without a code, or where no division holds it."""
    group = int(sic[:2]) if sic else -1
    return next((name for first, last, name in SIC_DIVISIONS if first <= group <= last), "")


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
            "latents": outstanding(material, place),
            "filed": f"{pd.Timestamp(row['filed']):%Y-%m-%d}",
            "x": round(float(places[place, 0]), 4),
            "y": round(float(places[place, 1]), 4),
        }
        for place, row in enumerate(companies.to_dict("records"))
    ]


def peer_rows(material: Material, count: int = PEERS) -> list[list[dict[str, Any]]]:
    """Nearest companies of each company, with the latents they share most beyond the usual; the same as `Run.peers`.

    Returns
    -------
    list of list of dict
        By company: ``i`` (row of the peer), ``s`` (similarity), ``r`` (correlation of daily returns, None without
        one), ``why`` (latents).
    """
    tickers, latents = material.run.companies["ticker"], material.latents
    found = []
    for row, values in enumerate(material.similarity):
        order = [int(i) for i in np.lexsort((tickers, -values)) if i != row][:count]
        own = latents[[row]].toarray().ravel()
        found.append(
            [
                {
                    "i": i,
                    "s": round(float(values[i]), 6),
                    "r": _finite(material.run.correlations[row, i]),
                    "why": shared(own, material, i),
                }
                for i in order
            ]
        )
    return found


def outstanding(material: Material, row: int, count: int = 3) -> list[int]:
    """Latents whose weight in a description is most above the mean over companies, strongest first."""
    start, stop = material.latents.indptr[row : row + 2]
    active = material.latents.indices[start:stop]
    excess = material.latents.data[start:stop] - material.usual[active]
    return [int(active[j]) for j in np.argsort(-excess, kind="stable")[:count] if excess[j] > 0]


def shared(own: np.ndarray, material: Material, other: int) -> list[int]:
    """`companysim.explain.shared_latents` of a company and a row of `Material.latents`, without a dense matrix.

    A latent the other company lacks adds ``-mean_j^2`` to the excess and is never among the reasons.
    """
    start, stop = material.latents.indptr[other : other + 2]
    active = material.latents.indices[start:stop]
    excess = own[active] * material.latents.data[start:stop] - material.usual[active] ** 2
    order = np.argsort(-excess, kind="stable")[:REASONS]
    return [int(active[j]) for j in order if excess[j] > 0]


def _finite(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _cut(text: str, room: int) -> str:
    """Cut a text at a word and say so."""
    return text if len(text) <= room else text[:room].rsplit(" ", 1)[0] + " ..."
