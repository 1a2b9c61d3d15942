"""The headline of a comparison: one entry a grouping, as the run's summary and the console show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from companysim.benchmark.comparison import ALL, EVERYBODY, Comparison, compare
from companysim.benchmark.groupings import Grouping
from companysim.benchmark.metrics import Correlations, finite_pairs, mean
from companysim.benchmark.weights import ranking

PEERS = "peers5"


def benchmark(
    groupings: Sequence[Grouping],
    correlations: Correlations,
    *,
    null_draws: int = 1000,
    bootstrap_draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score groupings against return correlations; `headline` of `compare`."""
    comparison = compare(
        groupings, correlations, null_draws=null_draws, bootstrap_draws=bootstrap_draws, seed=seed
    )
    return headline(comparison, groupings)


def headline(comparison: Comparison, groupings: Sequence[Grouping]) -> list[dict[str, Any]]:
    """Return the entries of a summary.

    Parameters
    ----------
    comparison : Comparison
    groupings : sequence of Grouping
        Those compared. The first is the one the others are measured against.

    Returns
    -------
    list of dict
        One entry a grouping:

        - grouping, mean_correlation (MC), size_matched_null (MC of random clusters of the same sizes), null_p;
        - pair_weighted with ci95 (firms and years resampled), coverage, share_of_pairs, clusters, largest;
        - matched ``{scheme: correlation}`` of as many most similar pairs as the finest level of the scheme groups,
          with matched_ci95 ``{scheme: [low, high]}``, and lead_ci95 ``{scheme: [low, high]}`` of the first grouping's
          figure less this one's, in the same resamples;
        - peers5, the mean correlation with the five nearest.

        A last entry, ``all_pairs``, is the mean of all pairs. A figure without any pair to rest on (no cluster of
        two, a scheme no company has a code of) is NaN.
    """
    matched = {g.name: f"at_{next(iter(g.levels))}_pairs" for g in groupings if g.levels}
    values, spreads, leads = {}, {}, {}
    for row in comparison.estimates.to_dict("records"):
        if row["years"] == ALL:
            key = str(row["grouping"]), str(row["figure"])
            values[key], spreads[key] = float(row["value"]), [float(row["low"]), float(row["high"])]
    for row in comparison.differences.to_dict("records"):
        if row["years"] == ALL and row["first"] == groupings[0].name:
            leads[str(row["second"]), str(row["figure"])] = [float(row["low"]), float(row["high"])]
    for figure in matched.values():
        own = spreads[groupings[0].name, figure]
        leads[groupings[0].name, figure] = [0.0, 0.0] if np.isfinite(own).all() else [np.nan, np.nan]
    sizes = {row["grouping"]: row for row in comparison.partitions.to_dict("records") if row["years"] == ALL}
    rows = []
    for name in (grouping.name for grouping in groupings):
        size = sizes[name]
        rows.append(
            {
                "grouping": name,
                "mean_correlation": values[name, "mean_correlation"],
                "pair_weighted": values[name, "pair_weighted"],
                "ci95": spreads[name, "pair_weighted"],
                "coverage": size["coverage"],
                "share_of_pairs": size["share_of_pairs"],
                "clusters": _count(size["clusters"]),
                "largest": _count(size["largest"]),
                "size_matched_null": size["size_matched_null"],
                "null_p": size["null_p"],
                "matched": {scheme: values[name, figure] for scheme, figure in matched.items()},
                "matched_ci95": {scheme: spreads[name, figure] for scheme, figure in matched.items()},
                "lead_ci95": {scheme: leads[name, figure] for scheme, figure in matched.items()},
                PEERS: values[name, PEERS],
            }
        )
    everything = values[EVERYBODY, "pair_weighted"]
    rows.append({"grouping": EVERYBODY, "pair_weighted": everything, "coverage": 1.0, "share_of_pairs": 1.0})
    return rows


def frontier(similarity: np.ndarray, correlations: Correlations, shares: np.ndarray) -> np.ndarray:
    """Mean correlation of the most similar pairs at each share of all pairs, shape (shares,): the fair picture."""
    ranked, yearly = ranking(similarity), []
    for values in correlations.values():
        seen = ranked.among(finite_pairs(values))
        yearly.append([seen.top(max(1, round(share * len(seen.i)))).mean(values) for share in shares])
    return np.array([mean(list(column)) for column in np.array(yearly).T])


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Flatten the entries of `headline` into a table with one column a figure."""
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


def _count(value: float) -> float | int:
    """Whole where every year has the same."""
    return int(value) if float(value).is_integer() else float(value)
