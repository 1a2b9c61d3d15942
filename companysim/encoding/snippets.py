"""Where each latent fires most: the passages explanations are made of, kept from the one pass through the models."""

from __future__ import annotations

import numpy as np
import pandas as pd

from companysim.encoding.encode import Encoded
from companysim.encoding.store import Store

CONTEXT = 16
"""Tokens shown on either side of the token on which a latent fires most."""


class TopSnippets:
    """The documents in which each latent fires most strongly, at most `size` for each latent.

    One passage a document, around the token of the maximum, so that a latent's snippets come from different companies.
    Documents may be added in any order and any number of parts: ties go to the smaller document number, so that the
    result is the same.

    Parameters
    ----------
    n_latents : int
    size : int
        Snippets kept for each latent.
    """

    def __init__(self, n_latents: int, size: int = 20) -> None:
        self._peak = np.full((n_latents, size), -np.inf, dtype=np.float32)
        self._document = np.full((n_latents, size), -1, dtype=np.int64)
        self._span = np.zeros((n_latents, size, 4), dtype=np.int32)

    def add(self, encoded: Encoded, documents: np.ndarray) -> TopSnippets:
        """Add documents whose numbers are `documents`, one for each row of `encoded`; returns itself."""
        pooled = encoded.pooled
        row = np.repeat(np.arange(len(documents)), np.diff(pooled.indptr))
        # What is weaker than all that is kept already cannot enter.
        strong = pooled.peak >= self._peak[pooled.latent, -1]
        row, latent, peak, token = row[strong], pooled.latent[strong], pooled.peak[strong], pooled.token[strong]
        held_latent, held_rank = np.nonzero(self._document >= 0)
        latents = np.concatenate([held_latent, latent])
        peaks = np.concatenate([self._peak[held_latent, held_rank], peak])
        numbers = np.concatenate([self._document[held_latent, held_rank], documents[row]])
        spans = np.concatenate([self._span[held_latent, held_rank], _spans(encoded.starts, row, token)])
        order = np.lexsort((numbers, -peaks, latents))
        first = np.searchsorted(latents[order], latents[order])
        rank = np.arange(len(order)) - first
        kept, rank = order[rank < self._peak.shape[1]], rank[rank < self._peak.shape[1]]
        self._peak[latents[kept], rank] = peaks[kept]
        self._document[latents[kept], rank] = numbers[kept]
        self._span[latents[kept], rank] = spans[kept]
        return self

    def to_frame(self, filing_ids: np.ndarray) -> pd.DataFrame:
        """One row a snippet, strongest first.

        Parameters
        ----------
        filing_ids : ndarray of str
            By document number.

        Returns
        -------
        DataFrame
            latent, rank (from 1), filing_id, value, start, end (characters of the cleaned text), peak_start, peak_end
            (characters of the token on which the latent fires most).
        """
        latent, rank = np.nonzero(self._document >= 0)
        span = self._span[latent, rank]
        return pd.DataFrame(
            {
                "latent": latent,
                "rank": rank + 1,
                "filing_id": filing_ids[self._document[latent, rank]],
                "value": self._peak[latent, rank],
                "start": span[:, 0],
                "end": span[:, 1],
                "peak_start": span[:, 2],
                "peak_end": span[:, 3],
            }
        )


def top_snippets(store: Store, index: pd.DataFrame, size: int = 20) -> pd.DataFrame:
    """Snippets of each latent over the filings of `index` (see `Store.index`), whatever the order of its rows.

    One shard is in memory at a time.
    """
    index = index.sort_values("filing_id", ignore_index=True)  # ties go to the first filing_id
    found: TopSnippets | None = None
    for rows, encoded in store.parts(index):
        found = found or TopSnippets(encoded.pooled.n_latents, size)
        found.add(encoded, rows)
    assert found is not None, "a store's index holds at least one filing"
    return found.to_frame(index["filing_id"].to_numpy())


def _spans(starts: list[np.ndarray], row: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Characters where the passage and the token begin and end, shape (n, 4)."""
    bounds = np.cumsum([0, *map(len, starts)])
    text = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int32)
    length = np.diff(bounds)[row] - 1  # the last start is the text's end
    at = bounds[:-1][row]
    # Tokens that are bytes of one character share its start; all of them end where the next character begins.
    grows = np.append(text[1:] > text[:-1], True)
    following = np.minimum.accumulate(np.where(grows, np.arange(1, len(text) + 1), len(text))[::-1])[::-1]
    after = np.minimum(following[at + token] - at, length)
    edges = (np.maximum(token - CONTEXT, 0), np.minimum(token + CONTEXT + 1, length), token, after)
    return np.stack([text[at + edge] for edge in edges], axis=1)
