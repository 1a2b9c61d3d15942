"""Why two companies are similar, and what sets them apart."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.errors import ConfigError, DataError
from companysim.explain.attribution import attribute
from companysim.explain.corpus import PRESENT, Corpus
from companysim.explain.labels import shown
from companysim.similarity import Cosine
from companysim.similarity.base import column_blocks, unit

COLUMNS = [
    "side",
    "rank",
    "latent",
    "label",
    "method",
    "support",
    "documents",
    "contribution",
    "share",
    "usual",
    "drop",
]
FAINT = 0.1
"""A latent this many times as strong as in the other company, or less, sets the two apart."""
TINY = 1e-9
"""Rounding of sums."""
SIDES = ("shared", "first", "second")


@dataclass(frozen=True)
class PairExplanation:
    """Latents that make two companies similar, and those that set them apart.

    Attributes
    ----------
    tickers, companies : tuple of str
        The two, in the order asked for.
    similarity : float
        Of the run's SAE vectors.
    usual : float
        The similarity of two average companies: the sum of the column of that name over all latents.
    correlation : float or None
        Return correlation, where the run has one.
    table : DataFrame
        One row a latent and side, strongest first: side (``shared``; ``first`` or ``second`` for latents that are
        present in one company and absent or faint in the other), rank (from 1 within a side), latent, label, method
        (how the label was made), support (of the label, see `companysim.explain.labels.label_table`), documents (in
        which the latent fires), contribution (to the similarity; over all latents they add up to it), share
        (contribution over similarity; NaN for the whole pair where some latent contributes more than the similarity,
        which others then take back), usual (what the latent contributes for two average companies), drop (change of
        the similarity if the latent is removed from both), sentence_1, sentence_2 (in which it fires most in either
        company, the firing words in ``<<`` and ``>>``; None where it does not fire).
    """

    tickers: tuple[str, str]
    companies: tuple[str, str]
    similarity: float
    usual: float
    correlation: float | None
    table: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Copy of `table`."""
        return self.table.copy()

    def side(self, name: str) -> pd.DataFrame:
        """Rows of one side: ``shared``, ``first`` or ``second``."""
        return self.table[self.table["side"] == name].reset_index(drop=True)

    def titles(self) -> tuple[str, str, str]:
        """Title of each side."""
        first, second = self.tickers
        return (
            "What makes them alike",
            f"Strong in {first}, faint or absent in {second}",
            f"Strong in {second}, faint or absent in {first}",
        )

    def measure(self, side: str) -> str:
        """Name of what `figure` says of the latents of a side: share, contribution or without it."""
        if side != "shared":
            return "without it"
        return "contribution" if self.table["share"].isna().any() else "share"

    def figure(self, side: str, row: dict[Hashable, Any]) -> str:
        """Write what a latent does for the pair, for a row of `table` as a dict; see `measure`."""
        if side != "shared":
            return f"{-row['drop']:+.4f}"
        return f"{row['contribution']:+.4f}" if self.measure(side) == "contribution" else f"{row['share']:.1%}"

    def sentences(self, side: str, row: dict[Hashable, Any]) -> list[tuple[str, str]]:
        """Ticker and sentence of each company that matters on a side, for a row of `table` as a dict."""
        numbers = {"shared": (1, 2), "first": (1,), "second": (2,)}[side]
        return [(self.tickers[number - 1], row[f"sentence_{number}"]) for number in numbers]

    def headline(self) -> str:
        """One sentence: how similar the two are, and how similar two average companies would be."""
        first, second = self.tickers
        moved = "" if self.correlation is None else f"; return correlation {self.correlation:.2f}"
        return (
            f"{first} ({self.companies[0]}) and {second} ({self.companies[1]}): similarity {self.similarity:.3f}, "
            f"two average companies {self.usual:.3f}{moved}."
        )

    def verdict(self) -> str:
        """One sentence for a pair with nothing particular in common; else empty."""
        if len(self.side("shared")):
            return ""
        return f"{' and '.join(self.tickers)} share no latent beyond what two average companies share."

    def summary(self) -> str:
        """Return the explanation as plain text."""
        lines = [self.headline()]
        for name, title in zip(SIDES, self.titles(), strict=True):
            rows = self.side(name).to_dict("records")
            lines += ["", f"{title}:"] if rows else []
            for row in rows:
                measure, figure = self.measure(name), self.figure(name, row)
                part = f"{figure} of the similarity" if measure == "share" else f"{measure} {figure}"
                named = f"{shown(row['label'], row['support'])} (latent {row['latent']}, {row['method']}; {part})"
                lines.append(f"{row['rank']:>3}. {named}")
                lines += [f"     {ticker}: {sentence}" for ticker, sentence in self.sentences(name, row)]
        if self.verdict():
            lines += ["", self.verdict()]
        return "\n".join(lines)


