"""The effect of removing each of 1,000 latents from 200 pairs under the PCA cosine, beside two loops over the latents.

`ratio`: the loop sets the latent to 0 in the raw rows, standardises and projects them again, and takes the cosines of
the pairs again; measured for four latents, one with --full, and scaled. `ratio_update`: the loop of the public code,
which starts from the projected rows, subtracts ``(x_j / s_j) W_j`` from all of them and takes the cosines again; ours
then starts from the projected rows too, and both take the best of three. Loadings are in single precision, as the
published ones are.

    python benchmarks/attribution.py              # a cluster of 21 companies; 4,000 components, 1,000 of 8,192 latents
    python benchmarks/attribution.py --rows 400   # no two pairs share a company
    python benchmarks/attribution.py --full       # all of 131,072 latents, 200 pairs of 400 companies: time and memory
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from clustering import peak_mb

from companysim.explain.ablation import Projected, removed, rows_of
from companysim.explain.attribution import attribute, closed_form
from companysim.similarity import PcaCosine


def fitted(m: int, components: int, seed: int = 0) -> PcaCosine:
    """Make a PcaCosine of random loadings as long as orthonormal ones: the arithmetic is that of a fitted one."""
    rng = np.random.default_rng(seed)
    estimator = PcaCosine(n_components=components)
    estimator.mean_, estimator.scale_ = rng.uniform(0.1, 1.0, m), rng.uniform(0.5, 3.0, m)
    estimator.components_ = rng.standard_normal((components, m), dtype=np.float32)
    estimator.components_ /= np.float32(np.sqrt(m))
    return estimator


def documents(n: int, m: int, active: float = 0.08, seed: int = 1) -> sp.csr_array:
    """Draw raw latents, this share of them active."""
    rng = np.random.default_rng(seed)
    counts = rng.binomial(m, active, n)
    indices = np.concatenate([np.sort(rng.choice(m, count, replace=False)) for count in counts]).astype(np.int32)
    data = rng.gamma(1.0, 5.0, len(indices)).astype(np.float32)
    return sp.csr_array((data, indices, np.concatenate([[0], np.cumsum(counts)])), shape=(n, m))


def public_loop(
    Z: np.ndarray, X: sp.csr_array, estimator: PcaCosine, pairs: np.ndarray, latents: np.ndarray
) -> np.ndarray:
    """Change of each pair's cosine, one latent at a time."""
    first, second = pairs.T

    def cosines(rows: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(rows, axis=1)
        result: np.ndarray = (rows[first] * rows[second]).sum(axis=1) / (norms[first] * norms[second])
        return result

    base = cosines(Z)
    raw = X[:, latents].toarray()
    drop = np.empty((len(pairs), len(latents)))
    for column, latent in enumerate(latents):
        taken = raw[:, column] / np.float32(estimator.scale_[latent])
        drop[:, column] = base - cosines(Z - np.outer(taken, estimator.components_[:, latent]))
    return drop


def pairs_of(rows: int, count: int = 200) -> np.ndarray:
    """Draw pairs of `rows` companies, each company in as few as can be."""
    if rows >= 2 * count:
        return np.arange(2 * count).reshape(-1, 2)
    every = np.stack(np.triu_indices(rows, 1), axis=1)
    return every[np.random.default_rng(3).permutation(len(every))[:count]]


def cosines(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Inner products of unit rows."""
    result: np.ndarray = np.einsum("ij,ij->i", vectors[pairs[:, 0]], vectors[pairs[:, 1]])
    return result


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the best time of three, and the result."""
    best = np.inf
    for _ in range(3):
        started = time.perf_counter()
        found = work()
        best = min(best, time.perf_counter() - started)
    return best, found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both sides, or the full size, and print one JSON line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=21, help="companies the pairs are of")
    options.add_argument("--full", action="store_true")
    options.add_argument("--tiny", action="store_true", help="a second's work, for the tests")
    given = options.parse_args(arguments)
    m, components, chosen, n = (300, 40, 50, given.rows) if given.tiny else (8192, 4000, 1000, given.rows)
    if given.full:
        m, chosen, n = 131_072, 131_072, 400
    estimator, X = fitted(m, components), documents(n, m)
    pairs = pairs_of(n)
    latents = np.sort(np.random.default_rng(2).choice(m, chosen, replace=False))
    print(
        f"{len(pairs)} pairs of {n} companies, {chosen} of {m} latents, {components} components; {peak_mb()} MB so far",
        flush=True,
    )
    started, worked = time.perf_counter(), time.process_time()
    found = attribute(estimator, X, pairs, latents)
    whole, processor = time.perf_counter() - started, time.process_time() - worked
    memory = peak_mb()
    few = latents[:: max(chosen // 4, 1)][: 1 if given.full else 4]
    base = cosines(estimator.transform(X), pairs)
    started = time.perf_counter()
    anew = np.stack([base - cosines(estimator.transform(removed(X, j)), pairs) for j in few], axis=1)
    reprojected = (time.perf_counter() - started) / len(few) * chosen
    difference = float(np.abs(found.drop[:, np.searchsorted(latents, few)] - anew).max())
    result: dict[str, Any] = {
        "benchmark": "attribution",
        "ratio": round(reprojected / whole, 1),
        "max_difference": difference,
        "pairs": len(pairs),
        "companies": n,
        "latents": chosen,
        "components": components,
        "seconds_ours": round(whole, 3),
        "cpu_seconds_ours": round(processor, 3),
        "seconds_reprojection": round(reprojected, 1),
        "peak_mb": memory,
    }
    if not given.full:
        rows = rows_of(estimator, X)
        assert isinstance(rows, Projected)
        ours, _ = timed(lambda: closed_form(rows, pairs[:, 0], pairs[:, 1], latents))
        theirs, drop = timed(lambda: public_loop(rows.P, X, estimator, pairs, latents))
        result |= {
            "ratio_update": round(theirs / ours, 1),
            "max_difference": max(difference, float(np.abs(drop - found.drop).max())),
            "seconds_ours_projected": round(ours, 4),
            "seconds_update": round(theirs, 3),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
