"""The stages of a run in order, each taken from disk when nothing it depends on has changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.benchmark import (
    Grouping,
    calendar_windows,
    classification,
    compare,
    frontier,
    headline,
    pca_residuals,
    to_frame,
)
from companysim.clustering import ThresholdMST, distance_moments
from companysim.config import SAMPLE, RunConfig, load_config
from companysim.encoding.embeddings import SentenceEmbedding, Tfidf
from companysim.encoding.encode import Encoded
from companysim.encoding.filings import encode_filings
from companysim.encoding.models import encoder_settings, load_models
from companysim.encoding.snippets import top_snippets
from companysim.encoding.store import Store
from companysim.encoding.weights import REGISTRY, resolve
from companysim.errors import DataError
from companysim.explain import Corpus, cluster_tables, label_table, numbered, return_correlations
from companysim.matrices import csr_arrays, csr_from, load_arrays, save_arrays
from companysim.results import CLUSTER_LATENTS, CLUSTERS, LABELS, Run
from companysim.similarity import Cosine, PcaCosine, StandardisedCosine, fitted_arrays, restore, sae_similarity
from companysim.trading import Partitions
from companysim.trading import compare as compare_books
from companysim.universe import (
    COMPANIES,
    FILINGS,
    PRICES,
    Universe,
    build_universe,
    bundled,
    log_returns,
    read_table,
)
from companysim.workspace import (
    CONFIG,
    SUMMARY,
    Workspace,
    fingerprint,
    fingerprint_of_code,
    fingerprint_of_path,
    write_csv,
    write_parquet,
    write_text,
)

SIMILARITIES = ("sae", "sae_pca", "minilm", "tfidf", "residual_mean")
FAILURES, SNIPPETS = "failures.parquet", "snippets.parquet"
SCHEMES = ("sic", "gics")
FRONTIER_SHARES = np.geomspace(0.0005, 0.3, 25)


class Reporter:
    """What a run says while it works; this one stays silent."""

    def start(self, stage: str, what: str) -> None:
        """Announce a stage."""

    def advance(self, done: int, total: int) -> None:
        """Report progress inside the stage."""

    def say(self, message: str) -> None:
        """Report something worth a line."""

    def end(self, stage: str, seconds: float, cached: bool) -> None:
        """Close the stage; `cached` if it was taken from disk."""


@dataclass(frozen=True)
class Stage:
    """One stage: what it is called, what it does, what it depends on."""

    name: str
    what: str
    needs: tuple[str, ...]
    code: tuple[str, ...]
    settings: Any
    work: Callable[[Path], None]


def run(
    config: str | Path | RunConfig = SAMPLE, out: str | Path | None = None, reporter: Reporter | None = None
) -> Run:
    """Run the whole pipeline, or what of it is not on disk yet.

    Parameters
    ----------
    config : str, path or RunConfig
        ``sample``, a YAML file, or a configuration.
    out : path, optional
        Run directory, ``runs/<name>`` by default.
    reporter : Reporter, optional
        Told about progress.

    Returns
    -------
    Run
        The finished run, ready for questions.

    Raises
    ------
    CompanySimError
        One of the named errors, for anything the input, the configuration or the surroundings are to blame for.
    """
    chosen = config if isinstance(config, RunConfig) else load_config(config)
    workspace = Workspace(out if out is not None else Path("runs") / chosen.name)
    with workspace.held():
        _Pipeline(chosen, workspace, reporter or Reporter()).run()
    return Run(workspace.root)


class _Pipeline:
    """The stages of one run over one workspace."""

    def __init__(self, config: RunConfig, workspace: Workspace, reporter: Reporter) -> None:
        self.config, self.workspace, self.reporter = config, workspace, reporter
        self.tables = {
            name: bundled(f"sample/{name}{'.csv' if name == 'companies' else '.parquet'}")
            if value == SAMPLE
            else Path(value)
            for name, value in (
                ("filings", config.universe.filings),
                ("companies", config.universe.companies),
                ("prices", config.universe.prices),
            )
        }

    def stages(self) -> tuple[Stage, ...]:
        """All stages in the order of the data's way."""
        c = self.config
        inputs = {name: fingerprint_of_path(path) for name, path in self.tables.items()}
        embedding = c.encoder.embedding
        weights = [
            encoder_settings(c.encoder),
            REGISTRY[embedding] if embedding in REGISTRY else fingerprint_of_path(embedding),
        ]
        dump = c.model_dump(mode="json")
        return (
            Stage("universe", "reading companies, filings and prices", (), ("universe",),
                  [dump["universe"]["as_of"], inputs], self._universe),
            Stage("encoding", "encoding descriptions", ("universe",), ("encoding",),
                  [dump["encoder"], weights], self._encoding),
            Stage("similarity", "fitting similarities", ("encoding",), ("similarity",),
                  dump["similarity"], self._similarity),
            Stage("clustering", "cutting spanning trees", ("similarity",), ("clustering",),
                  dump["clustering"], self._clustering),
            Stage("explain", "naming latents and clusters", ("universe", "similarity", "clustering"),
                  ("explain", "benchmark"), [c.benchmark.first_year, c.benchmark.last_year], self._explain),
            Stage("benchmark", "scoring against returns", ("universe", "similarity", "clustering"), ("benchmark",),
                  [dump["benchmark"], c.seed], self._benchmark),
            Stage("trading", "backtesting pairs", ("universe", "clustering"), ("trading",),
                  [dump["backtest"], c.seed], self._trading),
        )  # fmt: skip

    def run(self) -> None:
        """Run every stage that is not on disk, then write the summary."""
        stages = self.stages()
        prints: dict[str, str] = {}
        for stage in stages:
            upstream = [prints[name] for name in stage.needs]
            prints[stage.name] = fingerprint(stage.settings, upstream, fingerprint_of_code(*stage.code))
        cached = {stage.name: self.workspace.is_done(stage.name, prints[stage.name]) for stage in stages}
        if not all(cached.values()):  # killed from here on, the run is one to resume and not the finished one it was
            (self.workspace.root / SUMMARY).unlink(missing_ok=True)
        write_text(self.workspace.root / CONFIG, self.config.to_yaml())
        for stage in stages:
            self.reporter.start(stage.name, stage.what)
            if not cached[stage.name]:
                started = time.perf_counter()
                stage.work(self.workspace.begin(stage.name))
                self.workspace.finish(stage.name, prints[stage.name], time.perf_counter() - started)
            self.reporter.end(stage.name, self.workspace.seconds(stage.name), cached[stage.name])
        self._summary(stages)

    # Each stage reads what earlier stages wrote and writes its own folder.

    def _universe(self, folder: Path) -> None:
        universe = build_universe(
            read_table(self.tables["filings"], FILINGS),
            read_table(self.tables["companies"], COMPANIES),
            read_table(self.tables["prices"], PRICES),
            pd.Timestamp(self.config.universe.as_of),
        )
        write_parquet(folder / "companies.parquet", universe.companies)
        write_parquet(folder / "prices.parquet", universe.prices, index=True)
        write_text(folder / "dropped.json", json.dumps(universe.dropped, indent=1))

    def _encoding(self, folder: Path) -> None:
        config, say, advance = self.config.encoder, self.reporter.say, self.reporter.advance
        companies = self._read_universe().companies
        total = 2 * len(companies)  # every text passes the language model and the embedding model
        # Changed code is run here; `companysim encode`, whose runs take days, goes by the number of the format.
        settings = encoder_settings(config) | {"code": fingerprint_of_code("encoding")}
        store = Store.create(folder, settings, replace=True)
        failed = encode_filings(
            partial(load_models, config, say),
            companies,
            store,
            latent_budget=config.latent_budget_mb * 2**20,
            report=lambda done, _: advance(int(done), total),
            say=say,
        )
        write_parquet(folder / FAILURES, failed)
        if len(failed) == len(companies):
            raise DataError(f"no description could be encoded ({failed['reason'].iloc[0]})")
        for filing, reason in failed.itertuples(index=False):
            say(f"{filing} could not be encoded and is left out: {reason}")
        companies = self._read_universe().companies
        texts = companies["text"].tolist()
        index, encoded = store.read(companies)
        sentences = SentenceEmbedding(
            resolve(config.embedding, say), device=config.device, revision=config.embedding_revision
        )
        embedding = sentences.encode(
            texts, lambda done, pieces: advance(len(texts) + round(done / pieces * len(texts)), total)
        )
        save_arrays(folder / "residual_mean.safetensors", {"dense": encoded.residual_mean})
        save_arrays(folder / "minilm.safetensors", {"dense": embedding})
        save_arrays(folder / "tfidf.safetensors", csr_arrays(Tfidf().encode(texts)))
        write_parquet(folder / SNIPPETS, top_snippets(store, index))

    def _similarity(self, folder: Path) -> None:
        estimators = {
            "sae": ("latents", sae_similarity(self.config.similarity)),
            "sae_pca": ("latents", PcaCosine(self.config.similarity.pca_variance)),
            "minilm": ("minilm", Cosine()),
            "tfidf": ("tfidf", Cosine()),
            "residual_mean": ("residual_mean", StandardisedCosine()),
        }
        for step, (name, (features, estimator)) in enumerate(estimators.items(), start=1):
            matrix = self._features(features)
            vectors = estimator.fit(matrix).transform(matrix)
            if not vectors.any(axis=1).all():
                raise DataError(f"{name}: at least one description has an empty vector: give a longer text")
            save_arrays(folder / f"{name}.safetensors", {"vectors": vectors})
            if name == "sae":
                save_arrays(folder / "sae_estimator.safetensors", fitted_arrays(estimator))
            self.reporter.advance(step, len(estimators))

    def _clustering(self, folder: Path) -> None:
        companies = self._read_universe().companies
        partitions, thetas = [], {}
        for step, name in enumerate(SIMILARITIES, start=1):
            vectors = self._vectors(name)
            tree = ThresholdMST(share_of_pairs=self.config.clustering.share_of_pairs).fit(vectors)
            mean, sd = distance_moments([vectors])
            thetas[name] = {"theta": tree.theta_, "theta_z": float((tree.theta_ - mean) / sd)}
            partitions.append(self._partition(name, companies, tree.labels_))
            save_arrays(
                folder / f"{name}_tree.safetensors",
                {"left": tree.tree_.left, "right": tree.tree_.right, "weight": tree.tree_.weight},
            )
            self.reporter.advance(step, len(SIMILARITIES))
        for scheme in SCHEMES:
            partitions.append(
                self._partition(scheme, companies, classification(scheme, companies[scheme].tolist()).labels)
            )
        partition = pd.concat(partitions, ignore_index=True)
        write_parquet(folder / "partition.parquet", partition)
        write_text(folder / "thetas.json", json.dumps(thetas, indent=1))

    def _explain(self, folder: Path) -> None:
        universe, settings = self._read_universe(), self.config.benchmark
        companies = universe.companies
        encoded = self._encoded()
        snippets = pd.read_parquet(self.workspace.path("encoding", SNIPPETS))
        texts = dict(zip(companies["filing_id"], companies["text"], strict=True))
        labels = label_table(snippets, texts, encoded.pooled)
        write_parquet(folder / LABELS, labels)
        arrays = load_arrays(self.workspace.path("similarity", "sae_estimator.safetensors"))
        estimator = restore(sae_similarity(self.config.similarity), arrays)
        matrix = encoded.pooled.matrix(self.config.similarity.pool)
        corpus = Corpus(companies, encoded.pooled, encoded.starts, labels, matrix, estimator)
        clusters = numbered(companies["ticker"].tolist(), self._labels(universe)["sae"])
        correlations = return_correlations(universe.prices, settings.first_year, settings.last_year)
        tables = cluster_tables(corpus, self._vectors("sae"), clusters, correlations)
        for name, table in zip((CLUSTERS, CLUSTER_LATENTS), tables, strict=True):
            write_parquet(folder / name, table)

    def _benchmark(self, folder: Path) -> None:
        universe, settings = self._read_universe(), self.config.benchmark
        groupings = self._groupings(universe)
        first = universe.prices.index[0].year
        windows = {"test": (settings.first_year, settings.last_year), "before": (first, settings.first_year - 1)}
        found: dict[str, Any] = {}
        written: dict[str, list[pd.DataFrame]] = {"estimates": [], "differences": [], "yearly": []}
        missing = []
        for step, (window, (start, stop)) in enumerate(windows.items(), start=1):
            months = calendar_windows(log_returns(universe.prices), range(start, stop + 1))
            if window == "test" and not months.returns:
                raise DataError(f"no returns in {start}-{stop}: change benchmark.first_year and last_year")
            correlations = months.correlations()
            kinds = {"raw": correlations} if correlations else {}
            if correlations and settings.components and window == "test":
                kinds["components"] = pca_residuals(months, settings.components).correlations()
            for kind, values in kinds.items():
                comparison = compare(
                    groupings,
                    values,
                    null_draws=settings.null_draws,
                    bootstrap_draws=settings.bootstrap_draws,
                    seed=self.config.seed,
                )
                for name, frames in written.items():
                    frames.append(getattr(comparison, name).assign(window=window, returns=kind))
                if kind == "raw":
                    rows = headline(comparison, groupings)
                    found[window] = {"years": sorted(values), "rows": rows}
                    write_csv(folder / f"{window}.csv", to_frame(rows))
            missing.append(months.to_frame().assign(window=window))
            if window == "test":
                curves = pd.DataFrame({"share_of_pairs": FRONTIER_SHARES}).assign(
                    **{g.name: frontier(g.similarity, correlations, FRONTIER_SHARES) for g in groupings}
                )
                write_csv(folder / "frontier.csv", curves)
            self.reporter.advance(step, len(windows))
        tables = {name: pd.concat(frames, ignore_index=True) for name, frames in written.items()}
        tables["missing"] = pd.concat(missing, ignore_index=True)
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table)
        found["robust"] = _robust(tables["estimates"])
        write_text(folder / "benchmark.json", _json(found))

    def _trading(self, folder: Path) -> None:
        universe = self._read_universe()
        as_of = pd.Timestamp(self.config.universe.as_of)
        groupings = {
            name: Partitions.single(universe.prices.columns, labels, as_of)
            for name, labels in self._labels(universe).items()
        }
        found = compare_books(
            universe.prices, groupings, self.config.backtest, seed=self.config.seed, advance=self.reporter.advance
        )
        for table in ("windows", "pairs", "trades", "equity"):
            write_parquet(folder / f"{table}.parquet", found.table(table))
        write_csv(folder / "yearly.csv", found.table("yearly"))
        write_csv(folder / "backtest.csv", found.figures)
        write_text(folder / "backtest.json", _json(found.figures.to_dict("records")))

    def _summary(self, stages: tuple[Stage, ...]) -> None:
        universe = self._read_universe()
        found = json.loads(self.workspace.path("benchmark", "benchmark.json").read_text())
        tokens = self._encoded().pooled.tokens
        summary = {
            "name": self.config.name,
            "universe": {
                "companies": len(universe.companies),
                "filings": len(universe.companies),
                "years": sorted({int(year) for year in universe.companies["fiscal_year"]}),
                "prices": [f"{universe.prices.index[0]:%Y-%m-%d}", f"{universe.prices.index[-1]:%Y-%m-%d}"],
                "with_sic": int((universe.companies["sic"] != "").sum()),
                "with_gics": int((universe.companies["gics"] != "").sum()),
                "dropped": universe.dropped,
            },
            "encoder": {
                "model": self.config.encoder.model,
                "hook": self.config.encoder.hook,
                "sae": self.config.encoder.sae,
                "similarity": self.config.similarity.sae,
                "tokens": int(tokens.sum()),
            },
            "clustering": json.loads(self.workspace.path("clustering", "thetas.json").read_text()),
            "benchmark_years": found["test"]["years"],
            "benchmark": found["test"]["rows"],
            "benchmark_before": found.get("before", {}).get("rows", []),
            "benchmark_before_years": found.get("before", {}).get("years", []),
            "benchmark_robust": found["robust"],
            "backtest": json.loads(self.workspace.path("trading", "backtest.json").read_text()),
            "timings": {stage.name: round(self.workspace.seconds(stage.name), 2) for stage in stages},
        }
        write_text(self.workspace.root / SUMMARY, _json(summary))

    def _read_universe(self) -> Universe:
        """Read the universe less the companies whose description could not be encoded."""
        companies = pd.read_parquet(self.workspace.path("universe", "companies.parquet"))
        prices = pd.read_parquet(self.workspace.path("universe", "prices.parquet"))
        dropped = json.loads(self.workspace.path("universe", "dropped.json").read_text())
        failures = self.workspace.path("encoding", FAILURES)
        failed = pd.read_parquet(failures)["filing_id"].tolist() if failures.is_file() else []
        if failed:
            companies = companies[~companies["filing_id"].isin(failed)].reset_index(drop=True)
            prices = prices[companies["ticker"].tolist()].dropna(how="all")
            dropped["could not be encoded"] = len(failed)
        return Universe(companies, prices, dropped)

    def _encoded(self) -> Encoded:
        """Latents of the universe's companies and where they fire."""
        return Store(self.workspace.root / "encoding").read(self._read_universe().companies)[1]

    def _features(self, name: str) -> np.ndarray | sp.csr_array:
        if name == "latents":
            return self._encoded().pooled.matrix(self.config.similarity.pool)
        arrays = load_arrays(self.workspace.path("encoding", f"{name}.safetensors"))
        return arrays["dense"] if "dense" in arrays else csr_from(arrays)

    def _vectors(self, name: str) -> np.ndarray:
        return load_arrays(self.workspace.path("similarity", f"{name}.safetensors"))["vectors"]

    def _partition(self, name: str, companies: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
        rows = companies[["filing_id", "ticker", "fiscal_year"]].rename(columns={"fiscal_year": "year"})
        return rows.assign(method=name, cluster=labels)[["method", "year", "cluster", "filing_id", "ticker"]]

    def _labels(self, universe: Universe) -> dict[str, np.ndarray]:
        """Cluster of each company by method, in the order of the universe."""
        partition = pd.read_parquet(self.workspace.path("clustering", "partition.parquet"))
        order = universe.companies["filing_id"]
        return {
            method: partition[partition["method"] == method].set_index("filing_id")["cluster"].loc[order].to_numpy()
            for method in (*SIMILARITIES, *SCHEMES)
        }

    def _groupings(self, universe: Universe) -> list[Grouping]:
        labels = self._labels(universe)
        found = [classification(scheme, universe.companies[scheme].tolist()) for scheme in SCHEMES]
        for name in SIMILARITIES:
            vectors = self._vectors(name)
            similarity = vectors @ vectors.T
            found.append(Grouping(name, labels[name], (similarity + similarity.T) / 2))
        return sorted(found, key=lambda grouping: ("sae", *SCHEMES, *SIMILARITIES).index(grouping.name))


def _robust(estimates: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Figures of the test years that ask whether the matched one rests on one industry or on common factors."""
    test = estimates[(estimates["window"] == "test") & (estimates["years"] == "all")]
    wanted = {"capped": ("raw", "at_sic4_pairs_capped"), "components": ("components", "at_sic4_pairs")}
    found = {}
    for name, (returns, figure) in wanted.items():
        chosen = test[(test["returns"] == returns) & (test["figure"] == figure)]
        found[name] = dict(zip(chosen["grouping"], chosen["value"].astype(float), strict=True))
    return found


def _json(value: Any) -> str:
    """JSON with NaN written as null, so that any reader takes it."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(entry) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [plain(entry) for entry in item]
        if isinstance(item, np.generic):
            return plain(item.item())
        return None if isinstance(item, float) and not np.isfinite(item) else item

    return json.dumps(plain(value), indent=1)
