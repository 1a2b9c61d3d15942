"""How far does SAE similarity go on the shared company profiles? The study of docs/STUDY.md, start to end.

Usage: ``python pipelines/profile_study.py --data ../shared/data --cache DIR --final`` prints its tables as Markdown.
The cache keeps the language model's pass, the SAEs trained, embeddings and the figures of similarities already scored,
so a stopped run goes on.

Every choice is made by `choose`, which is given return correlations of 2003 to 2013 and no others. A trial that reads
returns is fitted on years to 2008 and judged on 2009 to 2013; the others are judged on 2003 to 2013. Judged means: the
mean of both yardsticks of METHOD.md, section 7 (`profile_yardsticks.py`). The best trial of each family goes to
`final_look`, which fits it again on all years to 2013 and scores 2014 to 2020, once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from profile_saes import Own, own_latents
from profile_trials import (
    Trial,
    cache_last,
    combinations,
    fixed,
    learned_trials,
    mean_correlations,
    of,
    pooling_trials,
    powered,
    refinements,
    residual_trials,
    selection_trials,
    token_trials,
    word_trials,
)
from profile_vectors import BLOCKS, WEIGHTINGS, Latents, Tokens, read
from profile_yardsticks import (
    PEERS,
    Profiles,
    load_profiles,
    minilm_similarity,
    tfidf_similarity,
    yearly_yardsticks,
)

from companysim.benchmark.comparison import CAP
from companysim.benchmark.metrics import finite_pairs
from companysim.benchmark.resampling import Resamples, interval
from companysim.benchmark.weights import Pairs, Ranking, grouped_pairs, nearest, ranking
from companysim.significance import adjusted, paired_p_value
from companysim.similarity import Cosine, PcaCosine, StandardisedCosine

LAST_CHOICE = 2013
LAST_FIT = 2008
DRAWS = 1000
SAE_BLOCK = 26
OWN = (Own(SAE_BLOCK, 4096, 32), Own(SAE_BLOCK, 1024, 32), Own(28, 4096, 32))
SAE, RESIDUAL, WORDS, MINILM = "SAE", "residual mean", "TF-IDF", "MiniLM"


@dataclass(frozen=True)
class Inputs:
    """What trials are made of.

    Attributes
    ----------
    profiles : Profiles
    latents : Latents
        Of the sample SAE.
    own : dict of Latents
        Of the SAEs trained on the profiles, by name.
    means : dict of ndarray
        Of the residual stream, by block and weighting.
    minilm, tfidf : ndarray, shape (n, n)
    """

    profiles: Profiles
    latents: Latents
    own: dict[str, Latents]
    means: dict[tuple[int, str], np.ndarray]
    minilm: np.ndarray
    tfidf: np.ndarray


def load(data: Path, cache: Path, sae: Path = Path("data/sae")) -> Inputs:
    """Read the profiles and make, or read, everything that needs a language model."""
    profiles = load_profiles(data)
    tokens: Tokens = read(profiles.companies["text"].tolist(), cache / "tokens")
    means = {}
    for block in BLOCKS:
        found = tokens.means(tokens.hidden(block)).astype(float)
        means |= {(block, weighting): x for weighting, x in zip(WEIGHTINGS, found, strict=True)}
    stored = cache / "minilm.npy"
    if not stored.is_file():
        np.save(stored, minilm_similarity(profiles))
    return Inputs(
        profiles,
        tokens.latents(SAE_BLOCK, sae, cache / "sample-sae.safetensors"),
        {str(own): own_latents(own, tokens, cache) for own in OWN},
        means,
        np.load(stored),
        tfidf_similarity(profiles),
    )


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
        Trials in order: family, trial, figures, ``score``, ``best so far``.
    best : dict of str to Trial
        By family.
    scores : dict of str to float
        Of the best.
    """

    profiles: Profiles
    store: Path | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Trial] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

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
        for trial in trials:
            yearly = self._yearly(trial.build(early if trial.supervised else {}))
            late = yearly.loc[[year for year in yearly.index if year > LAST_FIT]].mean()
            whole = yearly.mean() if not trial.supervised else late * np.nan
            score = float((late if trial.supervised else whole).mean())
            found = score > self.scores.get(trial.family, -np.inf)
            if found:
                self.scores[trial.family], self.best[trial.family] = score, trial
            self.rows.append(
                {
                    "family": trial.family,
                    "trial": trial.name,
                    "top 2003-13": whole["top"],
                    "peers 2003-13": whole["peers"],
                    "top 2009-13": late["top"],
                    "peers 2009-13": late["peers"],
                    "score": score,
                    "best so far": "*" if found else "",
                }
            )
        if self.store is not None:
            self.store.write_text(json.dumps(self.known))

    def best_of(self, family: str, among: Sequence[str]) -> Trial:
        """Name the best of several families: its similarity is kept, since others are made of it."""
        trial = self.best[max(among, key=lambda name: self.scores[name])]
        return replace(trial, family=family, build=cache_last(trial.build))

    def _yearly(self, similarity: np.ndarray) -> pd.DataFrame:
        digest = hashlib.sha256(np.round(similarity, 9).tobytes())
        for year, values in sorted(self.profiles.correlations.items()):
            digest.update(f"{year}".encode() + values.tobytes())
        key = digest.hexdigest()
        if key not in self.known:
            self.known[key] = yearly_yardsticks(similarity, self.profiles).to_dict("list")
        return pd.DataFrame(self.known[key], index=sorted(self.profiles.correlations))


