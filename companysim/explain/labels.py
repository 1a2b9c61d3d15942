"""Labels for latents from the passages in which they fire most: no language model, no service.

A label is the words that stand where the latent fires, as far as the corpus does not use them that often anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from companysim.encoding.encode import clean
from companysim.encoding.pooling import Pooled

TERMS = "terms"
"""How the labels of `term_labels` were made, as the column ``method`` says it."""
REACH = 12
"""Words on either side of the firing word that may enter a label."""
DECAY = 0.8
"""Weight of a word by its distance from the firing word, in words: ``DECAY ** distance``."""
LEAST = 2
"""Snippets, each of another company, a term must occur in."""
BELIEVABLE = 0.5
"""Support from which on a label is shown without a question mark."""
_WORD = re.compile(r"[^\W\d_]+|\d+")


def label_table(snippets: pd.DataFrame, texts: Mapping[str, str], pooled: Pooled) -> pd.DataFrame:
    """Label every latent by terms.

    Parameters
    ----------
    snippets : DataFrame
        See `companysim.encoding.snippets.TopSnippets.to_frame`.
    texts : mapping of str to str
        Text by filing_id. Snippets of other filings are not looked at.
    pooled : Pooled
        Latents of the documents.

    Returns
    -------
    DataFrame
        latent, label (empty where no term stands out), method, support (share of the latent's snippets in which the
        label's terms occur, see `mentions`; NaN without a label), documents (in which the latent fires). One row a
        latent, in their order.
    """
    labels = term_labels(snippets, texts, pooled.n_latents)
    support = np.full(pooled.n_latents, np.nan)
    cleaned = {filing: clean(text) for filing, text in texts.items()}
    for latent, own in snippets[snippets["filing_id"].isin(texts)].groupby("latent"):
        label = labels[int(str(latent))]
        spans = zip(own["filing_id"], own["start"], own["end"], strict=True)
        if label:
            support[int(str(latent))] = np.mean([mentions(label, cleaned[i][start:end]) for i, start, end in spans])
    return pd.DataFrame(
        {
            "latent": np.arange(pooled.n_latents),
            "label": labels,
            "method": TERMS,
            "support": support,
            "documents": np.bincount(pooled.latent, minlength=pooled.n_latents),
        }
    )


def shown(label: str, support: float) -> str:
    """Label as people are shown it: with a question mark where its terms occur in less than half of the snippets.

    On the half of the sample's companies a label was not made from, it tells the passages of its latent from others the
    better the higher its support is: balanced accuracy 0.52 below a support of one half, 0.65 above three quarters
    (``pipelines/label_scores.py``).
    """
    return (f"{label} (?)" if support < BELIEVABLE else label) if label else "(no label)"


def term_labels(snippets: pd.DataFrame, texts: Mapping[str, str], n_latents: int, count: int = 3) -> list[str]:
    """Name each latent by the terms its strongest snippets have and the corpus has not.

    A word at distance d from the word on which the latent fires weighs ``a_s / a_1 * DECAY ** d``, where ``a_s`` is the
    snippet's activation and ``a_1`` the latent's largest. With ``y_w`` the weight of a word over all snippets, n the
    weight of all positions and ``f_w`` the word's share of the corpus, a word scores ``y_w log(y_w / (n f_w))``, its
    part of the Kullback-Leibler divergence of the snippets from the corpus (Tomokiyo and Hurst 2003). Stop words count
    only where the latent fires on them.

    Parameters
    ----------
    snippets : DataFrame
        latent, filing_id, value, peak_end.
    texts : mapping of str to str
        Text by filing_id.
    n_latents : int
    count : int
        Terms of a label at most. A term that begins like a better one ("banks" after "bank") is left out.

    Returns
    -------
    list of str
        By latent, terms in falling order of their score joined by ", "; empty where no word occurs in two snippets more
        often than by chance.
    """
    filings = sorted(texts)
    cleaned = [clean(texts[filing]) for filing in filings]
    found = [[(match.group().lower(), match.start()) for match in _WORD.finditer(text)] for text in cleaned]
    words = np.array([word for document in found for word, _ in document], dtype=str)
    if not len(words):
        return [""] * n_latents
    vocabulary, word = np.unique(words, return_inverse=True)
    usual = np.bincount(word) / len(word)
    stop = np.isin(vocabulary, list(ENGLISH_STOP_WORDS))
    letter = np.char.str_len(vocabulary) < 2
    bounds = np.cumsum([0, *map(len, found)])

    # In one order, so that sums are taken the same way whatever the order of the rows.
    known = snippets[snippets["filing_id"].isin(texts)].sort_values(["latent", "filing_id", "peak_end"])
    document = np.searchsorted(np.array(filings), known["filing_id"].to_numpy(dtype=str))
    before, after = bounds[document], bounds[document + 1]
    # Characters of all texts as one line of numbers, so that one search finds the word that fires in each snippet: the
    # last that begins before the token ends, since a token may be the hyphen or comma behind it.
    offset = np.cumsum([0, *(len(text) + 1 for text in cleaned)])
    starts = np.array([offset[row] + start for row, document in enumerate(found) for _, start in document])
    firing = np.searchsorted(starts, offset[document] + known["peak_end"].to_numpy() - 1, side="right") - 1
    firing = np.maximum(firing, before)

    distance = np.arange(-REACH, REACH + 1)
    place = firing[:, None] + distance
    inside = (place >= before[:, None]) & (place < after[:, None])
    terms = word[np.clip(place, 0, len(word) - 1)]
    strength = (known["value"] / known.groupby("latent")["value"].transform("max")).to_numpy(dtype=float)
    weight = strength[:, None] * DECAY ** np.abs(distance)
    counted = inside & ~letter[terms] & (~stop[terms] | (distance == 0))
    latent = np.broadcast_to(known["latent"].to_numpy()[:, None], terms.shape)
    cells, shape = (latent[counted], terms[counted]), (n_latents, len(vocabulary))
    weights = sp.coo_array((weight[counted], cells), shape=shape).tocsr()
    snippet = np.broadcast_to(np.arange(len(known))[:, None], terms.shape)[counted]
    _, once = np.unique(snippet * len(vocabulary) + terms[counted], return_index=True)  # though it repeat the word
    snippets_with = sp.coo_array((np.ones(len(once)), (cells[0][once], cells[1][once])), shape=shape).tocsr()
    total = np.bincount(known["latent"], weights=weight.sum(axis=1), minlength=n_latents)

    names = []
    for row in range(n_latents):
        entries = slice(weights.indptr[row], weights.indptr[row + 1])
        column, y = weights.indices[entries], weights.data[entries]
        expected = total[row] * usual[column]
        often = snippets_with.data[entries] >= LEAST
        column, y, expected = column[often & (y > expected)], *(v[often & (y > expected)] for v in (y, expected))
        order = np.lexsort((column, -y * np.log(y / expected)))
        names.append(", ".join(_distinct([str(vocabulary[term]) for term in column[order]], count)))
    return names


def mentions(label: str, text: str) -> bool:
    """Whether a text has a word that begins with one of the label's terms; never for an empty label.

    The simplest judge of a label: it predicts that the latent fires in the text.
    """
    terms = [re.escape(term.strip().lower()) for term in label.split(",") if term.strip()]
    return bool(terms) and re.search(rf"(?<!\w)(?:{'|'.join(terms)})", text.lower()) is not None


def _distinct(terms: list[str], count: int) -> list[str]:
    """Take the first `count` terms none of which begins like another."""
    kept: list[str] = []
    for term in terms:
        if len(kept) < count and not any(term.startswith(other) or other.startswith(term) for other in kept):
            kept.append(term)
    return kept
