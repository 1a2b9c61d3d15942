"""A user's own tables in every form, and what is wrong with them in one sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companysim.benchmark.inputs import grouping_of, read_codes, read_features, schemes_of
from companysim.errors import DataError

IDS = ["AA", "BB", "CC", "DD"]


@pytest.fixture
def vectors(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(rng.normal(size=(4, 6)), columns=[f"f{i}" for i in range(6)])


def test_vectors_become_cosines(tmp_path: Path, vectors: pd.DataFrame) -> None:
    path = tmp_path / "mine.v2.parquet"
    vectors.assign(ticker=IDS, company=[f"{i} Inc." for i in IDS]).to_parquet(path)
    features = read_features(path)
    assert (features.name, features.kind, features.ids) == ("mine", "vectors", tuple(IDS))
    grouping, tree = grouping_of(features, ["CC", "AA", "BB"], 1 / 3)
    x = vectors.to_numpy()[[2, 0, 1]]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(grouping.similarity, unit @ unit.T, atol=1e-12)
    assert tree is not None
    i, j = np.unravel_index(np.argmax(np.triu(unit @ unit.T, 1)), (3, 3))
    assert grouping.labels[i] == grouping.labels[j]
    assert len(set(grouping.labels)) == 2


def test_a_square_similarity_and_its_pairs_are_the_same(tmp_path: Path, vectors: pd.DataFrame) -> None:
    square, pairs = tmp_path / "square.csv", tmp_path / "pairs.csv"
    values = np.abs(np.corrcoef(vectors.to_numpy()))
    table = pd.DataFrame(values, index=IDS, columns=IDS).rename_axis("ticker")
    table.reset_index().to_csv(square, index=False)
    rows = [(a, b, values[i, j]) for i, a in enumerate(IDS) for j, b in enumerate(IDS) if i < j]
    pd.DataFrame(rows, columns=["ticker_1", "ticker_2", "score"]).to_csv(pairs, index=False)
    first, second = (grouping_of(read_features(path), IDS, 0.2)[0] for path in (square, pairs))
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(first.similarity[off], second.similarity[off])
    np.testing.assert_array_equal(first.labels, second.labels)


def test_pairs_that_are_not_listed_have_no_similarity(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("ticker_1,ticker_2,similarity\nAA,BB,0.4\nBB,AA,0.6\nCC,CC,9\nCC,DD,0.1\n")
    found = grouping_of(read_features(path), IDS, 0.1)[0].similarity
    assert found[0, 1] == found[1, 0] == 0.6  # the higher of two directions
    assert found[0, 2] == 0
    assert found[2, 2] == 0


def test_listed_scores_below_zero_keep_their_value(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("ticker_1,ticker_2,similarity\nAA,BB,-0.4\nBB,AA,-0.6\nAA,CC,0.5\nBB,CC,-0.1\n")
    found = grouping_of(read_features(path), IDS, 0.1)[0].similarity
    expected = np.zeros((4, 4))
    for i, j, score in ((0, 1, -0.4), (0, 2, 0.5), (1, 2, -0.1)):  # the higher of two directions, here too
        expected[i, j] = expected[j, i] = score
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("vectors", "CIK,f1\n0000320193,1\n0000000012,0.5\n"),
        ("partition", "ticker,cluster\n0000320193,1\n0000000012,1\n"),
        ("similarity", "id,0000320193,0000000012\n0000320193,1,0.5\n0000000012,0.5,1\n"),
        ("pairs", "ticker_1,ticker_2,score\n0000320193,0000000012,0.5\n"),
    ],
)
def test_ids_keep_their_zeros(tmp_path: Path, kind: str, text: str, ending: str) -> None:
    path = tmp_path / f"f.{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    features = read_features(path)
    assert features.kind == kind
    assert sorted(features.ids) == ["0000000012", "0000320193"]
    assert len(np.unique(grouping_of(features, features.ids, 1.0)[0].labels)) == 1


def test_a_partition_keeps_its_clusters(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("ticker,cluster\nDD,x\nCC,\nBB,x\nAA,y\n")
    grouping, tree = grouping_of(read_features(path), IDS, 0.1)
    assert grouping.labels.tolist() == [1, 0, -1, 0]
    assert tree is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,f1\nAA,1\n", "names the companies"),
        ("ticker,f1\nAA,1\nAA,2\n", "AA stands more than once"),
        ("ticker,f1\nAA,1\nBB,x\n", "'f1'"),
        ("ticker,f1\nAA,1\nBB,\n", "row 2"),
        ("ticker,f1\nAA,1\nBB,inf\n", "finite"),
        ("ticker\nAA\n", "no column of features"),
        ("ticker_1,ticker_2,score\nAA,BB,\n", "score"),
        ("ticker,f1\n", "no rows"),
    ],
)
def test_bad_features_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_features(path)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    zero, skew = tmp_path / "zero.csv", tmp_path / "skew.csv"
    zero.write_text("ticker,f1\nAA,1\nBB,0\nCC,2\n")
    skew.write_text("ticker,AA,BB\nAA,1,0.5\nBB,0.4,1\n")
    with pytest.raises(DataError, match="BB is all zeros"):
        grouping_of(read_features(zero), ["AA", "BB", "CC"], 0.1)
    with pytest.raises(DataError, match="symmetric"):
        grouping_of(read_features(skew), ["AA", "BB"], 0.1)


def test_codes_keep_their_zeros_and_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "ticker,sic,gics8,ff48,filed\nAA,100,10101010,Agric,2012-03-01\nBB,,,NA,\nNA,6021,40101010,Banks,2012-01-09\n"
    )
    found = read_codes(path)
    assert found.index.tolist() == ["AA", "BB", "NA"]
    assert found["sic"].tolist() == ["0100", "", "6021"]
    assert found["gics"].tolist() == ["10101010", "", "40101010"]
    assert found["ff48"].tolist() == ["Agric", "", "Banks"]
    assert found["filed"].tolist() == [pd.Timestamp("2012-03-01"), pd.NaT, pd.Timestamp("2012-01-09")]
    schemes = schemes_of(found, ["NA", "BB", "ZZ", "AA"])
    assert [g.name for g in schemes] == ["sic", "gics", "ff48"]
    assert schemes[0].labels.tolist() == [1, -1, -1, 0]
    assert schemes_of(found, ["BB"]) == []


def test_a_long_table_of_codes_is_the_same_as_a_wide_one(tmp_path: Path) -> None:
    wide, long = tmp_path / "wide.csv", tmp_path / "long.parquet"
    wide.write_text("ticker,sic,ff48\nAA,0100,Agric\nBB,6021,Banks\nCC,,Other\n")
    rows = [("AA", "sic", "0100"), ("BB", "sic", "6021"), ("BB", "ff48", "Banks"), ("AA", "ff48", "Agric")]
    rows += [("CC", "ff48", "Other"), ("CC", "sic_division", "D")]
    pd.DataFrame(rows, columns=["ticker", "scheme", "code"]).assign(cik=1).to_parquet(long)
    pd.testing.assert_frame_equal(read_codes(long), read_codes(wide), check_names=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ticker,industry\nAA,x\n", "one or more of sic, gics, ff48"),
        ("sic\n6021\n", "ticker"),
        ("ticker,sic\nAA,60211\n", "'sic' holds '60211' .row 1.: a SIC code has four digits"),
        ("ticker,gics\nAA,401010AB\n", "'gics' holds '401010AB' .row 1."),
        ("ticker,sic\nAA,1\nAA,2\n", "'ticker' repeats 'AA' .row 2."),
        ("ticker,sic,filed\nAA,1,2012-03-01\nBB,2,15.03.2011\n", "'15.03.2011' .row 2.: it must be a date"),
        ("ticker,sic,filed\nAA,1,03/04/2011\n", "'filed' holds '03/04/2011' .row 1."),
        ("ticker,sic,filed\nAA,1,2011-02-30\n", "'filed' holds '2011-02-30' .row 1."),
    ],
)
def test_bad_codes_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_codes(path)
