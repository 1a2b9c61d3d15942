"""Ways to make a similarity of the company profiles: what `profile_study.py` tries.

A trial turns return correlations of past years, which most of them ignore, into a similarity of all companies. Those of
`sae_trials`, `residual_trials` and `word_trials` begin with features; those of `refinements` and `learned_trials` begin
with any similarity, so that every rival is refined and taught in the same ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from profile_vectors import WEIGHTINGS, Latents
from profile_yardsticks import Profiles
from sklearn.feature_extraction.text import CountVectorizer

from companysim.similarity import (
    Cosine,
    Jaccard,
    LogIdfCosine,
    PcaCosine,
    SaturatedCosine,
    Similarity,
    StandardisedCosine,
    SupervisedCosine,
)

FOLDS = 10
COMPONENTS = 300
Correlations = Mapping[int, np.ndarray]
Build = Callable[[Correlations], np.ndarray]


@dataclass(frozen=True)
class Trial:
    """One way to make a similarity.

    Attributes
    ----------
    family : str
        The best of each goes to the final look.
    name : str
    build : callable
        Return correlations of past years -> similarity of all companies, shape (n, n).
    supervised : bool
        Whether `build` reads the correlations.
    """

    family: str
    name: str
    build: Build
    supervised: bool = False


def of(estimator: Similarity, vectors: Any) -> np.ndarray:
    """Similarity of all rows by a library estimator fitted on them."""
    result: np.ndarray = estimator.similarity(estimator.fit(vectors).transform(vectors))
    return result


def fixed(similarity: np.ndarray) -> Build:
    """Build that ignores returns."""
    return lambda _: similarity


def cache_last(build: Build) -> Build:
    """Remember the last result, by the years it was fitted on."""
    held: dict[tuple[int, ...], np.ndarray] = {}

    def remembered(past: Correlations) -> np.ndarray:
        key = tuple(sorted(past))
        if key not in held:
            held.clear()
            held[key] = build(past)
        return held[key]

    return remembered


def pooling_trials(latents: Latents) -> Iterator[Trial]:
    """Pools times weightings of latents. Pools that only scale rows are left out where a cosine ignores that."""
    family = "SAE: pooling and weights of latents"
    estimators: dict[str, Callable[[], Similarity]] = {
        "cosine": Cosine,
        "log x idf": LogIdfCosine,
        "BM25 k1=1.2 b=0.75": SaturatedCosine,
        "BM25 k1=10 b=0": lambda: SaturatedCosine(10.0, 0.0),
        "standardised": StandardisedCosine,
        "log, standardised": lambda: StandardisedCosine(log=True),
        "log, length control, standardised": lambda: StandardisedCosine(length_control=True, log=True),
        "PCA 90 %": PcaCosine,
        "PCA 50 %": lambda: PcaCosine(0.5),
        "log, length control, PCA 50 %": lambda: PcaCosine(0.5, length_control=True, log=True),
    }
    some = ["log x idf", "standardised", "log, standardised"]
    chosen = {"sum": [*estimators], "count": [*estimators], "max": ["cosine", *some], "log_sum": ["cosine", *some]}
    for pool, names in (chosen | {"mean": some, "log_length": some}).items():
        for name in names:
            yield Trial(
                family,
                f"{pool}, {name}",
                lambda _, pool=pool, name=name: of(estimators[name](), latents.pooled(pool)),
            )
    yield Trial(family, "presence, Jaccard", lambda _: of(Jaccard(), latents.pooled("sum")))


def token_trials(latents: Latents) -> Iterator[Trial]:
    """Powers of pooled latents, and weights of tokens; then latents of nearly every profile left out."""
    family = "SAE: powers and weights of tokens"
    for weighting in WEIGHTINGS:
        for pool in ("sum", "count"):
            for power in (0.35, 0.5, 0.7, 1.0):
                name = f"{pool}, {weighting} tokens, power {power}"
                if (weighting, power) != ("plain", 1.0):  # one of `pooling_trials`
                    yield Trial(family, name, powered(latents, pool, weighting, power))
    for weighting in ("plain", "shared idf squared"):
        for share in (0.5, 0.8, 0.95):
            name = f"sum, {weighting} tokens, root, without latents of {share:.0%} of the profiles or more"
            yield Trial(family, name, powered(latents, "sum", weighting, 0.5, share))
        for idf in (0.25, 0.5, 1.0):
            name = f"sum, {weighting} tokens, root, times idf of latents to {idf}"
            yield Trial(family, name, powered(latents, "sum", weighting, 0.5, idf=idf))


def powered(
    latents: Latents, pool: str, weighting: str, power: float = 0.5, share: float = np.inf, idf: float = 0.0
) -> Build:
    """Cosine of pooled latents to a power: the root is the Hellinger kernel, up to the length of a row.

    Latents active in `share` of the profiles or more are left out, the others multiplied by ``log(N / n_j)`` to the
    power `idf`; both judged on unweighted tokens.
    """

    def build(past: Correlations) -> np.ndarray:
        x = latents.pooled(pool, weighting).power(power)
        active = np.diff(sp.csc_array(latents.pooled("count")).indptr) / latents.profiles
        kept = np.flatnonzero((active > 0) & (active < share))
        return of(Cosine(), sp.csr_array(x[:, kept] @ sp.diags_array(np.log(1 / active[kept]) ** idf)))

    return build


def residual_trials(means: Mapping[tuple[int, str], np.ndarray]) -> Iterator[Trial]:
    """Means of the residual stream, by block and weighting of tokens, without any SAE."""
    for (block, weighting), x in means.items():
        name = f"block {block}, mean over {weighting} tokens"
        yield Trial("residual mean", f"{name}, standardised", lambda _, x=x: of(StandardisedCosine(), x))
        yield Trial("residual mean", f"{name}, standardised, root", lambda _, x=x: signed_root(x))
        if weighting == "plain":
            yield Trial("residual mean", f"{name}, PCA 90 %", lambda _, x=x: of(PcaCosine(), x))


def signed_root(x: np.ndarray) -> np.ndarray:
    """Take the root of standardised features, of either sign: what the root is to latents."""
    z = StandardisedCosine().fit_transform(x)
    return of(Cosine(), np.sign(z) * np.sqrt(np.abs(z)))


def word_trials(profiles: Profiles, yardstick: np.ndarray) -> Iterator[Trial]:
    """TF-IDF as in the yardsticks, then with other counts, weights and vocabularies."""
    yield Trial("TF-IDF", "as in the yardsticks", fixed(yardstick))
    for longest, least in ((1, 5), (1, 2), (1, 20), (2, 5)):
        for count in ("log", "root"):
            for power in (0.5, 1.0, 1.5, 2.0, 3.0):
                yield Trial(
                    "TF-IDF",
                    f"{count} of counts, idf to {power}, words of {least} profiles{', pairs of words' * (longest - 1)}",
                    lambda _, s=(count, power, longest, least): words(profiles, *s),
                )


def words(profiles: Profiles, count: str, power: float, longest: int, least: int) -> np.ndarray:
    """Cosine of word counts (``log``: 1 + log; ``root``) times idf to a power, English stop words out."""
    vectoriser = CountVectorizer(stop_words="english", ngram_range=(1, longest), min_df=least)
    x = sp.csr_array(vectoriser.fit_transform(profiles.companies["text"]), dtype=float)
    idf = 1 + np.log((1 + x.shape[0]) / (1 + np.diff(sp.csc_array(x).indptr)))
    x.data = {"log": 1 + np.log(x.data), "root": np.sqrt(x.data)}[count]
    return of(Cosine(), sp.csr_array(x @ sp.diags_array(idf**power)))


def refinements(family: str, start: Trial) -> Iterator[Trial]:
    """Change a family's best in ways that need nothing but its cosines."""
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "centred": lambda s: spectrum(s, 1.0),
        "centred, spectrum to 0.7": lambda s: spectrum(s, 0.7),
        "centred, spectrum to 1.5": lambda s: spectrum(s, 1.5),
        "expanded by 2": lambda s: expanded(s, 2),
        "expanded by 5": lambda s: expanded(s, 5),
        "expanded by 10": lambda s: expanded(s, 10),
        "less hubness of 10": lambda s: without_hubs(s, 10),
    }
    for name, way in ways.items():
        yield Trial(family, f"{start.name}; {name}", lambda past, way=way: way(start.build(past)))


