"""MC at every theta in one pass over the merges, beside one boolean mask over the table of pairs a cluster and theta.

Both sides start from the same spanning tree of 1,424 firms, so this is the score alone; benchmarks/clustering.py has
tree and score together. The public way is measured at four thetas and scaled to 36; ours gives all 1,423.

    python benchmarks/curve.py
"""

from __future__ import annotations

import json
import time

import networkx as nx
import numpy as np
from clustering import (
    FIRMS,
    THETAS,
    median_seconds,
    pair_table,
    peak_mb,
    public_clusters,
    public_mean_correlation,
    year,
)

from companysim.clustering import ReturnCorrelations, correlation_curve, cosine_distance, spanning_tree

MEASURED = (0.10, 0.30, 0.60, 0.90)


def main() -> None:
    """Run both sides and print one JSON line."""
    vectors, returns = year(FIRMS, 256)
    distance, correlation = cosine_distance(vectors), np.corrcoef(returns.T)
    tree = spanning_tree(distance)
    ours = median_seconds(lambda: correlation_curve(tree, correlation))
    from_returns = median_seconds(lambda: correlation_curve(tree, ReturnCorrelations(returns)))
    curve, other = correlation_curve(tree, correlation), correlation_curve(tree, ReturnCorrelations(returns))
    ours_mb = peak_mb()
    print(f"ours: {ours:.4f} s from correlations, {from_returns:.4f} s from returns, {len(curve.theta) - 1} thetas")

    table, seconds, worst = pair_table(distance, correlation), [], 0.0
    for share in MEASURED:
        theta = float(np.quantile(tree.weight, share))
        public = nx.Graph()
        public.add_weighted_edges_from(zip(tree.left, tree.right, tree.weight, strict=True))
        started = time.perf_counter()
        mc = public_mean_correlation(public_clusters(public, theta), table)
        seconds.append(time.perf_counter() - started)
        worst = max(worst, *(abs(mc - float(found.at(theta)["mean_correlation"].iloc[0])) for found in (curve, other)))
        print(f"public: theta {theta:.4f}: {seconds[-1]:.2f} s, MC {mc:.4f}")
    public_seconds = THETAS * float(np.mean(seconds))
    print(
        json.dumps(
            {
                "benchmark": "curve",
                "ratio": round(public_seconds / ours, 1),
                "max_difference": worst,
                "ratio_from_returns": round(public_seconds / from_returns, 1),
                "ours_seconds": round(ours, 4),
                "public_seconds_36_thetas_scaled_from": len(MEASURED),
                "public_seconds": round(public_seconds, 1),
                "peak_mb_ours": ours_mb,
                "peak_mb_public": peak_mb(),
            }
        )
    )


if __name__ == "__main__":
    main()