def explain_pair(
    corpus: Corpus, first: int, second: int, k: int = 8, correlation: float | None = None
) -> PairExplanation:
    """Explain the similarity of two documents by their latents, exactly and without running a model.

    Shared latents are ranked by what they contribute beyond what they contribute for two average companies: latents
    every description has make no pair similar in particular. Latents that set the two apart are present in one (three
    times as strong as its mean latent) and at most a tenth as strong in the other; they are ranked by how much the
    similarity rises when they are removed.

    Parameters
    ----------
    corpus : Corpus
    first, second : int
        Rows of the corpus.
    k : int
        Latents shown as shared, and half as many (rounded up) for either company alone.
    correlation : float, optional
        Return correlation of the two, passed on.

    Raises
    ------
    ConfigError
        If `k` is below 1.
    DataError
        If the two are the same document.
    """
    if k < 1:
        raise ConfigError(f"k is {k}: ask for at least one latent")
    if first == second:
        raise DataError(f"{corpus.tickers[first]} is compared with itself: give two different companies")
    found = attribute(corpus.estimator, corpus.matrix, [(first, second)])
    contribution, drop, similarity = found.contribution[0], found.drop[0], float(found.similarity[0])
    usual = usual_contribution(corpus)
    strength = corpus.strength[[first, second]].toarray()
    excess = contribution - usual
    shared = np.flatnonzero((strength > 0).all(axis=0) & (contribution > 0) & (excess > 0))
    sides = [shared[np.argsort(-excess[shared], kind="stable")][:k]]
    for own, other in (strength, strength[::-1]):
        alone = np.flatnonzero((own >= PRESENT) & (other <= FAINT * own) & (drop < 0))
        sides.append(alone[np.argsort(drop[alone], kind="stable")][: (k + 1) // 2])
    latent = np.concatenate(sides)
    whole = similarity > 0 and np.abs(contribution).max() <= similarity * (1 + TINY)
    table = pd.DataFrame(
        {
            "side": np.repeat(SIDES, [len(side) for side in sides]),
            "rank": np.concatenate([np.arange(1, len(side) + 1) for side in sides]),
            "latent": latent,
            **{name: corpus.labels[name].to_numpy()[latent] for name in ("label", "method", "support", "documents")},
            "contribution": contribution[latent],
            "share": contribution[latent] / similarity if whole else np.nan,
            "usual": usual[latent],
            "drop": drop[latent],
        }
    )[COLUMNS]
    for number, document in enumerate((first, second), start=1):
        found_in = [corpus.passage(document, int(one)) for one in latent]
        table[f"sentence_{number}"] = pd.Series([None if p is None else p.marked() for p in found_in], dtype=object)
    return PairExplanation(
        (corpus.tickers[first], corpus.tickers[second]),
        (str(corpus.companies["company"].iloc[first]), str(corpus.companies["company"].iloc[second])),
        similarity,
        float(usual.sum()),
        correlation,
        table,
    )


def usual_contribution(corpus: Corpus) -> np.ndarray:
    """Return what each latent contributes to the similarity of two average companies, shape (latents,).

    ``mean_j^2`` of the unit rows of a weighted cosine, and 0 for standardised rows, whose mean is 0. Ranked by what
    exceeds it, latents that every company has do not crowd out those that two companies have in particular.
    """
    usual = np.zeros(corpus.matrix.shape[1])
    if not isinstance(corpus.estimator, Cosine):
        return usual
    vectors = unit(corpus.estimator._weighted(corpus.matrix.astype(np.float64)))
    for part, block in column_blocks(vectors):
        usual[part] = block.mean(axis=0) ** 2
    return usual


def shared_latents(first: np.ndarray, second: sp.csr_array, usual: np.ndarray, count: int = 3) -> np.ndarray:
    """Latents two companies share most, beyond what any two companies share.

    The raw cosine of two companies is the sum over latents of ``u_j v_j``. Of that, ``mean_j^2`` is what two average
    companies share; a latent counts by what it adds to it. One that is not active in both adds nothing.

    Parameters
    ----------
    first : ndarray, shape (latents,)
        A row of `unit_latents`, dense.
    second : csr_array, shape (1, latents)
        Another.
    usual : ndarray, shape (latents,)
        Mean of `unit_latents` over all companies.

    Returns
    -------
    ndarray of int64, shape (at most count,)
        Latents in falling order; fewer if fewer add anything.
    """
    active = second.indices
    excess = first[active] * second.data - usual[active] ** 2
    order = np.lexsort((active, -excess))[:count]
    kept: np.ndarray = active[order[excess[order] > 0]].astype(np.int64)
    return kept


def unit_latents(latents: sp.csr_array) -> sp.csr_array:
    """Rows of `latents` divided by their Euclidean norm, shape (documents, latents), columns in order."""
    result: sp.csr_array = Cosine(sparse_output=True).transform(latents)
    result.sort_indices()
    return result
