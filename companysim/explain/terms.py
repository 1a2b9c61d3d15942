"""Names for latents from the words that go with them, and the latents two companies have in common.

No language model is asked: a latent is described by the terms whose use varies with it over the companies of the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer

from companysim.encoding.encode import clean
from companysim.similarity import Cosine

MIN_DOCUMENTS = 3


def latent_terms(latents: sp.csr_array, texts: Sequence[str], count: int = 3) -> list[str]:
    """Describe each latent by the terms that go with it.

    The score of a latent and a term is the Pearson correlation, over companies, of the latent's share of the document's
    activation (its entry of the unit vector) with whether the document uses the term.

    Parameters
    ----------
    latents : csr_array, shape (documents, latents)
    texts : sequence of str
    count : int
        Terms per latent.

    Returns
    -------
    list of str
        Terms in falling order of correlation, joined by ", "; empty for a latent active in fewer than three documents.
    """
    vectoriser = CountVectorizer(stop_words="english", binary=True, min_df=MIN_DOCUMENTS, token_pattern=r"[a-z]{3,}")
    used = vectoriser.fit_transform([clean(text) for text in texts]).toarray().astype(float)
    terms = vectoriser.get_feature_names_out()
    vectors = unit_latents(latents)
    active = (latents > 0).sum(axis=0) >= MIN_DOCUMENTS
    scores = _standard(vectors).T @ _standard(used)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [", ".join(terms[row]) if live else "" for row, live in zip(best, active, strict=True)]


def shared_latents(first: np.ndarray, second: np.ndarray, usual: np.ndarray, count: int = 3) -> np.ndarray:
    """Latents two companies share most, beyond what any two companies share.

    The raw cosine of two companies is the sum over latents of ``u_j v_j``. Of that, ``mean_j^2`` is what two average
    companies share; a latent counts by what it adds to it.

    Parameters
    ----------
    first, second : ndarray, shape (latents,)
        Rows of `unit_latents`.
    usual : ndarray, shape (latents,)
        Mean of `unit_latents` over all companies.

    Returns
    -------
    ndarray of int64, shape (at most count,)
        Latents in falling order; fewer if fewer add anything.
    """
    excess = first * second - usual**2
    order = np.argsort(-excess, kind="stable")[:count]
    kept: np.ndarray = order[excess[order] > 0]
    return kept


def unit_latents(latents: sp.csr_array) -> np.ndarray:
    """Rows of `latents` divided by their Euclidean norm, shape (documents, latents)."""
    unit: np.ndarray = Cosine().transform(latents)
    return unit


def _standard(X: np.ndarray) -> np.ndarray:
    centred = X - X.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    standard: np.ndarray = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    return standard
