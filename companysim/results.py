"""A finished run, and the questions one asks it."""

from __future__ import annotations

import difflib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from companysim.benchmark import correlation
from companysim.config import RunConfig, load_config
from companysim.encoding.store import Store
from companysim.errors import ConfigError, DataError, RunError, UnknownTickerError
from companysim.explain import shared_latents, unit_latents
from companysim.matrices import load_arrays
from companysim.similarity import restore, sae_similarity
from companysim.universe import log_returns
from companysim.workspace import CONFIG


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
        if not (self.root / "summary.json").is_file():
            raise RunError(f"no finished run in {self.root}: make one with `companysim run --out {self.root}`")
        self.config: RunConfig = load_config(self.root / CONFIG)

    def __repr__(self) -> str:
        """Name, size and place."""
        return f"Run({self.config.name!r}, {len(self.companies)} companies, {str(self.root)!r})"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of ``summary.json``."""
        found: dict[str, Any] = json.loads((self.root / "summary.json").read_text())
        return found

    @cached_property
    def companies(self) -> pd.DataFrame:
        """One row an encoded company: ticker, cik, company, sic, gics, lines, filing_id, fiscal_year, filed, text."""
        companies = self._table("universe/companies.parquet")
        failed = self._table("encoding/failures.parquet")["filing_id"]
        return companies[~companies["filing_id"].isin(failed)].reset_index(drop=True)

    @cached_property
    def benchmark(self) -> pd.DataFrame:
        """The benchmark over the test years, one row a grouping."""
        return self._csv("benchmark/test.csv")

    @cached_property
    def benchmark_before(self) -> pd.DataFrame:
        """The benchmark over the years before the test years."""
        return self._csv("benchmark/before.csv")

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
        chosen = partition[(partition["method"] == method) & (partition["cluster"] >= 0)]
        grouped = chosen.sort_values("ticker").groupby("cluster")["ticker"]
        table = pd.DataFrame({"size": grouped.size(), "tickers": grouped.agg(" ".join)})
        table = table[table["size"] > 1].sort_values(["size", "tickers"], ascending=[False, True])
        return table.reset_index(drop=True).rename_axis("cluster").reset_index()

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
        return self._ranked(self._vectors[row], self._latents[row], k, row)

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
        estimator = restore(
            sae_similarity(self.config.similarity), load_arrays(self.root / "similarity" / "sae_estimator.safetensors")
        )
        return self._ranked(estimator.transform(latents)[0], unit_latents(encoded.pooled.matrix())[0], k, None)

    @cached_property
    def _vectors(self) -> np.ndarray:
        return load_arrays(self.root / "similarity" / "sae.safetensors")["vectors"]

    @cached_property
    def _latents(self) -> np.ndarray:
        return unit_latents(Store(self.root / "encoding").read(self.companies)[1].pooled.matrix())

    @cached_property
    def _labels(self) -> list[str]:
        return self._table("explain/labels.parquet")["label"].tolist()

    @cached_property
    def _correlations(self) -> np.ndarray:
        prices = self._table("universe/prices.parquet")
        years = pd.DatetimeIndex(prices.index).year
        settings = self.config.benchmark
        daily = log_returns(prices[(years >= settings.first_year) & (years <= settings.last_year)], "D")
        return correlation(daily.to_numpy(), min_periods=60)

    def _ranked(self, vector: np.ndarray, latents: np.ndarray, k: int, row: int | None) -> pd.DataFrame:
        if k < 1:
            raise ConfigError(f"k is {k}: ask for at least one peer")
        similarity = self._vectors @ vector
        order = [i for i in np.lexsort((self.companies["ticker"], -similarity)) if i != row][:k]
        table = self.companies.iloc[order][["ticker", "company"]].reset_index(drop=True)
        table.insert(0, "rank", np.arange(1, len(order) + 1))
        table["similarity"] = similarity[order]
        if row is not None:
            for scheme in ("sic", "gics"):
                own, other = self.companies[scheme].iloc[row], self.companies[scheme].iloc[order]
                same = [bool(code == own) if code and own else None for code in other]
                table[f"same_{scheme}"] = pd.Series(same, dtype=object)
            table["correlation"] = self._correlations[row, order]
        usual = self._latents.mean(axis=0)
        table["why"] = [
            " | ".join(filter(None, (self._labels[j] for j in shared_latents(latents, self._latents[i], usual, 2))))
            for i in order
        ]
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
