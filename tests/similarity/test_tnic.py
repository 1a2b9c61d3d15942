"""TNIC files: formats, directions, translation to tickers, refusals."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companysim.errors import DataError
from companysim.similarity import read_tnic, tnic, tnic_similarity

LINES = [
    "year gvkey1 gvkey2 score",
    "1999 10 20 .1508", "1999 20 10 .1508",  # both directions
    "1999 10 10 1.0",  # itself
    "1999 30 10 .0200",  # one direction only, and ticker C stands behind A
    "2000 10 20 .0300", "2000 20 10 .0301",  # rounded differently
    "2000 10 99 .9",  # a firm nobody asked for
]  # fmt: skip
COMPANIES = pd.DataFrame({"gvkey": [10, 20, 30], "ticker": ["A", "B", "C"]})
EXPECTED = [(1999, "A", "B", 0.1508), (1999, "A", "C", 0.02), (2000, "A", "B", 0.0301)]


@pytest.mark.parametrize(("separator", "name"), [("\t", "t.txt"), (",", "t.csv"), (" ", "t.txt"), ("\t", "t.txt.gz")])
@pytest.mark.parametrize("lines", [2, 2_000_000])
def test_files_of_all_kinds(
    tmp_path: Path, separator: str, name: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tnic, "_LINES", lines)
    text = "\n".join(LINES).replace(" ", separator).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    found = read_tnic(tmp_path / name, COMPANIES.astype({"gvkey": str}))  # keys such as 001234 are read as numbers
    assert list(found.columns) == ["year", "ticker_1", "ticker_2", "score"]
    assert [tuple(row) for row in found.itertuples(index=False)] == EXPECTED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "tnic.txt").write_text("\n".join(LINES))
    return tmp_path / "tnic.txt"


def test_years_are_chosen(path: Path) -> None:
    assert read_tnic(path, COMPANIES, [2000, 2001])["year"].tolist() == [2000]
    assert read_tnic(path, COMPANIES, []).empty


def test_tickers_change_hands(path: Path) -> None:
    dated = pd.DataFrame(
        {"gvkey": [10, 20, 10, 20], "year": [1999, 1999, 2000, 2000], "ticker": ["A", "B", "NEW", "A"]}
    )
    found = read_tnic(path, dated)
    assert found[["year", "ticker_1", "ticker_2"]].to_numpy().tolist() == [[1999, "A", "B"], [2000, "A", "NEW"]]


def test_similarity_is_symmetric_in_the_order_asked_for(path: Path) -> None:
    found = tnic_similarity(read_tnic(path, COMPANIES), 1999, ["C", "X", "A", "B"])
    expected = np.zeros((4, 4))
    expected[0, 2] = expected[2, 0] = 0.02
    expected[2, 3] = expected[3, 2] = 0.1508
    np.testing.assert_array_equal(found.toarray(), expected)
    assert tnic_similarity(read_tnic(path, COMPANIES), 1950, ["A", "B"]).nnz == 0


@pytest.mark.parametrize(
    "text", ["", "year\tgvkey1\tscore\n1\t2\t3\n", "year,gvkey1,gvkey2,score\n1999,x,20,.1\n", "\x00\xff"]
)
def test_files_that_are_no_tnic_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.txt").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"bad\.txt is no TNIC file with the columns year, gvkey1, gvkey2, score"):
        read_tnic(tmp_path / "bad.txt", COMPANIES)


def test_other_refusals(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no TNIC file"):
        read_tnic(tmp_path / "absent.txt", COMPANIES)
    with pytest.raises(DataError, match="columns gvkey and ticker"):
        read_tnic(path, COMPANIES[["ticker"]])
    with pytest.raises(DataError, match="gvkey 10 has several tickers"):
        read_tnic(path, pd.concat([COMPANIES, pd.DataFrame({"gvkey": [10], "ticker": ["Z"]})]))
    (tmp_path / "hole.txt").write_text("year,gvkey1,gvkey2,score\n1999,10,20,\n")
    with pytest.raises(DataError, match="a pair without a score"):
        read_tnic(tmp_path / "hole.txt", COMPANIES)
    with pytest.raises(DataError, match="ticker A is given twice"):
        tnic_similarity(read_tnic(path, COMPANIES), 1999, ["A", "A"])
