"""The fair comparison: every grouping side by side, at its own and at matched granularity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from companysim.benchmark.metrics import (
    Correlations,
    peers_correlation,
    score_partition,
    top_pairs_weights,
    weighted_correlation,
)
from companysim.benchmark.resampling import firm_year_bootstrap, interval, size_matched_null

LEVELS = {"sic": (4, 3, 2), "gics": (8, 6, 4, 2)}
PEERS = 5


@dataclass(frozen=True)
class Grouping:
    """One way to say which companies are alike.

    Attributes
    ----------
    name : str
    labels : ndarray of int64, shape (n,)
        Cluster of each company, negative where it has none.
    similarity : ndarray, shape (n, n)
        For a classification, the number of code levels two companies share.
    """

    name: str
    labels: np.ndarray
    similarity: np.ndarray


def classification(name: str, codes: Sequence[str]) -> Grouping:
    """Group companies by their code in a scheme of `LEVELS`; companies with an empty code are in no group.

    The similarity is the number of levels at which two codes agree (SIC: 4, 3, 2 digits), -1 if one is missing.
    """
    values = np.asarray(codes, dtype=object)
    known = np.array([bool(code) for code in values])
    both = np.logical_and.outer(known, known)
    similarity = np.zeros((len(values), len(values)))
    for digits in LEVELS[name]:
        prefixes = np.array([code[:digits] for code in values])
        similarity += np.equal.outer(prefixes, prefixes)
    labels = np.full(len(values), -1)
    labels[known] = np.unique(values[known].astype(str), return_inverse=True)[1]
    return Grouping(name, labels, np.where(both, similarity, -1.0))


def benchmark(
    groupings: Sequence[Grouping],
    correlations: Correlations,
    *,
    null_draws: int = 1000,
    bootstrap_draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score groupings against return correlations.

    Parameters
    ----------
    groupings : sequence of Grouping
        The first is the one the others are measured against. Those named in `LEVELS` are classifications; every
        grouping is also compared at their number of pairs, among the companies that have their code.
    correlations : mapping of year to ndarray, shape (n, n)

    Returns
    -------
    list of dict
        One entry a grouping:

        - grouping, mean_correlation (MC), size_matched_null (MC of random clusters of the same sizes), null_p;
        - pair_weighted with ci95 (firms and years resampled), coverage, share_of_pairs, clusters, largest;
        - matched ``{scheme: correlation}`` of as many most similar pairs as the scheme groups, with matched_ci95
          ``{scheme: [low, high]}``, and lead_ci95 ``{scheme: [low, high]}`` of the first grouping's figure less this
          one's, in the same resamples;
        - peers5, the mean correlation with the five nearest.

        A last entry, ``all_pairs``, is the mean of all pairs. A figure without any pair to rest on (no cluster of
        two, a scheme no company has a code of) is NaN.
    """
    schemes = [grouping for grouping in groupings if grouping.name in LEVELS]
    rows: list[dict[str, Any]] = []
    reference: dict[str, np.ndarray] = {}
    for grouping in groupings:
        score = score_partition(grouping.labels, correlations)
        null = size_matched_null(grouping.labels, correlations, null_draws, seed)
        null = null[np.isfinite(null)]
        inside = np.equal.outer(grouping.labels, grouping.labels) & (grouping.labels >= 0)[:, None]
        spread = firm_year_bootstrap(np.triu(inside, 1).astype(float), correlations, bootstrap_draws, seed)
        matched, draws = {}, {}
        for scheme in schemes:
            weights, among = _matched_pairs(grouping, scheme, correlations)
            matched[scheme.name] = weighted_correlation(weights, among)
            draws[scheme.name] = firm_year_bootstrap(weights, among, bootstrap_draws, seed)
        reference = reference or draws
        rows.append(
            {
                "grouping": grouping.name,
                "mean_correlation": score.mean_correlation,
                "pair_weighted": score.pair_weighted,
                "ci95": list(interval(spread)),
                "coverage": score.coverage,
                "share_of_pairs": score.share_of_pairs,
                "clusters": score.clusters,
                "largest": score.largest,
                "size_matched_null": float(null.mean()) if len(null) else float("nan"),
                "null_p": _p_value(score.mean_correlation, null),
                "matched": matched,
                "matched_ci95": {name: list(interval(values)) for name, values in draws.items()},
                "lead_ci95": {name: list(interval(reference[name] - values)) for name, values in draws.items()},
                "peers5": _peers(grouping, correlations),
            }
        )
    n = len(groupings[0].labels)
    everything = weighted_correlation(np.triu(np.ones((n, n)), 1), correlations)
    rows.append({"grouping": "all_pairs", "pair_weighted": everything, "coverage": 1.0, "share_of_pairs": 1.0})
    return rows


def _p_value(value: float, null: np.ndarray) -> float:
    """Share of draws that reach `value`, counting the value itself as one; NaN where there is nothing to compare."""
    if not len(null) or not np.isfinite(value):
        return float("nan")
    return float((1 + (null >= value).sum()) / (1 + len(null)))


def _peers(grouping: Grouping, correlations: Correlations) -> float:
    """Mean correlation with the five nearest; of a classification, among the companies that have a code."""
    if grouping.name not in LEVELS:
        return peers_correlation(grouping.similarity, PEERS, correlations)
    known = np.flatnonzero(grouping.labels >= 0)
    if len(known) < 2:
        return float("nan")
    among = {year: values[np.ix_(known, known)] for year, values in correlations.items()}
    return peers_correlation(grouping.similarity[np.ix_(known, known)], PEERS, among)


def _matched_pairs(
    grouping: Grouping, scheme: Grouping, correlations: Correlations
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """As many most similar pairs as `scheme` groups, among the companies it covers, and their correlations."""
    known = np.flatnonzero(scheme.labels >= 0)
    sizes = np.unique(scheme.labels[known], return_counts=True)[1]
    pairs = int((sizes * (sizes - 1) // 2).sum())
    weights = top_pairs_weights(grouping.similarity[np.ix_(known, known)], pairs)
    return weights, {year: values[np.ix_(known, known)] for year, values in correlations.items()}


def frontier(similarity: np.ndarray, correlations: Correlations, shares: np.ndarray) -> np.ndarray:
    """Mean correlation of the most similar pairs at each share of all pairs, shape (shares,): the fair picture."""
    total = len(similarity) * (len(similarity) - 1) // 2
    return np.array(
        [
            weighted_correlation(top_pairs_weights(similarity, max(1, round(share * total))), correlations)
            for share in shares
        ]
    )


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Flatten the entries of `benchmark` into a table with one column a figure."""
    flat = []
    for row in rows:
        entry = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
        low, high = row.get("ci95", (float("nan"),) * 2)
        entry |= {"ci95_low": low, "ci95_high": high}
        for scheme, value in row.get("matched", {}).items():
            low, high = row["matched_ci95"][scheme]
            entry |= {f"at_{scheme}_pairs": value, f"at_{scheme}_low": low, f"at_{scheme}_high": high}
            low, high = row["lead_ci95"][scheme]
            entry |= {f"lead_at_{scheme}_low": low, f"lead_at_{scheme}_high": high}
        flat.append(entry)
    return pd.DataFrame(flat)