def choose(inputs: Inputs, store: Path | None = None) -> Judge:
    """Try everything on years to 2013.

    Parameters
    ----------
    inputs : Inputs
        Correlations of later years are dropped before anything is looked at.
    store : path, optional
        Remembers figures.
    """
    judge = Judge(inputs.profiles, store)
    pooling, powers = "SAE: pooling and weights of latents", "SAE: powers and weights of tokens"
    judge.try_all(list(pooling_trials(inputs.latents)))
    judge.try_all(list(token_trials(inputs.latents)))
    depth = "SAE: depth and width"
    for name, latents in inputs.own.items():
        for weighting, power in (("plain", 1.0), ("plain", 0.5), ("shared idf squared", 0.5)):
            build = powered(latents, "sum", weighting, power)
            judge.try_all([Trial(depth, f"{name}: sum, {weighting} tokens, power {power}", build)])
    judge.try_all(list(residual_trials(inputs.means)))
    judge.try_all(list(word_trials(inputs.profiles, inputs.tfidf)))
    judge.try_all([Trial(MINILM, "mean pool", fixed(inputs.minilm))])
    found = {family: judge.best_of(family, [family]) for family in (RESIDUAL, WORDS, MINILM)}
    found[SAE] = judge.best_of(SAE, [pooling, powers, depth])
    for family, start in found.items():
        judge.try_all([*([start] if family == SAE else []), *refinements(family, start)])
    plain = {family: judge.best_of(family, [family]) for family in found}

    gics, sic = inputs.profiles.gics.similarity / 4, inputs.profiles.sic.similarity / 3
    codes = Trial("codes", "SIC + GICS", fixed((sic + gics) / 2))  # codes can learn which groups move, too
    judge.try_all([codes])
    for family, start in (plain | {"codes": codes}).items():
        judge.try_all(list(learned_trials(f"{family}, taught", start)))
    features = {
        "sum": inputs.latents.pooled("sum"),
        "sum of shared idf squared tokens, root": inputs.latents.pooled("sum", "shared idf squared").power(0.5),
    }
    judge.try_all(list(selection_trials("SAE, taught", features)))

    parts = {family: trial.build for family, trial in plain.items()}
    parts |= {"SIC": fixed(inputs.profiles.sic.similarity), "GICS": fixed(inputs.profiles.gics.similarity)}
    parts |= {name: judge.best_of(name, [name]).build for name in judge.best if name.endswith("taught")}
    mixed = [[SAE, WORDS], [SAE, RESIDUAL], [SAE, MINILM], [SAE, RESIDUAL, WORDS], [SAE, WORDS, MINILM]]
    rest = [[RESIDUAL, WORDS], [RESIDUAL, MINILM], [WORDS, MINILM], [RESIDUAL, WORDS, MINILM]]
    judge.try_all(list(combinations("SAE and others", parts, [*mixed, [SAE, RESIDUAL, WORDS, MINILM]])))
    judge.try_all(list(combinations("others without SAE", parts, rest)))
    for family, texts in (("SAE and codes", [[SAE], [SAE, WORDS]]), ("codes without SAE", [[RESIDUAL], [WORDS]])):
        sets = [[*own, *more] for own in texts for more in (["SIC"], ["GICS"], ["SIC", "GICS"])]
        judge.try_all(list(combinations(family, parts, sets)))
    taught = {family: f"{family}, taught" for family in found}
    mixed = [[taught[family] for family in names] for names in mixed] + [[*taught.values()]]
    rest = [[taught[family] for family in names] for names in rest]
    judge.try_all(list(combinations("SAE and others, taught", parts, mixed, True)))
    judge.try_all(list(combinations("others without SAE, taught", parts, rest, True)))
    return judge


