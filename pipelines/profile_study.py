"""How far does SAE similarity go on the shared company profiles? The study of docs/STUDY.md, start to end.

Usage: ``python pipelines/profile_study.py --data ../shared/data --cache DIR`` prints its tables as Markdown. The cache
keeps the language model's pass, embeddings and the figures of similarities already scored, so a stopped run goes on.

Every choice is made by `choose`, which is given return correlations of 2003 to 2013 and no others. A trial that reads
returns is fitted on years to 2008 and judged on 2009 to 2013; the others are judged on 2003 to 2013. Judged means: the
mean of both yardsticks of METHOD.md, section 7 (`profile_yardsticks.py`). The best trial of each family goes to
`final_look`, which fits it again on all years to 2013 and scores 2014 to 2020, once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from profile_vectors import WEIGHTINGS, Tokens, read
from profile_yardsticks import Profiles, load_profiles, minilm_similarity, tfidf_similarity, yearly_yardsticks

from companysim.benchmark import Grouping, adjusted, compare
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

LAST_CHOICE = 2013
LAST_FIT = 2008
DRAWS = 1000
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


@dataclass
class Judge:
    """Scores trials on years to `LAST_CHOICE`, and remembers them.

    Attributes
    ----------
    profiles : Profiles
        Without correlations of later years: the constructor drops them.
    store : path, optional
        JSON file of figures by digest of the similarity.
    rows : list of dict
        Trials in order: family, name, figures, ``score``.
    best : dict of str to Trial
    """

    profiles: Profiles
    store: Path | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        past = {year: values for year, values in self.profiles.correlations.items() if year <= LAST_CHOICE}
        self.profiles = replace(self.profiles, correlations=past)
        self.known: dict[str, dict[str, Any]] = {}
        if self.store is not None and self.store.is_file():
            self.known = json.loads(self.store.read_text())

    def try_all(self, trials: Sequence[Trial]) -> None:
        """Score trials; a tie goes to the one tried first."""
        past = self.profiles.correlations
        early = {year: values for year, values in past.items() if year <= LAST_FIT}
        top = {row["family"]: row["score"] for row in self.rows if row["best so far"]}
        for trial in trials:
            yearly = self._yearly(trial.build(early if trial.supervised else {}))
            late = yearly.loc[[year for year in yearly.index if year > LAST_FIT]].mean()
            whole = yearly.mean() if not trial.supervised else late * np.nan
            score = float((late if trial.supervised else whole).mean())
            found = score > top.get(trial.family, -np.inf)
            if found:
                top[trial.family] = score
                self.best[trial.family] = trial
            self.rows.append(
                {
                    "family": trial.family,
                    "trial": trial.name,
                    "top 2003-13": whole["top"],
                    "peers 2003-13": whole["peers"],
                    "top 2009-13": late["top"],
                    "peers 2009-13": late["peers"],
                    "score": score,
                    "best so far": found,
                }
            )
        if self.store is not None:
            self.store.write_text(json.dumps(self.known))

    def _yearly(self, similarity: np.ndarray) -> pd.DataFrame:
        digest = hashlib.sha256(similarity.tobytes())
        for year, values in sorted(self.profiles.correlations.items()):
            digest.update(f"{year}".encode() + values.tobytes())
        key = digest.hexdigest()
        if key not in self.known:
            self.known[key] = yearly_yardsticks(similarity, self.profiles).to_dict("list")
        return pd.DataFrame(self.known[key], index=sorted(self.profiles.correlations))


def of(estimator: Similarity, vectors: Any) -> np.ndarray:
    """Similarity of all rows by a library estimator fitted on them."""
    result: np.ndarray = estimator.similarity(estimator.fit(vectors).transform(vectors))
    return result


def combined(*similarities: np.ndarray, weights: Sequence[float] | None = None) -> np.ndarray:
    """Weighted mean of similarities, each z-scored over all pairs."""
    above = np.triu_indices(len(similarities[0]), 1)
    total = np.zeros_like(similarities[0])
    for similarity, weight in zip(similarities, weights or [1.0] * len(similarities), strict=True):
        pairs = similarity[above]
        total += weight * (similarity - pairs.mean()) / pairs.std()
    return total / sum(weights or [1.0] * len(similarities))


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


def learned(similarity: np.ndarray, correlations: Correlations, ridge: float, seed: int = 0) -> np.ndarray:
    """Return correlation expected from text: a bilinear form of text vectors, fitted by ridge regression.

    Z holds a constant and the leading principal components of the similarity. The matrix M minimises the squared
    difference of ``Z M Z'`` to the mean correlations C of past years: ``M = P C P'``, ``P = (Z'Z + ridge I)^-1 Z'``.
    C has no diagonal; it is filled from the fit, twice. A pair is predicted by an M that has seen no return of either
    of its companies (ten folds of companies), so that no company is recognised: only what words mean is learned.
    """
    n = len(similarity)
    stack = np.stack(list(correlations.values()))
    known = np.isfinite(stack).sum(axis=0)
    target = np.divide(np.nansum(stack, axis=0), known, out=np.zeros((n, n)), where=known > 0)
    level = target[known > 0].mean()
    target = np.where(known > 0, target - level, 0.0)
    centred = similarity - similarity.mean(axis=0) - similarity.mean(axis=1)[:, None] + similarity.mean()
    values, vectors = np.linalg.eigh(centred)
    kept = np.argsort(-values)[: min(COMPONENTS, int((values > 1e-9 * values[-1]).sum()))]
    z = np.hstack([np.ones((n, 1)), vectors[:, kept] * np.sqrt(values[kept])])
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
                np.fill_diagonal(c, np.einsum("ij,jk,ik->i", own, form, own, optimize=True))
            block = z[fold == a] @ form @ z[fold == b].T
            result[np.ix_(fold == a, fold == b)] = block
            result[np.ix_(fold == b, fold == a)] = block.T
    return (result + result.T) / 2 + level


def weighted_latents(vectors: Any, latents: int, alpha: float, correlations: Correlations) -> np.ndarray:
    """`SupervisedCosine` of one vintage of texts: each training year sees the same rows."""
    years = sorted(correlations)
    estimator = SupervisedCosine(max(years), latents, alpha=alpha)
    rows = sp.vstack([sp.csr_array(vectors)] * len(years), format="csr")
    estimator.fit(sp.csr_array(rows), dict(correlations), np.repeat(years, vectors.shape[0]))
    result: np.ndarray = estimator.similarity(estimator.transform(vectors))
    return result


def sae_trials(tokens: Tokens) -> Iterator[Trial]:
    """Pools times weightings of the latents. Pools that only scale rows are left out where a cosine ignores that."""
    estimators: dict[str, Callable[[], Similarity]] = {
        "cosine": Cosine,
        "log x idf": LogIdfCosine,
        "BM25 k1=1.2 b=0.75": SaturatedCosine,
        "BM25 k1=10 b=0": lambda: SaturatedCosine(10.0, 0.0),
        "BM25 k1=100 b=0": lambda: SaturatedCosine(100.0, 0.0),
        "standardised": StandardisedCosine,
        "log, standardised": lambda: StandardisedCosine(log=True),
        "log, length control, standardised": lambda: StandardisedCosine(length_control=True, log=True),
        "PCA 90 %": PcaCosine,
        "PCA 50 %": lambda: PcaCosine(0.5),
        "log, length control, PCA 90 %": lambda: PcaCosine(length_control=True, log=True),
        "log, length control, PCA 50 %": lambda: PcaCosine(0.5, length_control=True, log=True),
    }
    def trial(pool: str, name: str, prepare: Callable[[Any], Any] = lambda x: x) -> Trial:
        return Trial("SAE", f"{pool}, {name}", lambda _: of(estimators[name](), prepare(tokens.pooled(pool))))

    everything = list(estimators)
    some = [name for name in everything if "PCA" not in name and "k1=10" not in name]
    scaled = [name for name in some if name != "cosine" and "length control" not in name]  # of rows only rescaled
    for pools, chosen in (
        (("sum", "count", "log_sum"), everything),
        (("max",), some),
        (("mean", "log_length"), scaled),
    ):
        for pool in pools:
            for name in chosen:
                yield trial(pool, name)
    yield Trial("SAE", "presence, Jaccard", lambda _: of(Jaccard(), tokens.pooled("sum")))
    for weighting in WEIGHTINGS:
        for pool in ("sum", "count", "log_sum"):
            yield Trial("SAE", f"{pool}, {weighting} tokens, root, cosine", _rooted(tokens, pool, weighting))
    for weighting in WEIGHTINGS[1:]:
        yield Trial(
            "SAE",
            f"sum, {weighting} tokens, cosine",
            lambda _, weighting=weighting: of(Cosine(), tokens.pooled("sum", weighting)),
        )
        for power in (0.35, 0.7):
            yield Trial(
                "SAE", f"sum, {weighting} tokens, power {power}, cosine", _rooted(tokens, "sum", weighting, power)
            )


def _rooted(tokens: Tokens, pool: str, weighting: str, power: float = 0.5) -> Build:
    """Cosine of pooled latents to a power: the root is the Hellinger kernel, up to the length of a row."""
    return lambda _: of(Cosine(), tokens.pooled(pool, weighting).power(power))


def residual_trials(tokens: Tokens) -> Iterator[Trial]:
    """Blocks times means times weightings of the residual stream, without any SAE."""
    for block in (4, 8, 12, 16, 18, 20, 22, 23, 24, 25, 26, 27, 28, 29):
        for weighting, means in zip(WEIGHTINGS, tokens.means, strict=True):
            x, name = means[block].astype(float), f"block {block}, mean over {weighting} tokens"
            yield Trial("residual mean", f"{name}, standardised", lambda _, x=x: of(StandardisedCosine(), x))
            if block in (20, 24, 26, 28):
                yield Trial("residual mean", f"{name}, PCA 90 %", lambda _, x=x: of(PcaCosine(), x))
                yield Trial("residual mean", f"{name}, standardised, root", lambda _, x=x: _signed_root(x))


def _signed_root(x: np.ndarray) -> np.ndarray:
    """Take the root of standardised features, of either sign: what the root is to latents."""
    z = StandardisedCosine().fit_transform(x)
    return of(Cosine(), np.sign(z) * np.sqrt(np.abs(z)))


def expansions(family: str, start: Trial) -> Iterator[Trial]:
    """Query expansion of a family's best."""
    for k in (2, 5):
        yield Trial(family, f"{start.name}; expanded by {k}", lambda _, k=k: expanded(start.build({}), k))


def learned_trials(family: str, start: Trial) -> Iterator[Trial]:
    """`learned` on a family's best, alone and averaged with it."""
    for ridge in (0.1, 0.3, 1.0, 3.0):
        fit = cache_last(lambda past, ridge=ridge: learned(start.build({}), past, ridge))
        yield Trial(f"{family}, supervised", f"{start.name}; learned, ridge {ridge}", fit, True)
        yield Trial(
            f"{family}, supervised",
            f"{start.name}; mean of itself and learned, ridge {ridge}",
            lambda past, fit=fit: combined(start.build({}), fit(past)),
            True,
        )


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


def choose(profiles: Profiles, tokens: Tokens, others: Mapping[str, np.ndarray], store: Path | None = None) -> Judge:
    """Try everything on years to 2013.

    Parameters
    ----------
    profiles : Profiles
        Correlations of later years are dropped before anything is looked at.
    tokens : Tokens
    others : mapping of str to ndarray, shape (n, n)
        ``TF-IDF`` and ``MiniLM``.
    store : path, optional
        Remembers figures.
    """
    judge = Judge(profiles, store)
    constant = {name: _fixed(similarity) for name, similarity in others.items()}
    judge.try_all(list(sae_trials(tokens)))
    judge.try_all(list(residual_trials(tokens)))
    judge.try_all([Trial(name, name, build) for name, build in constant.items()])
    found = {family: judge.best[family] for family in ("SAE", "residual mean", "TF-IDF")}
    plain = {family: replace(trial, build=cache_last(trial.build)) for family, trial in found.items()}
    for family, start in plain.items():
        judge.try_all(list(expansions(f"{family}, expanded", start)))
    for family, start in plain.items():
        judge.try_all(list(learned_trials(family, start)))
    gics, sic = profiles.gics.similarity / 4, profiles.sic.similarity / 3  # codes can learn which groups move, too
    for name, similarity in (("GICS", gics), ("SIC + GICS", (sic + gics) / 2)):
        judge.try_all(list(learned_trials("codes", Trial("codes", name, _fixed(similarity)))))
    rooted = tokens.pooled("sum", "shared idf squared").power(0.5)
    judge.try_all(
        [
            Trial(
                "SAE, supervised",
                f"{name}, {latents} latents weighted by score, alpha {alpha}",
                lambda past, x=x, latents=latents, alpha=alpha: weighted_latents(x, latents, alpha, past),
                True,
            )
            for name, x in (("sum", tokens.pooled("sum")), ("sum, shared idf squared tokens, root", rooted))
            for latents in (500, 1000, 2500)
            for alpha in (0.5, 1.0)
        ]
    )
    parts: dict[str, Build] = {family: cache_last(trial.build) for family, trial in judge.best.items()}
    parts |= {"SIC": _fixed(profiles.sic.similarity), "GICS": _fixed(profiles.gics.similarity)}
    sae, residual, words, mini = "SAE", "residual mean", "TF-IDF", "MiniLM"
    rest = [[residual, words], [words, mini], [residual, words, mini], [residual, words, words]]
    mixed = [[sae, words], [sae, residual], [sae, words, words], [sae, residual, words], [sae, words, mini]]
    mixed += [[sae, residual, words, mini]]
    codes = [[sae, "SIC"], [sae, "GICS"], [sae, "SIC", "GICS"], [sae, words, "GICS"], [sae, words, "SIC", "GICS"]]
    bare = [[name, *other[1:]] for name in (residual, words) for other in codes[:3]]
    bare += [[residual, words, "GICS"], [residual, words, "SIC", "GICS"]]
    judge.try_all(list(combinations("SAE and others", parts, mixed)))
    judge.try_all(list(combinations("others without SAE", parts, rest)))
    judge.try_all(list(combinations("SAE and codes", parts, codes)))
    judge.try_all(list(combinations("codes without SAE", parts, bare)))
    first, second, third = (f"{name}, supervised" for name in (sae, residual, words))
    mixed = [[first, third], [first, second], [first, second, third], [first, second, third, sae, words]]
    rest = [[second, third], [second, third, residual, words]]
    judge.try_all(list(combinations("SAE and others, supervised", parts, mixed, True)))
    judge.try_all(list(combinations("others without SAE, supervised", parts, rest, True)))
    return judge


def _fixed(similarity: np.ndarray) -> Build:
    return lambda _: similarity


def final_similarities(
    judge: Judge, profiles: Profiles, tokens: Tokens, others: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Rows of the final table: the yardsticks of METHOD.md, then each family's best, fitted on all years to 2013."""
    past = judge.profiles.correlations
    stack = np.stack([past[year] for year in sorted(past)])
    known = np.isfinite(stack).sum(axis=0)
    found = {
        "SIC hierarchy": profiles.sic.similarity,
        "GICS hierarchy": profiles.gics.similarity,
        "residual mean, block 26, standardised": of(StandardisedCosine(), tokens.means[0, 26].astype(float)),
        "SAE, sum, cosine (default so far)": of(Cosine(), tokens.pooled("sum")),
        "SAE, sum, PCA 90 % (published recipe)": of(PcaCosine(), tokens.pooled("sum")),
    }
    for family, trial in judge.best.items():
        if family not in others:
            found[f"best of {family}"] = trial.build(past)
    # What returns alone say, for scale: not a similarity of texts.
    found["correlation 2003-13"] = np.divide(
        np.nansum(stack, axis=0), known, out=np.full(known.shape, np.nan), where=known > 0
    )
    return found | dict(others)


def final_look(similarities: Mapping[str, np.ndarray], profiles: Profiles, draws: int = DRAWS) -> pd.DataFrame:
    """Every figure of every row on 2014 to 2020, with intervals, and differences to the last row.

    Returns
    -------
    DataFrame
        Indexed by row. ``top`` and ``peers`` are the yardsticks (with ``_low``, ``_high``: firms and years resampled;
        ``_more``: the difference to the last row, with its interval and p-value, adjusted over rows by Benjamini and
        Yekutieli); ``capped``: `top` with at most 5 % of the pairs from one SIC-2 group; ``lift``: inside SIC-2
        groups; ``without 2020``; and ``own``: both yardsticks after each firm's mean correlation of the year is taken
        off both sides of a pair, so that choosing firms that move with everybody earns nothing.
    """
    later = {year: values for year, values in profiles.correlations.items() if year > LAST_CHOICE}
    nobody = np.full(len(profiles.companies), -1)
    groupings = [
        profiles.sic if name == "SIC hierarchy" else Grouping(name, nobody, similarity)
        for name, similarity in similarities.items()
    ]
    outcome = compare(groupings, later, without=(2020,), null_draws=1, bootstrap_draws=draws)
    names = {"at_sic4_pairs": "top", "peers5": "peers", "at_sic4_pairs_capped": "capped", "lift_in_sic2": "lift"}
    labels = [profiles.sic.name if grouping is profiles.sic else grouping.name for grouping in groupings]
    table = pd.DataFrame(index=pd.Index([*similarities], name="row"))
    for figure, short in names.items():
        for span, suffix in (("all", ""), ("without 2020", " without 2020")):
            e = outcome.estimates
            rows = e[(e["years"] == span) & (e["figure"] == figure)].set_index("grouping").reindex(labels)
            table[f"{short}{suffix}"] = rows["value"].to_numpy()
            if span == "all":
                table[f"{short}_low"], table[f"{short}_high"] = rows["low"].to_numpy(), rows["high"].to_numpy()
        d = outcome.differences
        rows = d[(d["years"] == "all") & (d["figure"] == figure) & (d["second"] == labels[-1])].set_index("first")
        rows = rows.reindex(labels)
        table[f"{short}_more"] = rows["difference"].to_numpy()
        table[f"{short}_more_low"], table[f"{short}_more_high"] = rows["low"].to_numpy(), rows["high"].to_numpy()
        table[f"{short}_p"] = adjusted(rows["p_value"].to_numpy(), dependence=True)
    own = replace(profiles, correlations={year: without_level(values) for year, values in later.items()})
    yearly = {name: yearly_yardsticks(similarity, own).mean() for name, similarity in similarities.items()}
    for figure in ("top", "peers"):
        table[f"own {figure}"] = [yearly[name][figure] for name in similarities]
    return table


def without_level(values: np.ndarray) -> np.ndarray:
    """Correlations less both firms' mean correlation with all others, plus the mean of all pairs."""
    off = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    present = np.isfinite(off).any(axis=1)
    means = np.full(len(values), np.nan)
    means[present] = np.nanmean(off[present], axis=1)
    result: np.ndarray = values - means[:, None] - means[None, :] + np.nanmean(off)
    return result


def markdown(table: pd.DataFrame) -> str:
    """Lay out a table with three decimals."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    for row in table.itertuples(index=False):
        cells = [f"{x:.3f}".replace("nan", "") if isinstance(x, float) else f"{x}" for x in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--final", action="store_true", help="look at 2014-2020, too, with the choices made")
    arguments = parser.parse_args()
    profiles = load_profiles(arguments.data)
    tokens = read(profiles.companies["text"].tolist(), arguments.cache / "tokens")
    stored = arguments.cache / "minilm.npy"
    if not stored.is_file():
        np.save(stored, minilm_similarity(profiles))
    others = {"MiniLM": np.load(stored), "TF-IDF": tfidf_similarity(profiles)}
    print(f"{len(profiles.companies)} companies, {len(tokens.ids):,} tokens, {len(tokens.value):,} activations\n")
    judge = choose(profiles, tokens, others, arguments.cache / "figures.json")
    trials = pd.DataFrame(judge.rows)
    trials["best so far"] = trials["best so far"].map({True: "*", False: ""})
    trials.to_csv(arguments.cache / "trials.csv", index=False)
    print(f"{len(trials)} trials\n\n{markdown(trials)}\n")
    print("\n".join(f"best of {family}: {trial.name}" for family, trial in judge.best.items()) + "\n")
    if arguments.final:
        table = final_look(final_similarities(judge, profiles, tokens, others), profiles)
        table.to_csv(arguments.cache / "final.csv")
        print(markdown(table.reset_index()))


if __name__ == "__main__":
    main()
