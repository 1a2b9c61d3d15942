"""A page for each latent that matters: its label, where it fires, and which clusters it defines."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from companysim.encoding.encode import clean
from companysim.report.html.material import Material

PAGES = 400
SNIPPETS = 8
STRONGEST = 12
BINS = 24


def latent_rows(
    material: Material, clusters: list[dict[str, Any]], peers: list[list[dict[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Pages of the latents that define a cluster or give the reason for peers, at most `PAGES`.

    A latent of a cluster comes before one of reasons, the more often named before the less.

    Parameters
    ----------
    material : Material
    clusters : list of dict
        From `cluster_rows`.
    peers : list of list of dict
        From `peer_rows`.

    Returns
    -------
    dict of str to dict
        By latent: ``label``, ``method``, ``support`` (of the label, None where unknown), ``active`` (companies),
        ``bins`` (companies by value, evenly spaced from 0 to ``top``, those with 0 left out), ``top``, ``strongest``
        (pairs of row and value), ``clusters`` (numbers), ``named`` (how often it is a reason) and ``snippets``.
        Values are weights: entries of the unit vector of a description's summed latents.
    """
    named = Counter(latent for rows in peers for peer in rows for latent in peer["why"])
    defines: dict[int, list[int]] = {}
    for number, cluster in enumerate(clusters):
        for latent in cluster["latents"]:
            defines.setdefault(latent["latent"], []).append(number)
    wanted = sorted({*named, *defines}, key=lambda latent: (latent not in defines, -named[latent], latent))[:PAGES]
    labels, columns = material.run.labels.set_index("latent"), material.run.latents.tocsc()
    snippets = _snippets(material, wanted)
    found = {}
    for latent in sorted(wanted):
        start, stop = columns.indptr[latent : latent + 2]
        rows, values = columns.indices[start:stop], columns.data[start:stop]
        top = float(values.max(initial=0.0))
        order = np.lexsort((rows, -values))[:STRONGEST]
        counts = np.histogram(values, bins=BINS, range=(0.0, top or 1.0))[0]
        found[str(latent)] = {
            "label": str(labels["label"].get(latent, "")),
            "method": str(labels["method"].get(latent, "")),
            "support": _known(labels["support"].get(latent, np.nan)),
            "active": len(rows),
            "top": round(top, 6),
            "bins": counts.tolist(),
            "strongest": [[int(rows[i]), round(float(values[i]), 6)] for i in order],
            "clusters": defines.get(latent, []),
            "named": named[latent],
            "snippets": snippets.get(latent, []),
        }
    return found


def spare_labels(material: Material, latents: dict[str, dict[str, Any]], used: set[int]) -> dict[str, str]:
    """Labels of latents that are named somewhere but have no page."""
    labels = material.run.labels.set_index("latent")["label"]
    return {str(latent): str(labels.get(latent, "")) for latent in sorted(used) if str(latent) not in latents}


def _known(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _snippets(material: Material, latents: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Strongest passages by latent: ``i`` (company), ``v`` (peak activation), text before, at and after the peak."""
    table = material.run.snippets
    table = table[table["latent"].isin(latents)].sort_values(["latent", "rank"]).groupby("latent").head(SNIPPETS)
    place = {filing: row for row, filing in enumerate(material.run.companies["filing_id"])}
    texts = {filing: clean(material.run.companies["text"].iloc[row]) for filing, row in place.items()}
    found: dict[int, list[dict[str, Any]]] = {}
    for row in table[table["filing_id"].isin(list(place))].to_dict("records"):
        text, edges = texts[row["filing_id"]], [int(row[name]) for name in ("start", "peak_start", "peak_end", "end")]
        parts = [text[start:stop] for start, stop in pairwise(edges)]
        entry = {"i": place[row["filing_id"]], "v": round(float(row["value"]), 2), "parts": parts}
        found.setdefault(int(row["latent"]), []).append(entry)
    return found
