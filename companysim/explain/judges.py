"""Judging labels on passages of companies that had no part in making them.

The store keeps, for each company and latent, the token on which the latent fires most. A passage is the run of 32
tokens this token falls into, runs counted from the start of the text, so that it stands anywhere in the passage.
Passages of the other kind are runs of companies in whose whole text the latent does not fire.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from companysim.encoding.encode import clean
from companysim.errors import ConfigError, DataError
from companysim.explain.corpus import Corpus, passage
from companysim.explain.labels import mentions
from companysim.explain.scores import NOT_ACTIVE, Example, predicted

Kind = Literal["detection", "fuzzing"]
Judge = Callable[[str, Example, Kind], bool | None]
"""Whether a latent with this label fires in the passage, or on its marked words; None for an answer nobody can read."""

TOKENS = 32
LIMIT = 20
_ANSWER = re.compile(r"\b(yes|no|true|false|[01])\b", re.IGNORECASE)
_QUESTION = {
    "detection": "A feature of a neural network is described as: {label}.\n\nPassage: {text}\n\nDoes the passage hold "
    "what the description says? Answer with 1 for yes or 0 for no.",
    "fuzzing": "A feature of a neural network is described as: {label}.\n\nPassage: {text}\n\nAre the words between << "
    "and >> what the description says? Answer with 1 for yes or 0 for no.",
}


def by_terms(label: str, example: Example, kind: Kind) -> bool:
    """Judge without any model, by whether a term of the label is in the passage, or among the marked words.

    See `companysim.explain.labels.mentions`. A marked token that is part of a word stands for the whole word.
    """
    if kind == "detection":
        return mentions(label, example.text)
    words = [passage(example.text, start, end) for start, end in example.marks()]
    return any(mentions(label, word.text[word.start : word.end]) for word in words)


def by_model(ask: Callable[[str], str]) -> Judge:
    """Judge by a language model.

    Parameters
    ----------
    ask : callable
        Answers a prompt, such as `companysim.explain.llm_labels.local_model` returns. The first yes, no, true, false, 1
        or 0 of its answer counts; without one there is no judgement.
    """

    def judge(label: str, example: Example, kind: Kind) -> bool | None:
        text = example.text if kind == "detection" else example.marked()
        answer = _ANSWER.search(ask(_QUESTION[kind].format(label=label, text=text)))
        return answer and answer.group().lower() in ("yes", "true", "1")

    return judge


def judged(label: str, examples: Sequence[Example], kind: Kind, judge: Judge = by_terms) -> list[Example]:
    """Return the passages with the judge's answers. A latent without a label is predicted never to fire."""
    return [predicted(one, judge(label, one, kind) if label else False) for one in examples]


def passages(
    corpus: Corpus,
    rows: Sequence[int],
    kind: Kind = "detection",
    latents: Sequence[int] | None = None,
    *,
    limit: int = LIMIT,
    seed: int = 0,
) -> dict[int, list[Example]]:
    """Draw passages to judge the labels of latents on.

    Of either kind at most `limit`, each of another company, and as many as of the other kind. In fuzzing, a passage
    in which the latent does not fire has a token marked at random, as in delphi.

    Parameters
    ----------
    corpus : Corpus
    rows : sequence of int
        Companies the passages may come from: those the labels were not made from.
    kind : {"detection", "fuzzing"}
    latents : sequence of int, optional
        All by default. Those that fire in none of the companies, or in all, have no passages and are left out.
    limit : int
    seed : int
        Draws go by ticker: the order of `rows` and of the companies does not matter.

    Returns
    -------
    dict of int to list of Example
        By latent. Only the token of a passage's maximum has an activation; weaker ones are not kept by the store.

    Raises
    ------
    ConfigError
        If the kind is unknown or the limit below 1.
    DataError
        If there is no company.
    """
    if kind not in _QUESTION:
        raise ConfigError(f"kind is {kind!r}: choose detection or fuzzing")
    if limit < 1:
        raise ConfigError(f"limit is {limit}: ask for at least one passage of each kind")
    order = sorted((int(row) for row in rows), key=lambda row: corpus.tickers[row])
    if not order:
        raise DataError("there is no company to take passages from: give at least one")
    pooled = corpus.pooled
    texts = {row: _tokens(clean(corpus.companies["text"].iloc[row]), corpus.starts[row]) for row in order}
    fires: dict[int, dict[int, int]] = {}  # by latent and company, the entry of the pooled latents
    for row in order:
        for entry in range(int(pooled.indptr[row]), int(pooled.indptr[row + 1])):
            fires.setdefault(int(pooled.latent[entry]), {})[row] = entry
    found = {}
    for latent in range(pooled.n_latents) if latents is None else latents:
        own = fires.get(int(latent), {})
        others = [row for row in order if row not in own and texts[row]]
        count = min(limit, len(own), len(others))
        if not count:
            continue
        rng = np.random.default_rng([seed, int(latent)])
        strongest = sorted(own, key=lambda row: (-float(pooled.peak[own[row]]), corpus.tickers[row]))
        tenth = {row: 10 * place // len(strongest) for place, row in enumerate(strongest)}
        yes = [list(own)[place] for place in rng.choice(len(own), count, replace=False)]
        no = [others[place] for place in rng.choice(len(others), count, replace=False)]
        examples = [
            _passage(texts[row], int(pooled.token[own[row]]), float(pooled.peak[own[row]]), tenth[row]) for row in yes
        ]
        for row in no:
            token = int(rng.integers(len(texts[row])))
            examples.append(_passage(texts[row], token, 1.0 if kind == "fuzzing" else 0.0, NOT_ACTIVE))
        found[int(latent)] = examples
    return found


def halves(tickers: Sequence[str], seed: int = 0) -> np.ndarray:
    """Deal companies into two halves by ticker, whatever their order; ndarray of bool, True for the first half."""
    order = np.argsort(np.asarray(tickers, dtype=str), kind="stable")
    first = np.zeros(len(order), dtype=bool)
    first[order[np.random.default_rng(seed).permutation(len(order))[: (len(order) + 1) // 2]]] = True
    return first


def _tokens(text: str, starts: np.ndarray) -> list[str]:
    """Tokens of a text; those that are bytes of one character are empty but for the last of them."""
    return [text[start:end] for start, end in pairwise(starts)]


def _passage(tokens: list[str], token: int, value: float, distance: float) -> Example:
    """Passage around a token, on which alone the latent is known to fire."""
    first = token - token % TOKENS
    shown = tokens[first : first + TOKENS]
    activations = [value if place == token - first else 0.0 for place in range(len(shown))]
    return Example(tuple(shown), tuple(activations), float(distance), distance != NOT_ACTIVE)