def spectrum(similarity: np.ndarray, power: float) -> np.ndarray:
    """Cosines of centred vectors whose principal components have their variances raised to a power (0: whitened)."""
    values, vectors = principal(similarity)
    moved = (vectors * values**power) @ vectors.T
    norms = np.sqrt(np.diag(moved))
    result: np.ndarray = moved / np.outer(norms, norms)
    return (result + result.T) / 2


def principal(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances and directions of centred vectors with these inner products, largest first; noughts left out."""
    centred = similarity - similarity.mean(axis=0) - similarity.mean(axis=1)[:, None] + similarity.mean()
    values, vectors = np.linalg.eigh((centred + centred.T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > 1e-9 * values[0]
    return values[kept], vectors[:, kept]


def expanded(similarity: np.ndarray, k: int) -> np.ndarray:
    """Cosines of vectors each averaged with its `k` nearest, weighted by similarity (query expansion).

    Given cosines S this needs no vectors: ``A S A'`` with A the averaging, divided by the new norms.
    """
    off = similarity - 2 * np.eye(len(similarity))
    nearest = np.argsort(-off, axis=1, kind="stable")[:, :k]
    average = np.eye(len(similarity))
    np.put_along_axis(average, nearest, np.take_along_axis(off, nearest, axis=1).clip(min=0), axis=1)
    moved = average @ similarity @ average.T
    norms = np.sqrt(np.diag(moved))
    result: np.ndarray = moved / np.outer(norms, norms)
    return (result + result.T) / 2


def without_hubs(similarity: np.ndarray, k: int) -> np.ndarray:
    """Twice the similarity less both companies' mean similarity to their `k` nearest (CSLS, Conneau et al. 2018)."""
    off = np.where(np.eye(len(similarity), dtype=bool), -np.inf, similarity)
    near = np.sort(off, axis=1)[:, -k:].mean(axis=1)
    result: np.ndarray = 2 * similarity - near[:, None] - near
    return result


def learned_trials(family: str, start: Trial) -> Iterator[Trial]:
    """`learned` on a family's best, alone and averaged with it."""
    for ridge in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
        fit = cache_last(lambda past, ridge=ridge: learned(start.build({}), past, ridge))
        yield Trial(family, f"{start.name}; learned, ridge {ridge}", fit, True)
        name = f"{start.name}; mean of itself and learned, ridge {ridge}"
        yield Trial(family, name, lambda past, fit=fit: combined(start.build({}), fit(past)), True)


def learned(similarity: np.ndarray, correlations: Correlations, ridge: float, seed: int = 0) -> np.ndarray:
    """Return correlation expected from text: a bilinear form of text vectors, fitted by ridge regression.

    Z holds a constant and the leading principal components of the similarity. The matrix M minimises the squared
    difference of ``Z M Z'`` to the mean correlations C of past years: ``M = P C P'``, ``P = (Z'Z + ridge I)^-1 Z'``.
    C has no diagonal; it is filled from the fit, twice. A pair is predicted by an M that has seen no return of either
    of its companies (ten folds of companies), so that no company is recognised: only what words mean is learned.
    """
    n = len(similarity)
    mean = mean_correlations(correlations)
    level = float(np.nanmean(mean[np.triu_indices(n, 1)]))
    target = np.nan_to_num(mean - level)
    values, vectors = principal(similarity)
    z = np.hstack([np.ones((n, 1)), (vectors * np.sqrt(values))[:, :COMPONENTS]])
    penalty = ridge * np.eye(z.shape[1])
    penalty[0, 0] = 1e-9  # the constant
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    result = np.zeros((n, n))
    for a in range(FOLDS):
        for b in range(a, FOLDS):
            seen = (fold != a) & (fold != b)
            own, c = z[seen], target[np.ix_(seen, seen)]
            project = np.linalg.solve(own.T @ own + penalty, own.T)
            for _ in range(3):
                form = project @ c @ project.T
                np.fill_diagonal(c, ((own @ form) * own).sum(axis=1))
            block = z[fold == a] @ form @ z[fold == b].T
            result[np.ix_(fold == a, fold == b)] = block
            result[np.ix_(fold == b, fold == a)] = block.T
    return (result + result.T) / 2 + level


def mean_correlations(correlations: Correlations) -> np.ndarray:
    """Mean over the years that have one, shape (n, n); NaN where none has and on the diagonal."""
    stack = np.stack([correlations[year] for year in sorted(correlations)])
    known = np.isfinite(stack).sum(axis=0)
    np.fill_diagonal(known, 0)
    result: np.ndarray = np.divide(np.nansum(stack, axis=0), known, out=np.full(known.shape, np.nan), where=known > 0)
    return result


def selection_trials(family: str, features: Mapping[str, Any]) -> Iterator[Trial]:
    """`SupervisedCosine`: features chosen and weighted by what they said about past correlations."""
    for name, x in features.items():
        for kept in (500, 1000, 2500):
            for alpha in (0.5, 1.0):
                yield Trial(
                    family,
                    f"{name}, {kept} features weighted by score, alpha {alpha}",
                    lambda past, x=x, kept=kept, alpha=alpha: selected(x, kept, alpha, past),
                    True,
                )


def selected(vectors: Any, kept: int, alpha: float, correlations: Correlations) -> np.ndarray:
    """`SupervisedCosine` of one vintage of texts: each training year sees the same rows."""
    years = sorted(correlations)
    estimator = SupervisedCosine(max(years), kept, alpha=alpha)
    rows = sp.vstack([sp.csr_array(vectors)] * len(years), format="csr")
    estimator.fit(sp.csr_array(rows), dict(correlations), np.repeat(years, vectors.shape[0]))
    result: np.ndarray = estimator.similarity(estimator.transform(vectors))
    return result


def combined(*similarities: np.ndarray) -> np.ndarray:
    """Mean of similarities, each z-scored over all pairs."""
    above = np.triu_indices(len(similarities[0]), 1)
    total = np.zeros(similarities[0].shape)
    for similarity in similarities:
        pairs = similarity[above]
        total += (similarity - pairs.mean()) / pairs.std()
    return total / len(similarities)


def combinations(
    family: str, parts: Mapping[str, Build], sets: Sequence[Sequence[str]], supervised: bool = False
) -> Iterator[Trial]:
    """Averages of z-scored similarities; a part named twice counts twice."""
    for names in sets:
        yield Trial(
            family,
            " + ".join(names),
            lambda past, names=names: combined(*(parts[name](past) for name in names)),
            supervised,
        )
