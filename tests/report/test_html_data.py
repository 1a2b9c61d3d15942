"""What the report draws, against the run's own answers and plain recomputation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest

import companysim as cs
from companysim.encoding.encode import clean
from companysim.report.html.companies import division, sector
from companysim.report.html.layout import layout
from companysim.report.html.page import page_data


@pytest.fixture(scope="module")
def data(tiny_run: cs.Run) -> dict[str, Any]:
    return page_data(tiny_run)


def labels(data: dict[str, Any], latent: int) -> str:
    page = data["latents"].get(str(latent))
    return page["label"] if page else data["labels"][str(latent)]


def test_peers_are_those_of_the_run(tiny_run: cs.Run, data: dict[str, Any]) -> None:
    tickers = [company["ticker"] for company in data["companies"]]
    assert tickers == tiny_run.companies["ticker"].tolist()
    for ticker, rows in zip(tickers, data["peers"], strict=True):
        peers = tiny_run.peers(ticker, 10)
        assert [tickers[row["i"]] for row in rows] == peers["ticker"].tolist()
        np.testing.assert_allclose([row["s"] for row in rows], peers["similarity"], atol=6e-5)
        np.testing.assert_allclose([row["r"] for row in rows], peers["correlation"], atol=6e-5)
        assert [" | ".join(labels(data, latent) for latent in row["why"]) for row in rows] == peers["why"].tolist()


def test_the_slider_starts_at_the_figures_of_the_summary(tiny_run: cs.Run, data: dict[str, Any]) -> None:
    theta, sae = data["theta"], tiny_run.summary["benchmark"][0]
    assert sae["grouping"] == "sae"
    chosen = theta["chosen"]
    assert theta["theta"][chosen] == pytest.approx(tiny_run.summary["clustering"]["sae"]["theta"], abs=1e-6)
    for name in ("mean_correlation", "pair_weighted", "coverage", "share_of_pairs", "clusters", "largest"):
        assert theta[name][chosen] == pytest.approx(sae[name], abs=1e-6), name


def test_joining_the_first_edges_gives_the_clusters(tiny_run: cs.Run, data: dict[str, Any]) -> None:
    theta, n = data["theta"], len(data["companies"])
    for step in (0, theta["chosen"], len(theta["theta"]) - 1):
        graph = nx.Graph()
        graph.add_nodes_from(range(n))
        graph.add_edges_from(list(zip(theta["left"], theta["right"], strict=True))[: theta["edges"][step]])
        groups = [sorted(group) for group in nx.connected_components(graph) if len(group) > 1]
        assert len(groups) == theta["clusters"][step]
        assert sum(map(len, groups)) / n == pytest.approx(theta["coverage"][step], abs=1e-6)
        if step == theta["chosen"]:
            assert sorted(groups) == sorted(cluster["members"] for cluster in data["clusters"])


def test_clusters_are_numbered_as_everywhere(tiny_run: cs.Run, data: dict[str, Any]) -> None:
    tickers = [company["ticker"] for company in data["companies"]]
    shown = [" ".join(tickers[row] for row in cluster["members"]) for cluster in data["clusters"]]
    assert shown == tiny_run.clusters()["tickers"].tolist()
    for company in data["companies"]:
        inside = company["cluster"] >= 0 and company["ticker"] in shown[company["cluster"]].split()
        assert inside or (company["cluster"] == -1 and company["ticker"] not in " ".join(shown).split())


def test_clusters_correlations_average_to_mc(tiny_run: cs.Run, data: dict[str, Any]) -> None:
    found = np.mean([cluster["mean_correlation"] for cluster in data["clusters"]])
    assert found == pytest.approx(tiny_run.summary["benchmark"][0]["mean_correlation"], abs=1e-4)


def test_pages_of_latents_count_and_quote_what_is_there(tiny_run: cs.Run, data: dict[str, Any]) -> None:
    columns = tiny_run.latents.toarray()
    texts = [clean(text) for text in tiny_run.companies["text"]]
    passages = 0
    for number, latent in data["latents"].items():
        values = columns[:, int(number)]
        assert sum(latent["bins"]) == latent["active"] == (values > 0).sum()
        assert latent["top"] == pytest.approx(values.max(), abs=6e-5)
        assert latent["strongest"][0][0] == int(values.argmax())
        assert latent["clusters"] == [
            k for k, cluster in enumerate(data["clusters"]) if int(number) in [e["latent"] for e in cluster["latents"]]
        ]
        assert latent["named"] == sum(int(number) in peer["why"] for rows in data["peers"] for peer in rows)
        assert latent["clusters"] or latent["named"]
        for snippet in latent["snippets"]:
            assert "".join(snippet["parts"]) in texts[snippet["i"]]
            assert snippet["parts"][1]
            passages += 1
    assert passages > len(data["latents"])


def test_equity_ends_where_the_books_do(tiny_run: cs.Run, data: dict[str, Any]) -> None:
    for row in tiny_run.summary["backtest"]:
        book = tiny_run.equity[tiny_run.equity["method"] == row["grouping"]]
        shown = data["equity"]["books"][row["grouping"]]
        assert shown["net"][-1] == pytest.approx(book["return_net"].sum(), abs=1e-5)
        assert shown["gross"][-1] == pytest.approx(book["return_gross"].sum(), abs=1e-5)
        assert -row["max_drawdown"] - 1e-5 <= min(shown["drawdown"]) <= 0
    assert data["equity"]["date"][-1] == f"{tiny_run.equity['date'].max():%Y-%m-%d}"


def test_explanations_are_those_of_the_run(tiny_run: cs.Run, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_run.root, tmp_path / "run"))
    explain = root / "explain"
    clusters = pd.read_parquet(explain / "clusters.parquet")
    first = clusters["cluster"] == 0
    clusters.loc[first, ["rule", "precision", "held_out_recall"]] = ["latent 3 > 0.2", 0.9, np.nan]
    clusters.sample(frac=1, random_state=1).to_parquet(explain / "clusters.parquet")
    pd.DataFrame(
        {"cluster": [0, 0], "rank": [2, 1], "latent": [3, 5], "inside": [0.2, 0.4], "outside": [0.1, 0.1], "label": "x"}
    ).to_parquet(explain / "cluster_latents.parquet")
    named = pd.read_parquet(explain / "labels.parquet")
    named.assign(method="asked a model", support=0.25, documents=4).to_parquet(explain / "labels.parquet")
    found = page_data(cs.Run(root))
    cluster = found["clusters"][0]
    assert (cluster["rule"], cluster["precision"], cluster["held_out_recall"]) == ("latent 3 > 0.2", 0.9, None)
    assert cluster["latents"][0] == {"latent": 5, "inside": 0.4, "outside": 0.1}
    assert [entry["latent"] for entry in cluster["latents"]] == [5, 3]
    assert found["clusters"][1]["latents"] == []
    assert (found["latents"]["5"]["method"], found["latents"]["5"]["support"]) == ("asked a model", 0.25)


def test_codes_have_names() -> None:
    codes = ("0100", "1311", "1521", "3571", "4911", "5045", "5311", "6021", "7372", "9111", "9999", "")
    assert [division(code) for code in codes] == [
        "Agriculture, forestry and fishing", "Mining", "Construction", "Manufacturing",
        "Transportation, communications, electric, gas and sanitary services", "Wholesale trade", "Retail trade",
        "Finance, insurance and real estate", "Services", *["Public administration and nonclassifiable"] * 2, "",
    ]  # fmt: skip
    assert [sector(code) for code in ("45202030", "60101010", "")] == ["Information Technology", "Real Estate", ""]


def test_the_map_keeps_neighbours_together(rng: np.random.Generator) -> None:
    centres = np.repeat(np.eye(4), 8, axis=0)
    vectors = centres + rng.normal(0, 0.05, centres.shape)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    places = layout(vectors @ vectors.T, seed=1)
    assert places.min() >= 0
    assert places.max() <= 1
    assert np.ptp(places, axis=0).max() == pytest.approx(1.0)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(axis=1)
    assert (nearest // 8 == np.arange(32) // 8).all()
    np.testing.assert_array_equal(places, layout(vectors @ vectors.T, seed=1))


@pytest.mark.parametrize("similarity", [np.ones((7, 7)), np.eye(3), np.ones((3, 3)), np.eye(9)])
def test_the_map_of_a_few_or_equal_companies_is_finite(similarity: np.ndarray) -> None:
    places = layout(similarity)
    assert places.shape == (len(similarity), 2)
    assert np.isfinite(places).all()
    assert (places >= 0).all()
    assert (places <= 1).all()
