"""Standardise, principal components, cosine on sparse latents, beside scikit-learn on the same matrix made dense.

scikit-learn's standardising needs the dense matrix, its randomised solver a second one; ours forms columns in blocks.
Both give unit rows of as many components; their cosines are compared. The claim is memory, not speed.

    python benchmarks/pca.py           # 6,000 x 20,000
    python benchmarks/pca.py --full    # ours alone on 27,888 x 131,072, 10,000 non-zeros a row, 4,000 components
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from clustering import peak_mb
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from companysim.similarity import PcaCosine


def latents(n: int, m: int, active: int, seed: int = 0) -> sp.csr_array:
    """Draw latents of documents with 60 themes; `active` non-zeros a row, one in each run of columns."""
    rng = np.random.default_rng(seed)
    taste = 1 / (rng.random((60, m), dtype=np.float32) ** 8 + 0.05)
    run = m // active
    data, indices = np.empty((n, active), dtype=np.float32), np.empty((n, active), dtype=np.int32)
    for row in range(n):
        wanted = taste[rng.integers(60), : run * active].reshape(active, run)
        chosen = (rng.random((active, run), dtype=np.float32) ** wanted).argmax(axis=1)
        indices[row] = chosen + np.arange(active) * run
        data[row] = rng.gamma(1.0, 5.0, active) * (1 + 10 / wanted[np.arange(active), chosen])
    ends = np.arange(0, n * active + 1, active, dtype=np.int32)
    return sp.csr_array((data.ravel(), indices.ravel(), ends), shape=(n, m))


def main() -> None:
    """Run both sides, or the full size, and print one JSON line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--full", action="store_true")
    full = options.parse_args().full
    n, m, active, kept = (27_888, 131_072, 10_000, 4_000) if full else (6_000, 20_000, 1_500, 59)
    X = latents(n, m, active)
    print(f"{n} x {m}, {active} non-zeros a row, {kept} components; {peak_mb()} MB so far", flush=True)

    started, worked = time.perf_counter(), time.process_time()
    estimator = PcaCosine(n_components=kept).fit(X)
    fitted = time.perf_counter()
    mine = estimator.transform(X)
    stopped = time.perf_counter()
    result: dict[str, Any] = {
        "benchmark": "pca",
        "fit_seconds": round(fitted - started, 1),
        "transform_seconds": round(stopped - fitted, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "explained": float(estimator.explained_variance_ratio_.sum()),
        "peak_mb_ours": peak_mb(),
    }
    if not full:
        before = time.perf_counter()
        scaled = StandardScaler().fit_transform(X.toarray())
        peer = PCA(kept, svd_solver="randomized", random_state=0)
        theirs = peer.fit_transform(scaled)
        seconds = time.perf_counter() - before
        theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
        result |= {
            "ratio": round(seconds / (stopped - started), 2),
            "max_difference": float(np.abs(mine[:500] @ mine[:500].T - theirs[:500] @ theirs[:500].T).max()),
            "explained_by_scikit_learn": float(peer.explained_variance_ratio_.sum()),
            "peak_mb_public": peak_mb(),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
