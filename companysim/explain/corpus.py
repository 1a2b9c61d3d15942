"""What explanations are made from: companies, the latents of their descriptions, where they fire, and labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.encoding.encode import clean
from companysim.encoding.pooling import Pooled
from companysim.similarity import Similarity

PRESENT = 3.0
"""A latent counts as present in a document from this multiple of the document's mean latent on: most that fire at all
fire once and weakly, and a label says little about those."""
LONGEST = 240
"""Characters of a sentence that are shown; of a longer one, those around the firing words."""
_ABBREVIATION = re.compile(r"(?:\b(?:Inc|Corp|Co|Ltd|No|St|Mr|Mrs|Ms|Dr|vs|approx)|\b[A-Z])\.$")
_SENTENCE_END = re.compile(r"[.!?]['\")\]\u2019\u201d]*\s+(?=['\"(\[\u2018\u201c]*[A-Z0-9])")


@dataclass(frozen=True)
class Passage:
    """A sentence and the words in it on which a latent fires most.

    Attributes
    ----------
    text : str
        The sentence; "..." stands where a long one was cut.
    start, end : int
        Characters of `text` where the firing words begin and end.
    """

    text: str
    start: int
    end: int

    def marked(self) -> str:
        """Return the sentence with the firing words in ``<<`` and ``>>``, as delphi's fuzzing shows them."""
        return f"{self.text[: self.start]}<<{self.text[self.start : self.end]}>>{self.text[self.end :]}"


@dataclass(frozen=True)
class Corpus:
    """Companies of a run, row by row, and what is known of their latents.

    Attributes
    ----------
    companies : DataFrame
        ticker, company, sic, gics, text; one row a document.
    pooled : Pooled
        Latents of the documents, in the order of `companies`.
    starts : list of ndarray
        Character at which each token begins; see `companysim.encoding.encode.Encoded`.
    labels : DataFrame
        latent, label, method, support, documents; one row a latent, in their order; see
        `companysim.explain.labels.label_table`.
    matrix : csr_array, shape (documents, latents)
        What the similarity reads: `pooled` by the run's pool.
    estimator : Similarity
        The run's similarity, fitted on `matrix`.
    """

    companies: pd.DataFrame
    pooled: Pooled
    starts: list[np.ndarray]
    labels: pd.DataFrame
    matrix: sp.csr_array
    estimator: Similarity

    @cached_property
    def tickers(self) -> list[str]:
        """Ticker of each document."""
        return [str(ticker) for ticker in self.companies["ticker"]]

    @cached_property
    def strength(self) -> sp.csr_array:
        """Strength of each latent in each document, shape (documents, latents); see `relative_strength`."""
        return relative_strength(sp.csr_array(self.matrix))

    def passage(self, document: int, latent: int) -> Passage | None:
        """Sentence in which a latent fires most in a document; None where it does not fire."""
        entries = slice(self.pooled.indptr[document], self.pooled.indptr[document + 1])
        place = entries.start + np.searchsorted(self.pooled.latent[entries], latent)
        if place == entries.stop or self.pooled.latent[place] != latent:
            return None
        token, starts = int(self.pooled.token[place]), self.starts[document]
        # Tokens that are bytes of one character share its start: all of them end where the next character begins.
        following = np.searchsorted(starts, starts[token], side="right")
        end = starts[min(following, len(starts) - 1)]
        return passage(clean(self.companies["text"].iloc[document]), int(starts[token]), int(end))


def relative_strength(matrix: sp.csr_array) -> sp.csr_array:
    """Each latent as a multiple of the mean of those that fire in its document, shape (documents, latents).

    Neither the length of the text nor the scale and number of latents matter to it, so one threshold serves all.
    """
    matrix = matrix.astype(np.float64)
    total, fires = np.asarray(matrix.sum(axis=1)).ravel(), np.diff(matrix.indptr)
    scale = np.divide(fires, total, out=np.zeros_like(total), where=total > 0)
    return sp.csr_array(sp.diags_array(scale) @ matrix)


def passage(text: str, start: int, end: int) -> Passage:
    """Sentence of a text around some characters, and the whole words these belong to.

    Parameters
    ----------
    text : str
    start, end : int
        Characters of a token. It grows to the words it is part of; white space alone means the word that follows.
    """
    while start < len(text) - 1 and text[start].isspace():
        start += 1
    end = max(end, start + 1)
    while end > start + 1 and text[end - 1].isspace():
        end -= 1
    while start > 0 and _is_word(text, start - 1):
        start -= 1
    while end < len(text) and _is_word(text, end):
        end += 1
    first, last = _sentence(text, start, end)
    before, after = "", ""
    if last - first > LONGEST:
        room = max(LONGEST - (end - start), 0) // 2
        if start - first > room:
            first, before = start - room, "... "
        if last - end > room:
            last, after = end + room, " ..."
        # Words that were cut are left out.
        first = min(text.find(" ", first, start) + 1 or first, start) if before else first
        last = max(text.rfind(" ", end, last), end) if after else last
    shift = len(before) - first
    return Passage(f"{before}{text[first:last]}{after}", start + shift, end + shift)


def _sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """Characters where the sentence around ``text[start:end]`` begins and ends."""
    first, last = 0, len(text)
    for match in _SENTENCE_END.finditer(text):
        if _ABBREVIATION.search(text[: match.start() + 1][-8:]):
            continue
        if match.end() <= start:
            first = match.end()
        elif match.start() + 1 >= end:
            last = len(text[: match.end()].rstrip())
            break
    return first, last


def _is_word(text: str, place: int) -> bool:
    """Whether a character is part of a word or number: a letter, digit or hyphen, or the point or comma in 1,700."""
    if text[place] in ".,":
        return 0 < place < len(text) - 1 and text[place - 1].isdigit() and text[place + 1].isdigit()
    return text[place].isalnum() or text[place] in "-'\u2019&"
