"""The published data sets from a real web server that speaks the hub's interface: pinned, streamed, resumed, rerun."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

from companysim.errors import ConfigError, DataError
from companysim.universe.schemas import PARTITIONS
from companysim.universe.sources.hub import ID, RETURNS, VECTOR, DataSet, fetch_features, fetch_reports
from companysim.universe.tables import read_table
from tests.scripts import repository_script
from tests.universe.hub_server import COMMIT, FakeHub, serve

ROOT = Path(__file__).parents[2]
WIDTH, COMPANIES, YEARS = 60, 24, (2001, 2002)


@pytest.fixture(scope="module")
def world() -> dict[str, pd.DataFrame]:
    """Two years of filings of companies in six industries that share features and returns."""
    rng = np.random.default_rng(7)
    industry = np.repeat(np.arange(6), COMPANIES // 6)
    topics = np.maximum(rng.normal(size=(6, WIDTH)) - 0.5, 0) * 5
    reports, features, pairs = [], [], []
    for year in YEARS:
        common = rng.normal(0, 0.05, (6, 12))
        x = np.maximum(topics[industry] + rng.normal(0, 2.0, (COMPANIES, WIDTH)) * (topics[industry] > 0), 0)
        returns = common[industry] + rng.normal(0, 0.03, (COMPANIES, 12))
        ids = [f"{year}{company:03}" for company in range(COMPANIES)]
        for company, own in enumerate(ids):
            sic = float(2000 + 100 * industry[company]) if company % 5 else None
            reports.append((own, company + 1, year, sic, f"T{company}", list(returns[company])))
            features.append((own, [list(x[company])], "words " * 50))
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        cosine = unit @ unit.T
        pairs += [(ids[i], ids[j], year, cosine[i, j], 0.0) for i in range(COMPANIES) for j in range(i)]
    return {
        "reports": pd.DataFrame(reports, columns=[ID, "cik", "year", "sic_code", "ticker", RETURNS]),
        "features": pd.DataFrame(features, columns=[ID, VECTOR, "text"]),
        "pairs": pd.DataFrame(pairs, columns=["Company1", "Company2", "year", "cosine_similarity", "correlation"]),
    }


@pytest.fixture
def hub(world: dict[str, pd.DataFrame], tmp_path: Path) -> Iterator[FakeHub]:
    folders = {}
    for name, table in world.items():
        folder = tmp_path / "hub" / name / "data"
        folder.mkdir(parents=True)
        half = len(table) // 2
        for part, rows in enumerate((table[:half], table[half:])):
            arrow = pa.Table.from_pandas(rows, preserve_index=False)
            pq.write_table(arrow, folder / f"train-{part:05}-of-00002.parquet", row_group_size=10)
        (folder.parent / "README.md").write_text("A card.")
        folders[f"authors/{name}"] = folder.parent
    with serve(FakeHub(folders)) as server:
        yield server


def data_set(hub: FakeHub, name: str) -> DataSet:
    return DataSet(f"authors/{name}", COMMIT, hub.address)


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "0123456", COMMIT.upper(), COMMIT + "0"])
def test_what_is_not_pinned_is_refused(revision: str | None) -> None:
    with pytest.raises(ConfigError, match=r"authors/features is not pinned .* give the 40 digits of the commit"):
        DataSet("authors/features", revision)


def test_features_arrive_sparse_in_the_order_of_their_ids(
    hub: FakeHub, world: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    seen: list[int] = []
    found = fetch_features(data_set(hub, "features"), tmp_path / "shards", WIDTH, seen.append)
    own = world["features"].sort_values(ID)
    assert found.ids.tolist() == own[ID].tolist()
    expected = np.array([row[0] for row in own[VECTOR]], dtype=np.float32)
    np.testing.assert_array_equal(found.matrix.toarray(), expected)
    assert found.matrix.nnz == np.count_nonzero(expected)
    assert (found.dropped, seen[-1]) == (0, 48)
    assert all(COMMIT in line for line in hub.asked)


def test_shards_are_not_fetched_twice_and_a_damaged_one_is(hub: FakeHub, tmp_path: Path) -> None:
    source, folder = data_set(hub, "features"), tmp_path / "shards"
    first = fetch_features(source, folder, WIDTH)
    shards = sorted(folder.iterdir())
    assert len(shards) == 6
    stamps = {path: path.stat().st_mtime_ns for path in shards}
    shards[2].write_bytes(shards[2].read_bytes()[:-9])
    shards[4].unlink()
    again = fetch_features(source, folder, WIDTH)
    np.testing.assert_array_equal(again.matrix.toarray(), first.matrix.toarray())
    changed = {path for path in folder.iterdir() if path.stat().st_mtime_ns != stamps[path]}
    assert changed == {shards[2], shards[4]}


def test_a_rewritten_local_file_is_read_again(tmp_path: Path) -> None:
    folder, shards = tmp_path / "own", tmp_path / "shards"
    folder.mkdir()
    for value in (1.0, 9.0):
        rows = pd.DataFrame({ID: ["a", "b"], VECTOR: [[value, 0.0], [0.0, value]]})
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), folder / "x.parquet")
        os.utime(folder / "x.parquet", (value, value))  # as a clock would, had some time passed
        found = [fetch_features(DataSet(str(folder)), shards, 2).matrix.toarray().max() for _ in range(2)]
        assert found == [value, value]
    assert len(list(shards.iterdir())) == 2  # one each: the second reading took what was there


def test_a_busy_hub_is_asked_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [503]
    assert fetch_features(data_set(hub, "features"), tmp_path, WIDTH).matrix.shape == (48, WIDTH)
    assert hub.faults == []


def test_incomplete_rows_are_counted_and_left_out(hub: FakeHub, tmp_path: Path) -> None:
    rows = pd.DataFrame({ID: ["b", "a", "c", "d"], VECTOR: [[1.0, 0.0], [0.0, 2.0], [1.0], None]})
    folder = tmp_path / "own"
    folder.mkdir()
    pa_table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(pa_table, folder / "x.parquet")
    found = fetch_features(DataSet(str(folder)), tmp_path / "shards", 2)  # a local folder needs no revision
    assert (found.ids.tolist(), found.dropped) == (["a", "b"], 2)
    assert found.matrix.toarray().tolist() == [[0.0, 2.0], [1.0, 0.0]]
    with pytest.raises(DataError, match=r"no row .* has a vector of 3 features \(4 have another length\)"):
        fetch_features(DataSet(str(folder)), tmp_path / "shards", 3)


@pytest.mark.parametrize(
    ("repo", "commit", "words"),
    [
        ("authors/nothing", COMMIT, "cannot read the data set authors/nothing at 0123"),
        ("authors/features", "f" * 40, "revision not found"),
        ("authors/pairs", COMMIT, "column '__index_level_0__' is missing; the file has Company1, Company2"),
    ],
)
def test_what_cannot_be_read_is_said(hub: FakeHub, tmp_path: Path, repo: str, commit: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        fetch_features(DataSet(repo, commit, hub.address), tmp_path, WIDTH)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert not list(tmp_path.glob("shard-*"))


def test_reports_keep_filings_with_twelve_returns(hub: FakeHub, tmp_path: Path) -> None:
    found = fetch_reports(data_set(hub, "reports"))
    assert len(found) == 48
    assert found["sic"].iloc[:2].tolist() == ["", "2000"]
    rows = {ID: ["a", "b", "c"], "cik": [1, 2, 3], "year": ["2001"] * 3, "sic_code": ["100", None, "x"]}
    rows |= {"ticker": ["A", None, "C"], RETURNS: [[[0.1] * 12], [[0.1] * 11], [[float("nan")] * 12]]}
    folder = tmp_path / "own"
    folder.mkdir()
    pq.write_table(pa.table(rows), folder / "x.parquet")
    own = fetch_reports(DataSet(str(folder)))
    assert own[["filing_id", "year", "sic", "m12"]].to_numpy().tolist() == [["a", 2001, "0100", 0.1]]


def test_the_paper_is_rerun_from_its_own_features(hub: FakeHub, world: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    paper = repository_script("pipelines/paper.py")
    sources = {name: paper.Source(repo=f"authors/{name}", revision=COMMIT) for name in world}
    settings = {"width": WIDTH, "components": 5, "first_year": 2001, "last_year": 2002, "draws": 50}

    # Outside oracle: scikit-learn's scaler and PCA, scipy's cosine distances and single linkage.
    x = np.array([row[0] for row in world["features"][VECTOR]])
    scores = PCA(5).fit_transform(StandardScaler().fit_transform(x))
    years = world["reports"]["year"].to_numpy()
    distances = {year: pdist(scores[years == year], "cosine") for year in YEARS}
    every = np.concatenate(list(distances.values()))
    numbers = set()
    for theta in (-2.475, -1.4, -0.325):
        config = paper.PaperConfig(**sources, **settings, theta=theta)
        found = paper.run(config, tmp_path / "out", hub.address)
        partitions = read_table(tmp_path / "out/partitions.parquet", PARTITIONS)
        for year in YEARS:
            z = (distances[year] - every.mean()) / every.std()
            expected = fcluster(linkage(z - z.min(), "single"), theta - z.min(), "distance")
            own = partitions[partitions["year"] == year].set_index("filing_id")["cluster"]
            own = own.reindex(world["reports"][ID][years == year])
            assert adjusted_rand_score(expected, own) == 1.0
            numbers.add((year, own.nunique()))
    assert len(numbers) > len(YEARS)
    returns = np.array(world["reports"][RETURNS].tolist())
    all_pairs = [np.corrcoef(returns[years == year])[np.triu_indices(COMPANIES, 1)].mean() for year in YEARS]
    assert found.loc["all_pairs", "mean_correlation"] == pytest.approx(np.mean(all_pairs))
    assert found.loc["sae", "pair_weighted"] > 0.4 > found.loc["all_pairs", "pair_weighted"]
    assert found.loc["sae", "at_sic_pairs"] > 0.4
    assert pd.read_csv(tmp_path / "out/table.csv")["grouping"].tolist() == ["sae", "sic4", "sic_division", "all_pairs"]


def test_the_paper_is_rerun_from_its_own_similarities(
    hub: FakeHub, world: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    paper = repository_script("pipelines/paper.py")
    sources = {name: paper.Source(repo=f"authors/{name}", revision=COMMIT) for name in world}
    settings = {"similarity": "pairs", "first_year": 2001, "last_year": 2001, "draws": 50, "theta": -2.525}
    paper.run(paper.PaperConfig(**sources, **settings), tmp_path / "out", hub.address)
    partitions = read_table(tmp_path / "out/partitions.parquet", PARTITIONS)
    assert set(partitions["year"]) == {2001}
    x = np.array([row[0] for row in world["features"][VECTOR]])
    years = world["reports"]["year"].to_numpy()
    every = np.concatenate([pdist(x[years == year], "cosine") for year in YEARS])
    z = (pdist(x[years == 2001], "cosine") - every.mean()) / every.std()
    expected = fcluster(linkage(z - z.min(), "single"), -2.525 - z.min(), "distance")
    own = partitions.set_index("filing_id")["cluster"].reindex(world["reports"][ID][years == 2001])
    assert adjusted_rand_score(expected, own) == 1.0


def test_the_bundled_settings_refuse_to_run_unpinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = repository_script("pipelines/paper.py")
    config = paper.load(ROOT / "pipelines/paper.yaml")
    assert config == paper.PaperConfig()
    with pytest.raises(ConfigError, match=r"is not pinned \(revision None\)"):
        paper.run(config, tmp_path)
    (tmp_path / "bad.yaml").write_text("thetta: 1\n")
    with pytest.raises(ConfigError, match="thetta"):
        paper.load(tmp_path / "bad.yaml")
    monkeypatch.setattr(sys, "argv", ["paper.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"^ConfigError: the data set Mateusz1017/annual_reports.* is not pinned"):
        paper.main()
