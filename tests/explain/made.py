"""A corpus made by hand: latents as a dense matrix, each firing on a word of one's choice."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.encoding.pooling import Pooled
from companysim.explain import Corpus
from companysim.similarity import Cosine, Similarity

TEXT = "It drills wells. It owns rigs and pipes in the Gulf. It sells oil to banks."


def corpus(
    matrix: np.ndarray,
    texts: Sequence[str] | None = None,
    estimator: Similarity | None = None,
    labels: Sequence[str] | None = None,
) -> Corpus:
    """Documents D0, D1, ... in which latent j fires most on word j of the text, counted around its end."""
    rows, latents = matrix.shape
    texts = list(texts or [TEXT] * rows)
    starts = [np.array([m.start() for m in re.finditer(r"\S+", text)] + [len(text)], dtype=np.int32) for text in texts]
    csr = sp.csr_array(matrix.astype(np.float32))
    row = np.repeat(np.arange(rows), np.diff(csr.indptr))
    words = np.array([len(start) - 1 for start in starts])
    pooled = Pooled(
        indptr=csr.indptr.astype(np.int64),
        latent=csr.indices.astype(np.int32),
        total=csr.data,
        peak=csr.data,
        count=np.ones(csr.nnz, np.int32),
        token=(csr.indices % words[row]).astype(np.int32),
        tokens=words.astype(np.int64),
        n_latents=latents,
    )
    companies = pd.DataFrame(
        {
            "ticker": [f"D{i}" for i in range(rows)],
            "company": [f"Company {i}" for i in range(rows)],
            "sic": ["1311", "1381", ""] * (rows // 3) + ["6021"] * (rows % 3),
            "gics": ["10102020", "10101010", ""] * (rows // 3) + ["40101010"] * (rows % 3),
            "text": texts,
        }
    )
    table = pd.DataFrame(
        {
            "latent": np.arange(latents),
            "label": list(labels or [f"word {j}" for j in range(latents)]),
            "method": "terms",
            "support": 1.0,
            "documents": (matrix > 0).sum(axis=0),
        }
    )
    fitted = (estimator or Cosine()).fit(csr)
    return Corpus(companies, pooled, starts, table, csr, fitted)
