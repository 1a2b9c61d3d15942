"""What a cluster is about: the latents that define it, the rule that recovers it, its codes and its outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from companysim.errors import ConfigError, DataError
from companysim.explain.corpus import PRESENT, Corpus
from companysim.explain.defining import defining_latents
from companysim.explain.labels import shown
from companysim.explain.rules import Rule, held_out, smallest_rule

GICS_SECTORS = {
    "10": "Energy",
    "15": "Materials",
    "20": "Industrials",
    "25": "Consumer Discretionary",
    "30": "Consumer Staples",
    "35": "Health Care",
    "40": "Financials",
    "45": "Information Technology",
    "50": "Communication Services",
    "55": "Utilities",
    "60": "Real Estate",
}
OUTLIERS = 3


@dataclass(frozen=True)
class ClusterExplanation:
    """What a cluster is about.

    Attributes
    ----------
    cluster : int
        Its number.
    members : DataFrame
        ticker, company, sic, gics, similarity (mean similarity to the other members), nearest (number of the other
        cluster whose members are most similar on average, -1 if there is none), nearest_similarity (that mean); those
        that fit best first.
    similarity : float
        Mean over its pairs.
    mean_correlation, usual_correlation : float or None
        Mean return correlation of its pairs and of all pairs of companies; None where no pair has one.
    latents : DataFrame
        rank, latent, label, method, support, inside, outside (shares of members and of others in which the latent is
        present: three times as strong as the document's mean latent, or more), lift (inside over outside), ticker
        (member in which it is strongest), sentence (of that member, the firing words in ``<<`` and ``>>``).
    rule : Rule
        See `companysim.explain.rules.smallest_rule`; strengths are those of `Corpus.strength`.
    held_out_precision, held_out_recall : float
        See `companysim.explain.rules.held_out`.
    rule_text : str
        The rule in words.
    codes : DataFrame
        scheme (sic, gics), code (two digits; empty where unknown), name, companies.
    """

    cluster: int
    members: pd.DataFrame
    similarity: float
    mean_correlation: float | None
    usual_correlation: float | None
    latents: pd.DataFrame
    rule: Rule
    held_out_precision: float
    held_out_recall: float
    rule_text: str
    codes: pd.DataFrame

    @property
    def outliers(self) -> pd.DataFrame:
        """At most three members least similar to the rest, the least similar first; none of a pair."""
        few = min(OUTLIERS, len(self.members) - 2)
        return self.members.iloc[::-1].head(max(few, 0)).reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """Copy of `latents`."""
        return self.latents.copy()

    def headline(self) -> str:
        """One sentence: size, similarity, return correlation."""
        moved = ""
        if self.mean_correlation is not None:
            moved = f"; mean return correlation {self.mean_correlation:.3f} (all pairs {self.usual_correlation:.3f})"
        return f"Cluster {self.cluster}: {len(self.members)} companies, mean similarity {self.similarity:.3f}{moved}."

    def rule_sentence(self) -> str:
        """One sentence: the rule, how well it recovers the cluster, and what is left of that on companies held out."""
        rule = self.rule
        return (
            f"The smallest rule: {self.rule_text}. It has precision {rule.precision:.0%}, recall {rule.recall:.0%} "
            f"(F1 {rule.f1:.2f}) on the companies it was searched on; on companies held out of the search precision "
            f"{self.held_out_precision:.0%}, recall {self.held_out_recall:.0%}."
        )

    def codes_sentence(self) -> str:
        """One sentence: two-digit SIC codes and GICS sectors of the members."""
        parts = []
        for scheme, rows in self.codes.groupby("scheme", sort=False):
            mix = ", ".join(f"{name} {companies}" for name, companies in _named(rows))
            parts.append(f"{str(scheme).upper()}: {mix}")
        return "; ".join(parts) + "."

    def outliers_sentence(self) -> str:
        """One sentence: which members fit least, and where they would fit; empty for a pair."""
        told = []
        for row in self.outliers.itertuples():
            near = f", to cluster {row.nearest} {row.nearest_similarity:.3f}" if int(str(row.nearest)) >= 0 else ""
            told.append(f"{row.ticker} ({row.company}: {row.similarity:.3f}{near})")
        return f"Least similar to the rest, on average: {'; '.join(told)}." if told else ""

    def summary(self) -> str:
        """Return the explanation as plain text."""
        lines = [self.headline(), "  " + " ".join(self.members["ticker"].sort_values()), "", "What defines it:"]
        for row in self.latents.to_dict("records"):
            named = f"{shown(row['label'], row['support'])} (latent {row['latent']}, {row['method']})"
            lines.append(f"{row['rank']:>3}. {named}: {row['inside']:.0%} of members, {row['outside']:.0%} of others")
            lines.append(f"     {row['ticker']}: {row['sentence']}")
        lines += ["", self.rule_sentence(), self.codes_sentence(), self.outliers_sentence()]
        return "\n".join(lines).rstrip()


def numbered(tickers: Sequence[str], labels: np.ndarray) -> pd.DataFrame:
    """Give numbers to the clusters of two or more companies, the largest first.

    Parameters
    ----------
    tickers : sequence of str, shape (companies,)
    labels : ndarray of int, shape (companies,)
        Cluster of each; negative for none.

    Returns
    -------
    DataFrame
        cluster (from 0), size, tickers (sorted, separated by spaces). Ties go by the tickers.
    """
    table = pd.DataFrame({"ticker": tickers, "label": labels})
    grouped = table[table["label"] >= 0].sort_values("ticker").groupby("label")["ticker"]
    found = pd.DataFrame({"size": grouped.size(), "tickers": grouped.agg(" ".join)})
    found = found[found["size"] > 1].sort_values(["size", "tickers"], ascending=[False, True])
    return found.reset_index(drop=True).rename_axis("cluster").reset_index()


def explain_cluster(
    corpus: Corpus,
    vectors: np.ndarray,
    clusters: pd.DataFrame,
    cluster: int,
    k: int = 8,
    correlations: np.ndarray | None = None,
) -> ClusterExplanation:
    """Explain one cluster of a partition.

    Latents that define it are ranked by the share of members less the share of others in which they are present; of
    those that tie, by how much stronger they are in members.

    Parameters
    ----------
    corpus : Corpus
    vectors : ndarray, shape (documents, size)
        Unit vectors whose inner products are the similarities.
    clusters : DataFrame
        See `numbered`.
    cluster : int
        Number of one of them.
    k : int
        Latents shown.
    correlations : ndarray, shape (documents, documents), optional
        Return correlations, NaN where unknown.

    Raises
    ------
    ConfigError
        If there is no such cluster, or `k` is below 1.
    """
    if k < 1:
        raise ConfigError(f"k is {k}: ask for at least one latent")
    if cluster not in clusters["cluster"].to_numpy():
        have = f"it has {len(clusters)}, numbered from 0" if len(clusters) else "it has none of two or more companies"
        raise ConfigError(f"no cluster {cluster} in this run: {have}; `companysim show clusters` lists them")
    row_of = {ticker: row for row, ticker in enumerate(corpus.tickers)}
    rows = [np.array([row_of[ticker] for ticker in tickers.split()]) for tickers in clusters["tickers"]]
    own = rows[int(np.flatnonzero(clusters["cluster"].to_numpy() == cluster)[0])]
    member = np.isin(np.arange(len(corpus.tickers)), own)
    rule = smallest_rule(corpus.strength, member)
    members, similarity = _members(corpus, vectors, clusters["cluster"].to_numpy(), rows, own)
    return ClusterExplanation(
        cluster,
        members,
        similarity,
        _mean_of_pairs(None if correlations is None else correlations[np.ix_(own, own)]),
        _mean_of_pairs(correlations),
        _defining(corpus, member, k),
        rule,
        *held_out(corpus.strength, member, corpus.tickers),
        in_words(rule, corpus.labels["label"].tolist()),
        _codes(corpus.companies.iloc[own]),
    )


def cluster_tables(
    corpus: Corpus, vectors: np.ndarray, clusters: pd.DataFrame, correlations: np.ndarray | None = None, k: int = 8
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Explain every cluster, for a report.

    Returns
    -------
    clusters : DataFrame
        cluster, size, companies (tickers), mean_correlation (NaN where unknown), rule, precision, recall,
        held_out_precision, held_out_recall.
    latents : DataFrame
        cluster, rank, latent, inside, outside, label.
    """
    facts, latents = [], []
    for row in clusters.itertuples():
        found = explain_cluster(corpus, vectors, clusters, int(str(row.cluster)), k, correlations)
        mean = np.nan if found.mean_correlation is None else found.mean_correlation
        scores = (found.rule.precision, found.rule.recall, found.held_out_precision, found.held_out_recall)
        facts.append((found.cluster, row.size, row.tickers, mean, found.rule_text, *scores))
        latents.append(found.latents.assign(cluster=found.cluster))
    columns = ["cluster", "size", "companies", "mean_correlation", "rule", "precision", "recall"]
    columns += ["held_out_precision", "held_out_recall"]
    defining = ["cluster", "rank", "latent", "inside", "outside", "label"]
    empty = pd.DataFrame(columns=defining)
    return pd.DataFrame(facts, columns=columns), (pd.concat(latents, ignore_index=True) if latents else empty)[defining]


def in_words(rule: Rule, labels: Sequence[str]) -> str:
    """Write a rule as a clause; "average" is the mean latent that fires in the document."""
    told = []
    for condition in rule.conditions:
        name = f'"{labels[condition.latent]}"' if labels[condition.latent] else "(no label)"
        amount = f"is {condition.threshold:.2g} times average or more" if condition.threshold > 0 else "fires"
        told.append(f"{name} (latent {condition.latent}) {amount}")
    return " and ".join(told)


def require_cluster(clusters: pd.DataFrame, ticker: str, method: str) -> int:
    """Return the number of the cluster a company is in; raises `DataError` if it is in none of two or more.

    `method` is the grouping the clusters are of, for the message.
    """
    for row in clusters.itertuples():
        if ticker in str(row.tickers).split():
            return int(str(row.cluster))
    raise DataError(
        f"{ticker} is in no {method} cluster of two or more: `companysim peers {ticker}` lists companies nearest to it"
    )


def _defining(corpus: Corpus, member: np.ndarray, k: int) -> pd.DataFrame:
    strength, latent = corpus.strength, defining_latents(corpus.strength, member, k)
    present = strength[:, latent].toarray() >= PRESENT
    inside = present[member].sum(axis=0) / member.sum()
    outside = present[~member].sum(axis=0) / max((~member).sum(), 1)
    lift = np.divide(inside, outside, out=np.full(len(latent), np.inf), where=outside > 0)
    tickers, sentences = [], []
    rows = np.flatnonzero(member)
    for one in latent:
        own = strength[rows][:, [int(one)]].toarray().ravel()
        strongest = int(rows[np.argmax(own)])
        found = corpus.passage(strongest, int(one))
        tickers.append(corpus.tickers[strongest])
        sentences.append(found.marked() if found else "")
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(latent) + 1),
            "latent": latent,
            **{name: corpus.labels[name].to_numpy()[latent] for name in ("label", "method", "support")},
            "inside": inside,
            "outside": outside,
            "lift": lift,
            "ticker": tickers,
            "sentence": sentences,
        }
    )