def final_similarities(judge: Judge, inputs: Inputs) -> dict[str, np.ndarray]:
    """Rows of the final table: the yardsticks of METHOD.md, then each family's best, fitted on all years to 2013."""
    past = judge.profiles.correlations
    found = {
        "random": np.zeros_like(inputs.tfidf),  # all pairs tie: its expectation
        "SIC hierarchy": inputs.profiles.sic.similarity,
        "GICS hierarchy": inputs.profiles.gics.similarity,
        "MiniLM, mean pool": inputs.minilm,
        "residual mean, block 26, standardised": of(StandardisedCosine(), inputs.means[SAE_BLOCK, "plain"]),
        "SAE, sum, cosine (default so far)": of(Cosine(), inputs.latents.pooled("sum")),
        "SAE, sum, root, cosine": powered(inputs.latents, "sum", "plain")({}),
        "SAE, sum, PCA 90 % (published recipe)": of(PcaCosine(), inputs.latents.pooled("sum")),
    }
    for family, trial in judge.best.items():
        if ":" not in family:
            found[f"best {family}"] = trial.build(past)
    # What returns alone say, for scale: not a similarity of texts.
    found["mean correlation of 2003-13"] = mean_correlations(past)
    return found | {"TF-IDF": inputs.tfidf}


def final_look(
    similarities: Mapping[str, np.ndarray], profiles: Profiles, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Every figure of every row on 2014 to 2020, with intervals, and differences to the last row.

    Returns
    -------
    DataFrame
        Indexed by row. ``top`` and ``peers`` are the yardsticks; ``capped`` is `top` with at most 5 % of the pairs
        from one SIC-2 group; ``inside`` the mean correlation of the more similar half of the pairs inside SIC-2 groups;
        ``own top`` and ``own peers`` the yardsticks after each firm's mean correlation of the year is taken off both
        sides of a pair, so that choosing firms that move with everybody earns nothing. With ``_low`` and ``_high``
        (95 % of draws of firms and years with replacement), ``_without 2020``, and ``_more``, the difference to the
        last row, with its interval and its p-value, adjusted over rows by Benjamini and Yekutieli.
    """
    later = {year: values for year, values in sorted(profiles.correlations.items()) if year > LAST_CHOICE}
    resamples = Resamples(len(profiles.companies), len(later), draws, seed)
    means: dict[tuple[str, str], list[float]] = {}
    spreads: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, similarity in similarities.items():
        ranked = ranking(similarity)
        for values in later.values():
            for figure, (pairs, scored) in figures(similarity, ranked, profiles, values).items():
                means.setdefault((name, figure), []).append(pairs.mean(scored))
                spreads.setdefault((name, figure), []).append(resamples.year(pairs, scored))
    over = {key: resamples.over_years(np.column_stack(spread)) for key, spread in spreads.items()}
    early = [place for place, year in enumerate(later) if year != 2020]
    last = [*similarities][-1]
    table = pd.DataFrame(index=pd.Index([*similarities], name="row"))
    for figure in dict.fromkeys(figure for _, figure in means):
        own = {name: np.array(means[name, figure]) for name in similarities}
        more = {name: over[name, figure] - over[last, figure] for name in similarities}
        table[figure] = [own[name].mean() for name in similarities]
        table[f"{figure}_low"], table[f"{figure}_high"] = zip(*(interval(over[n, figure]) for n in own), strict=True)
        table[f"{figure}_without 2020"] = [own[name][early].mean() for name in similarities]
        table[f"{figure}_more"] = table[figure] - table.loc[last, figure]
        table[f"{figure}_more_low"], table[f"{figure}_more_high"] = zip(*map(interval, more.values()), strict=True)
        p_values = [np.nan if name == last else paired_p_value(spread) for name, spread in more.items()]
        table[f"{figure}_p"] = adjusted(np.array(p_values), dependence=True)
    return table


def figures(
    similarity: np.ndarray, ranked: Ranking, profiles: Profiles, values: np.ndarray
) -> dict[str, tuple[Pairs, np.ndarray]]:
    """Which pairs each figure of `final_look` is a mean of in a year, and of which values."""
    available = finite_pairs(values)
    coarse = [*profiles.sic.levels.values()][-1]
    count = len(grouped_pairs(profiles.sic.labels, available).i)
    among = ranked.among(available)
    inside = among.among(np.equal.outer(coarse, coarse))
    top, peers = among.top(count), nearest(similarity, available, (PEERS,))[PEERS]
    own = without_level(values)
    return {
        "top": (top, values),
        "peers": (peers, values),
        "capped": (among.top_capped(count, coarse, CAP * count), values),
        "inside": (inside.top(len(inside.i) / 2), values),
        "own top": (top, own),
        "own peers": (peers, own),
    }


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
    inputs = load(arguments.data, arguments.cache)
    print(f"{len(inputs.profiles.companies)} companies, {len(inputs.latents.document):,} tokens\n")
    judge = choose(inputs, arguments.cache / "figures.json")
    trials = pd.DataFrame(judge.rows)
    trials.to_csv(arguments.cache / "trials.csv", index=False)
    print(f"{len(trials)} trials\n\n{markdown(trials)}\n")
    print("\n".join(f"best of {family}: {trial.name}" for family, trial in judge.best.items()) + "\n")
    if arguments.final:
        table = final_look(final_similarities(judge, inputs), inputs.profiles)
        table.to_csv(arguments.cache / "final.csv")
        print(markdown(table.reset_index()))


if __name__ == "__main__":
    main()
