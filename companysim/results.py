"""A finished run, and the questions one asks it."""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.benchmark import correlation
from companysim.config import RunConfig, load_config
from companysim.encoding.encode import Encoded
from companysim.encoding.pooling import Pooled
from companysim.encoding.store import Store
from companysim.errors import ConfigError, DataError, RunError, UnknownTickerError
from companysim.explain import (
    ClusterExplanation,
    Corpus,
    PairExplanation,
    cluster_tables,
    explain_cluster,
    explain_pair,
    numbered,
    return_correlations,
    shared_latents,
    unit_latents,
)
from companysim.explain.clusters import require_cluster
from companysim.matrices import load_arrays
from companysim.similarity import Similarity, restore, sae_similarity
from companysim.universe import log_returns
from companysim.workspace import CONFIG, MARK, SUMMARY, Workspace, write_parquet

REASONS = 2
"""Latents that say why a company is a peer."""
LABELS, CLUSTERS, CLUSTER_LATENTS = "labels.parquet", "clusters.parquet", "cluster_latents.parquet"


class Run:
    """Results of a run directory. Everything is read from disk when first asked for.

    Parameters
    ----------
    root : path
        Directory a run was written to.

    Raises
    ------
    RunError
        If there is no finished run in `root`.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / SUMMARY).is_file():
            raise RunError(f"no finished run in {self.root}: make one with `companysim run --out {self.root}`")
        self.config: RunConfig = load_config(self.root / CONFIG)

    def __repr__(self) -> str:
        """Name, size and place."""
        return f"Run({self.config.name!r}, {len(self.companies)} companies, {str(self.root)!r})"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of ``summary.json``."""
        found: dict[str, Any] = json.loads((self.root / SUMMARY).read_text())
        return found

    @cached_property
    def companies(self) -> pd.DataFrame:
        """One row an encoded company: ticker, cik, company, sic, gics, lines, filing_id, fiscal_year, filed, text."""
        companies = self._table("universe/companies.parquet")
        failed = self._table("encoding/failures.parquet")["filing_id"]
        return companies[~companies["filing_id"].isin(failed)].reset_index(drop=True)

    @cached_property
    def prices(self) -> pd.DataFrame:
        """Adjusted closes, shape (days, companies), in the order of `companies`; days on which none has one are out."""
        return self._table("universe/prices.parquet")[self.companies["ticker"].tolist()].dropna(how="all")

    @cached_property
    def correlations(self) -> np.ndarray:
        """Correlations of daily log returns over the benchmark's years, in the order of `companies`.

        Shape (companies, companies), NaN for pairs with less than 60 days in common.
        """
        years, settings = pd.DatetimeIndex(self.prices.index).year, self.config.benchmark
        chosen = self.prices[(years >= settings.first_year) & (years <= settings.last_year)]
        return correlation(log_returns(chosen, "D").to_numpy(), min_periods=60)

    @cached_property
    def benchmark(self) -> pd.DataFrame:
        """The benchmark over the test years, one row a grouping."""
        return self._csv("benchmark/test.csv")

    @cached_property
    def benchmark_before(self) -> pd.DataFrame:
        """The benchmark over the years before the test years; empty where prices begin with the test years."""
        return self._csv("benchmark/before.csv") if self.summary["benchmark_before"] else self.benchmark.head(0)

    @cached_property
    def figures(self) -> pd.DataFrame:
        """Every figure of the benchmark with its interval, by window (test, before) and returns (raw, components)."""
        return self._csv("benchmark/estimates.csv")

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Paired differences between groupings in every figure, with adjusted p-values."""
        return self._csv("benchmark/differences.csv")

    @cached_property
    def yearly(self) -> pd.DataFrame:
        """Every figure of the benchmark, year by year."""
        return self._csv("benchmark/yearly.csv")

    @cached_property
    def frontier(self) -> pd.DataFrame:
        """Mean correlation of the most similar pairs by share_of_pairs, one column a grouping."""
        return self._csv("benchmark/frontier.csv")

    @cached_property
    def backtest(self) -> pd.DataFrame:
        """The walk-forward backtest, one row a grouping."""
        return self._csv("trading/backtest.csv")

    @cached_property
    def backtest_years(self) -> pd.DataFrame:
        """The walk-forward backtest by calendar year, one row a year and grouping."""
        return self._csv("trading/yearly.csv")

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Traded pairs of every grouping."""
        return self._table("trading/pairs.parquet")

    @cached_property
    def trades(self) -> pd.DataFrame:
        """Every trade with its reason."""
        return self._table("trading/trades.parquet")

    @cached_property
    def equity(self) -> pd.DataFrame:
        """Daily gross and net return of every grouping's book."""
        return self._table("trading/equity.parquet")

    def clusters(self, method: str = "sae") -> pd.DataFrame:
        """Clusters of two or more companies: cluster, size, tickers; the largest first.

        Parameters
        ----------
        method : str
            A grouping of the benchmark, such as ``sae`` or ``sic``.
        """
        partition = self._table("clustering/partition.parquet")
        methods = sorted(partition["method"].unique())
        if method not in methods:
            raise ConfigError(f"no grouping {method!r} in this run: it has {', '.join(methods)}")
        chosen = partition[partition["method"] == method]
        return numbered(chosen["ticker"].tolist(), chosen["cluster"].to_numpy())

    @cached_property
    def labels(self) -> pd.DataFrame:
        """What each latent is about; see `companysim.explain.labels.label_table`."""
        labels = self._table(f"explain/{LABELS}")
        if not {"latent", "label", "method", "support", "documents"} <= set(labels.columns):
            raise RunError(f"the labels of {self.root} are of an older version: run again to make them anew")
        return labels

    @cached_property
    def cluster_rules(self) -> pd.DataFrame:
        """Correlation and rule of each SAE cluster; see `companysim.explain.cluster_tables`."""
        return self._table(f"explain/{CLUSTERS}")

    @cached_property
    def cluster_latents(self) -> pd.DataFrame:
        """Latents that define each SAE cluster: cluster, rank, latent, inside, outside, label."""
        return self._table(f"explain/{CLUSTER_LATENTS}")

    @cached_property
    def snippets(self) -> pd.DataFrame:
        """Passages in which each latent fires most; see `companysim.encoding.snippets.TopSnippets.to_frame`."""
        return self._table("encoding/snippets.parquet")

    @property
    def pooled(self) -> Pooled:
        """Latents of the companies' descriptions, in the order of `companies`."""
        return self._encoded.pooled

    @cached_property
    def latents(self) -> sp.csr_array:
        """Summed latents of each description divided by their Euclidean norm, shape (companies, latents)."""
        return unit_latents(self.pooled.matrix())

    @cached_property
    def usual_latents(self) -> np.ndarray:
        """Mean of `latents` over all companies, shape (latents,)."""
        return np.asarray(self.latents.mean(axis=0)).ravel()

    def explain(self, ticker_1: str, ticker_2: str, k: int = 8) -> PairExplanation:
        """Explain why two companies are similar, and what sets them apart; see `companysim.explain.explain_pair`.

        Parameters
        ----------
        ticker_1, ticker_2 : str
            Any lines of the companies' stock; case does not matter.
        k : int
            Latents shown as shared.

        Raises
        ------
        UnknownTickerError
            If the run has no such ticker; the message names the nearest ones.
        DataError
            If the two are the same company.
        """
        first, second = self._row(ticker_1), self._row(ticker_2)
        correlation = float(self.correlations[first, second])
        return explain_pair(self._corpus, first, second, k, None if np.isnan(correlation) else correlation)

    def explain_cluster(self, cluster: int | str, k: int = 8, method: str = "sae") -> ClusterExplanation:
        """Explain what a cluster is about; see `companysim.explain.explain_cluster`.

        Parameters
        ----------
        cluster : int or str
            Its number in `clusters`, or the ticker of one of its members.
        k : int
            Latents shown.
        method : str
            A grouping of the benchmark, such as ``sae`` or ``sic``.

        Raises
        ------
        ConfigError
            If there is no such cluster or grouping.
        DataError
            If the company is in no cluster of two or more.
        UnknownTickerError
            If the run has no such ticker.
        """
        clusters = self.clusters(method)
        if isinstance(cluster, str) and not cluster.strip().isdecimal():
            number = require_cluster(clusters, self._corpus.tickers[self._row(cluster)], method)
        else:
            number = int(cluster)
        return explain_cluster(self._corpus, self.vectors, clusters, number, k, self._monthly)

    def relabel(self, labels: pd.DataFrame) -> None:
        """Replace the labels of the run, and the tables of its clusters that show them.

        They stay until a stage the labels depend on is repeated.

        Parameters
        ----------
        labels : DataFrame
            Like `labels`.

        Raises
        ------
        RunError
            If another process works on the run, or its last one did not finish this stage.
        """
        workspace = Workspace(self.root)
        with workspace.held():
            folder = self.root / "explain"
            try:
                mark = json.loads((folder / MARK).read_text())
                made, seconds = mark["fingerprint"], mark["seconds"]
            except (OSError, ValueError, KeyError) as error:
                raise RunError(f"the labels of {self.root} were not finished: run again to make them anew") from error
            tables = cluster_tables(replace(self._corpus, labels=labels), self.vectors, self.clusters(), self._monthly)
            for name, table in zip((LABELS, CLUSTERS, CLUSTER_LATENTS), (labels, *tables), strict=True):
                write_parquet(folder / name, table)
            workspace.finish("explain", made, seconds)
        for name in ("labels", "cluster_rules", "cluster_latents", "_corpus"):
            self.__dict__.pop(name, None)

    def peers(self, ticker: str, k: int = 10) -> pd.DataFrame:
        """Return the companies most similar to one of the run.

        Parameters
        ----------
        ticker : str
            Any line of the company's stock; case does not matter.
        k : int
            Number of peers.

        Returns
        -------
        DataFrame
            rank, ticker, company, similarity (of the SAE vectors), same_sic, same_gics (None where a code is missing),
            correlation (of daily log returns over the benchmark's years), why (terms of the two latents the companies
            share most beyond the usual; see `companysim.explain`).

        Raises
        ------
        UnknownTickerError
            If the run has no such ticker; the message names the nearest ones.
        """
        row = self._row(ticker)
        return self._ranked(self.vectors[row], self.latents[[row]], k, row)

    def peers_of_text(self, text: str, k: int = 10) -> pd.DataFrame:
        """Return the companies most similar to a text nobody has seen: a private company, a draft.

        The text goes through the same models and the similarity learned in the run; nothing is fitted again.

        Returns
        -------
        DataFrame
            rank, ticker, company, similarity, why.

        Raises
        ------
        DataError
            If the text is empty after cleaning.
        """
        from companysim.encoding.encode import encode
        from companysim.encoding.models import load_models

        if not any(character.isalnum() for character in text):
            raise DataError("the text holds no word: give a description of a business")
        encoded = encode(*load_models(self.config.encoder), [text])
        if encoded.failures:
            raise DataError(encoded.failures[0])
        latents = encoded.pooled.matrix(self.config.similarity.pool)
        vector = self._estimator.transform(latents)[0]
        return self._ranked(vector, unit_latents(encoded.pooled.matrix()), k, None)

    @cached_property
    def vectors(self) -> np.ndarray:
        """Unit vectors whose inner products are the similarities, shape (companies, size)."""
        return load_arrays(self.root / "similarity" / "sae.safetensors")["vectors"]

    @cached_property
    def _estimator(self) -> Similarity:
        arrays = load_arrays(self.root / "similarity" / "sae_estimator.safetensors")
        found: Similarity = restore(sae_similarity(self.config.similarity), arrays)
        return found

    @cached_property
    def _encoded(self) -> Encoded:
        return Store(self.root / "encoding").read(self.companies)[1]

    @cached_property
    def _corpus(self) -> Corpus:
        pooled = self._encoded.pooled
        matrix = pooled.matrix(self.config.similarity.pool)
        return Corpus(self.companies, pooled, self._encoded.starts, self.labels, matrix, self._estimator)

    @cached_property
    def _monthly(self) -> np.ndarray:
        settings = self.config.benchmark
        return return_correlations(self.prices, settings.first_year, settings.last_year)

    def _ranked(self, vector: np.ndarray, latents: sp.csr_array, k: int, row: int | None) -> pd.DataFrame:
        if k < 1:
            raise ConfigError(f"k is {k}: ask for at least one peer")
        similarity = self.vectors @ vector
        order = [i for i in np.lexsort((self.companies["ticker"], -similarity)) if i != row][:k]
        table = self.companies.iloc[order][["ticker", "company"]].reset_index(drop=True)
        table.insert(0, "rank", np.arange(1, len(order) + 1))
        table["similarity"] = similarity[order]
        if row is not None:
            for scheme in ("sic", "gics"):
                own, other = self.companies[scheme].iloc[row], self.companies[scheme].iloc[order]
                same = [bool(code == own) if code and own else None for code in other]
                table[f"same_{scheme}"] = pd.Series(same, dtype=object)
            table["correlation"] = self.correlations[row, order]
        labels, own = self.labels["label"].tolist(), latents.toarray().ravel()
        shared = [shared_latents(own, self.latents[[i]], self.usual_latents, REASONS) for i in order]
        table["why"] = [" | ".join(filter(None, (labels[j] for j in latents))) for latents in shared]
        return table

    def _row(self, ticker: str) -> int:
        wanted = ticker.strip().upper()
        tickers = self.companies["ticker"].tolist()
        for row, lines in enumerate(self.companies["lines"]):
            if wanted in lines.upper().split():
                return row
        names = dict(zip(self.companies["company"].str.lower(), tickers, strict=True))
        near = difflib.get_close_matches(ticker.strip().lower(), names, n=3, cutoff=0.5)
        near += [name for name in names if ticker.strip().lower() in name and name not in near and len(ticker) > 2]
        likely = [names[name] for name in near] + difflib.get_close_matches(wanted, tickers, n=3, cutoff=0.4)
        hints = list(dict.fromkeys(likely))[:4]
        called = self.companies.set_index("ticker")["company"]
        nearest = ", ".join(f"{hint} ({called[hint]})" for hint in hints)
        advice = f"did you mean {nearest}?" if hints else "`companysim show companies` lists them"
        raise UnknownTickerError(f"no company {ticker!r} in this run of {len(tickers)}: {advice}")

    def _table(self, name: str) -> pd.DataFrame:
        try:
            return pd.read_parquet(self.root / name)
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {self.root / name} ({error}): run again to make it anew") from error

    def _csv(self, name: str) -> pd.DataFrame:
        try:
            return pd.read_csv(self.root / name)
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {self.root / name} ({error}): run again to make it anew") from error