def _members(
    corpus: Corpus, vectors: np.ndarray, numbers: np.ndarray, rows: Sequence[np.ndarray], own: np.ndarray
) -> tuple[pd.DataFrame, float]:
    """Members with their mean similarity to the others and the nearest other cluster; mean similarity of the pairs."""
    similarity = vectors[own] @ vectors[own].T
    rest = (similarity.sum(axis=1) - np.diag(similarity)) / (len(own) - 1)
    others = [(int(number), other) for number, other in zip(numbers, rows, strict=True) if other[0] not in own]
    nearest, height = np.full(len(own), -1), np.full(len(own), np.nan)
    if others:
        means = np.stack([vectors[own] @ vectors[other].mean(axis=0) for _, other in others], axis=1)
        nearest = np.array([number for number, _ in others])[np.argmax(means, axis=1)]
        height = means.max(axis=1)
    table = corpus.companies.iloc[own][["ticker", "company", "sic", "gics"]].reset_index(drop=True)
    table = table.assign(similarity=rest, nearest=nearest, nearest_similarity=height)
    ordered = table.sort_values(["similarity", "ticker"], ascending=[False, True], ignore_index=True)
    return ordered, float(rest.mean())


def _codes(companies: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for scheme in ("sic", "gics"):
        counts = companies[scheme].str[:2].value_counts().rename_axis("code").reset_index(name="companies")
        counts = counts.sort_values(["companies", "code"], ascending=[False, True])
        parts.append(counts.assign(scheme=scheme))
    table = pd.concat(parts, ignore_index=True)
    named = (table["scheme"] == "gics") & table["code"].isin(list(GICS_SECTORS))
    table["name"] = table["code"].map(GICS_SECTORS).where(named, "")
    return table[["scheme", "code", "name", "companies"]]


def _named(rows: pd.DataFrame) -> list[tuple[str, int]]:
    """Codes of one scheme as people call them, with their number of companies."""
    calls = rows["name"].where(rows["name"] != "", rows["code"]).replace("", "unknown")
    return list(zip(calls.tolist(), rows["companies"].tolist(), strict=True))


def _mean_of_pairs(table: np.ndarray | None) -> float | None:
    """Mean of the entries above the diagonal, NaN left out; None where nothing else is there."""
    values = np.empty(0) if table is None else table[np.triu_indices(len(table), 1)]
    return float(np.nanmean(values)) if np.isfinite(values).any() else None
