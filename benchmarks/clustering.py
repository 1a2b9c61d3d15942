"""Spanning tree clusters of one year of 1,424 firms, beside the way the published comparison's code does it.

That way: a complete graph in networkx from the table of pairs, its minimum spanning tree, components after removing the
edges heavier than theta, the mean correlation of each cluster by a boolean mask over the table of pairs; and all of it
again for each of 36 thetas. Ours: one spanning tree and the figures at every theta there is. Both sides start from
the same distances, must give the same labels and the same MC, and run in this process.

    python benchmarks/clustering.py            # two thetas of the public way are measured, and scaled to 36
    python benchmarks/clustering.py --large    # besides, 10,000 x 4,000 and 50,000 x 1,000, each in its own process
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from companysim.clustering import ReturnCorrelations, correlation_curve, cosine_distance, cosine_tree, spanning_tree

FIRMS, THETAS, MEASURED = 1424, 36, (0.20, 0.60)  # measured where these shares of the edges are left
LARGE = ((10_000, 4_000), (50_000, 1_000))


def year(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of firms around 60 themes, shape (n, d), and 12 monthly returns with the themes as factors."""
    rng = np.random.default_rng(seed)
    theme = rng.integers(0, 60, n)
    vectors = rng.standard_normal((60, d), dtype=np.float32)[theme]
    vectors += rng.standard_normal((n, d), dtype=np.float32) * rng.uniform(0.3, 3.0, (n, 1)).astype(np.float32)
    returns = rng.normal(size=(12, 1)) + rng.normal(size=(12, 60))[:, theme] + 2 * rng.normal(size=(12, n))
    return vectors, returns


def pair_table(distance: np.ndarray, correlation: np.ndarray) -> pd.DataFrame:
    """One row a pair, as the published comparison keeps its data."""
    i, j = np.triu_indices(len(distance), 1)
    return pd.DataFrame({"first": i, "second": j, "distance": distance[i, j], "correlation": correlation[i, j]})


def public_tree(table: pd.DataFrame, n: int) -> nx.Graph:
    """Build the complete graph and its minimum spanning tree."""
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from(zip(table["first"], table["second"], table["distance"], strict=True))
    return nx.minimum_spanning_tree(graph)


def public_clusters(tree: nx.Graph, theta: float) -> list[set[int]]:
    """Components once the edges heavier than theta are gone."""
    tree.remove_edges_from([(i, j) for i, j, weight in tree.edges(data="weight") if weight > theta])
    return [component for component in nx.connected_components(tree) if len(component) > 1]


def public_mean_correlation(clusters: list[set[int]], table: pd.DataFrame) -> float:
    """MC: one boolean mask over all pairs for each cluster."""
    means = []
    for cluster in clusters:
        inside = table["first"].isin(cluster) & table["second"].isin(cluster)
        means.append(table.loc[inside, "correlation"].mean())
    return float(np.mean(means))


def median_seconds(work: Callable[[], Any], times: int = 5) -> float:
    """Median time of some runs after one to warm up."""
    work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def peak_mb() -> int:
    """Most memory this process has held so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


def large(n: int, d: int) -> dict[str, float]:
    """Tree and full curve from vectors and returns; no array of all pairs."""
    vectors, returns = year(n, d)
    base = peak_mb()
    started, worked = time.perf_counter(), time.process_time()
    tree = cosine_tree(vectors)
    middle = time.perf_counter()
    curve = correlation_curve(tree, ReturnCorrelations(returns))
    stopped = time.perf_counter()
    return {
        "firms": n, "dimensions": d, "thetas": len(curve.theta) - 1, "tree_seconds": round(middle - started, 2),
        "curve_seconds": round(stopped - middle, 2), "cpu_seconds": round(time.process_time() - worked, 2),
        "peak_mb": peak_mb(), "peak_mb_of_the_input": base,
    }  # fmt: skip


def main() -> None:
    """Run both sides and print one JSON line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--large", action="store_true")
    options.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(large(*chosen.one)))
        return

    vectors, returns = year(FIRMS, 256)
    distance = cosine_distance(vectors)
    correlation = np.corrcoef(returns.T)
    table = pair_table(distance, correlation)

    tree_seconds = median_seconds(lambda: spanning_tree(distance))
    ours = median_seconds(lambda: correlation_curve(spanning_tree(distance), correlation))
    tree = spanning_tree(distance)
    curve = correlation_curve(tree, correlation)
    ours_mb = peak_mb()
    print(f"ours: {ours:.4f} s for tree and all {len(curve.theta) - 1} thetas ({tree_seconds:.4f} s the tree)")

    build, score, worst, same = [], [], 0.0, True
    for share in MEASURED:
        theta = float(np.quantile(tree.weight, share))
        started = time.perf_counter()
        public = public_tree(table, FIRMS)
        middle = time.perf_counter()
        clusters = public_clusters(public, theta)
        mc = public_mean_correlation(clusters, table)
        build.append(middle - started)
        score.append(time.perf_counter() - middle)
        worst = max(worst, abs(mc - float(curve.at(theta)["mean_correlation"].iloc[0])))
        labels = tree.labels(theta)
        mine = {frozenset(np.flatnonzero(labels == c).tolist()) for c in np.flatnonzero(np.bincount(labels) > 1)}
        same &= mine == {frozenset(cluster) for cluster in clusters}
        print(f"public: theta {theta:.4f}: {build[-1]:.2f} s graph and tree, {score[-1]:.2f} s MC of {len(clusters)}")
    public_seconds = THETAS * float(np.mean(build) + np.mean(score))
    result: dict[str, Any] = {
        "benchmark": "clustering",
        "ratio": round(public_seconds / ours, 1),
        "max_difference": worst,
        "same_labels": same,
        "ratio_to_one_public_tree": round(float(np.mean(build)) / ours, 1),
        "ours_seconds": round(ours, 4),
        "public_seconds_36_thetas_scaled_from": len(MEASURED),
        "public_seconds": round(public_seconds, 1),
        "peak_mb_ours": ours_mb,
        "peak_mb_public": peak_mb(),
    }
    if chosen.large:
        result["large"] = []
        for n, d in LARGE:
            command = [sys.executable, __file__, "--one", str(n), str(d)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            result["large"].append(json.loads(found))
            print(found.strip())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
