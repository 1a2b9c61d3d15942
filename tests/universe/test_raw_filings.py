"""A folder of annual reports, without any network: headers, an index, caching, and what cannot be read."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from companysim.cli_data import app
from companysim.errors import CompanySimError, DataError
from companysim.universe import COMPANIES, FILINGS, check_table, read_table
from companysim.universe.sources import raw_filings
from companysim.universe.sources.raw_filings import read_raw_filings
from tests.edgar_world import Company, Filing, html_report, submission, words

MILL = Company(7, "MIL", "First Mill Co")
FIRST = Filing("0000000007-12-000001", "10-K", "2011-12-31", "2012-02-28", words("mill"), sic="2040")
SECOND = Filing("0000000007-13-000001", "10-K", "2012-12-31", "2013-02-28", words("mill"), sic="2050")
THIRD_PARTS = Filing("0000000007-14-000001", "10-K/A", "2013-12-31", "2014-02-28", "", documents=(
    ("10-K/A", "<html><body><p>PART III</p><p>Item 10. Directors</p></body></html>"),))  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "documents"
    place.mkdir()
    for filing in (FIRST, SECOND):
        (place / f"{filing.accession}.txt").write_text(submission(MILL, filing))
    return place


def index(folder: Path, *rows: str) -> None:
    (folder / "index.csv").write_text("\n".join(["filing_id,cik,ticker,company,period,filed", *rows]) + "\n")


def test_headers_make_the_tables(folder: Path, tmp_path: Path) -> None:
    found = read_raw_filings(folder, tmp_path)
    filings = check_table(found.filings, FILINGS, "filings")
    assert filings["filing_id"].tolist() == [FIRST.accession, SECOND.accession]
    assert filings["cik"].tolist() == [7, 7]
    assert filings["ticker"].tolist() == ["CIK7", "CIK7"]
    assert filings["fiscal_year"].tolist() == [2011, 2012]
    assert filings["filed"].tolist() == [pd.Timestamp("2012-02-28"), pd.Timestamp("2013-02-28")]
    companies = check_table(found.companies, COMPANIES, "companies")
    assert companies.to_numpy().tolist() == [
        ["CIK7", 7, "FIRST MILL CO", "2050", "EDGAR, filing of 2013-02-28", "", ""]
    ]
    assert found.report["status"].tolist() == ["kept", "kept"]
    assert found.report["words"].tolist() == [len(text.split()) for text in found.filings["text"]]
    assert found.texts.empty


def test_an_index_says_what_a_bare_document_cannot(folder: Path, tmp_path: Path) -> None:
    (folder / "mill-1995.htm").write_text(html_report(words("old mill")))
    (folder / "mill-1996.html.gz").write_bytes(gzip.compress(html_report(words("mill")).encode()))
    (folder / "notes.pdf").write_text("no document")
    index(folder, "mill-1995,7,MIL,Mill Co,1995-12-31,1996-03-01", f"{FIRST.accession},7,MIL,,,")
    found = read_raw_filings(folder, tmp_path)
    rows = found.filings.set_index("filing_id")
    assert rows.loc["mill-1995", ["cik", "ticker", "fiscal_year", "filed"]].tolist() == [7, "MIL", 1995, "1996-03-01"]
    assert rows.loc[FIRST.accession, ["ticker", "company", "filed"]].tolist() == ["MIL", "FIRST MILL CO", "2012-02-28"]
    assert found.texts["filing_id"].tolist() == ["mill-1996"]
    reason = found.report.set_index("filing_id").loc["mill-1996", "reason"]
    assert reason == "only its text can be used: neither a header nor index.csv gives cik and filed and period"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (submission(MILL, THIRD_PARTS).encode(), "no heading of Item 1"),
        (b"", "no heading of Item 1"),
        (
            submission(MILL, SECOND).encode(),
            f"the file holds another filing, {SECOND.accession}: remove it and run again",
        ),
    ],
)
def test_why_a_document_has_no_description(folder: Path, tmp_path: Path, content: bytes, reason: str) -> None:
    (folder / f"{THIRD_PARTS.accession}.txt").write_bytes(content)
    found = read_raw_filings(folder, tmp_path)
    row = found.report.set_index("filing_id").loc[THIRD_PARTS.accession]
    assert (row["status"], row["reason"]) == ("failed", reason)
    assert found.filings["filing_id"].tolist() == [FIRST.accession, SECOND.accession]


def test_a_filing_of_the_index_without_document(folder: Path, tmp_path: Path) -> None:
    index(folder, "0000000007-20-000001,7,MIL,Mill Co,2019-12-31,2020-03-01")
    found = read_raw_filings(folder, tmp_path)
    row = found.report.set_index("filing_id").loc["0000000007-20-000001"]
    assert (row["status"], row["reason"]) == ("failed", "its document is not in the folder: download it again")
    assert len(found.filings) == 2


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"x" * 10_000)[:-20]], ids=["no gzip", "torn"])
def test_a_damaged_file_is_named(folder: Path, tmp_path: Path, content: bytes) -> None:
    (folder / f"{THIRD_PARTS.accession}.txt.gz").write_bytes(content)
    found = read_raw_filings(folder, tmp_path).report.set_index("filing_id")
    assert found.loc[THIRD_PARTS.accession, "reason"].startswith(
        "the file 0000000007-14-000001.txt.gz cannot be read ("
    )


def test_what_was_extracted_is_not_extracted_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = raw_filings.extract_business

    def counted(document: str, form: str) -> object:
        calls.append(form)
        return real(document, form)

    monkeypatch.setattr(raw_filings, "extract_business", counted)
    first = read_raw_filings(folder, tmp_path)
    again = read_raw_filings(folder, tmp_path)
    assert calls == ["10-K", "10-K"]
    pd.testing.assert_frame_equal(first.filings, again.filings)
    pd.testing.assert_frame_equal(first.report, again.report)
    changed = submission(MILL, FIRST).replace("mill goods", "mill stones")
    (folder / f"{FIRST.accession}.txt").write_text(changed)
    assert "mill stones" in read_raw_filings(folder, tmp_path).filings["text"][0]
    assert len(calls) == 3
    monkeypatch.setattr(raw_filings, "_CODE", ["another extractor"])
    read_raw_filings(folder, tmp_path)
    assert len(calls) == 5
    kept = tmp_path / "business" / f"{FIRST.accession}.json"
    for damaged in (json.dumps({"key": "of another time"}), "{", "[]"):
        kept.write_text(damaged)
        assert len(read_raw_filings(folder, tmp_path).filings) == 2


def test_the_form_of_a_bare_document_is_read_from_it(tmp_path: Path) -> None:
    place = tmp_path / "documents"
    place.mkdir()
    body = f"<p>FORM 20-F</p><p>Item 4. Information on the Company</p><p>{words('bank')}</p>"
    (place / "bank.htm").write_text(f"<html><body>{body}<p>Item 5. Operating and Financial Review</p></body></html>")
    found = read_raw_filings(place, tmp_path)
    assert found.texts["text"][0].startswith("Item 4. Information on the Company\nbank makes")
    assert found.report["form"].tolist() == ["20-F"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cik,ticker\n7,MIL\n", "column 'filing_id' is missing"),
        ("filing_id,cik\na,7\na,8\n", "column 'filing_id' repeats 'a' (row 2): each may stand once"),
        ("filing_id,cik\na,seven\n", "column 'cik' holds 'seven' (row 1): write 320193"),
        ("filing_id,period\na,2012\n", "column 'period' holds '2012' (row 1): write 2012-12-31"),
        ("", "cannot read"),
    ],
)
def test_a_bad_index_is_named(folder: Path, tmp_path: Path, text: str, said: str) -> None:
    (folder / "index.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_raw_filings(folder, tmp_path)
    assert said in str(caught.value)
    assert str(folder / "index.csv") in str(caught.value)


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_folder_without_documents(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no document in .*: give a folder with annual reports"):
        read_raw_filings(tmp_path / place, tmp_path)


def call(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["filings", *map(str, arguments)])
    if isinstance(result.exception, CompanySimError):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_command_line_on_a_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGAR_IDENTITY", raising=False)  # nothing is asked of anybody
    (folder / "loose.htm").write_text(html_report(words("loose")))
    shutil.copy(folder / f"{FIRST.accession}.txt", folder / "0000000007-15-000009.txt")
    code, said = call("--from-folder", folder, "--out", tmp_path / "out")
    assert code == 0, said
    assert "2 filings of 1 company, fiscal years 2011 to 2012" in said
    assert "1 description without company, day or year" in said
    assert "1 failed" in said
    assert read_table(tmp_path / "out" / "filings.parquet", FILINGS)["cik"].tolist() == [7, 7]
    assert pd.read_parquet(tmp_path / "out" / "texts.parquet").columns.tolist() == ["filing_id", "text"]
    assert call("--from-folder", folder, "--out", tmp_path / "out", "--strict")[0] == 1


def test_a_folder_in_which_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Dear shareholders")
    code, said = call("--from-folder", tmp_path, "--out", tmp_path)
    assert (code, said) == (2, "no business description was found; the first reason is: no heading of Item 1")


@pytest.mark.parametrize(
    ("said_there", "reason"), [("an amendment", "an amendment"), ("", "index.csv says of bare that it is left out")]
)
def test_a_folder_of_which_the_index_leaves_out_all(tmp_path: Path, said_there: str, reason: str) -> None:
    (tmp_path / "bare.htm").write_text(html_report(words("bare")))
    (tmp_path / "index.csv").write_text(f"filing_id,cik,status,reason\nbare,9,left out,{said_there}\n")
    code, said = call("--from-folder", tmp_path, "--out", tmp_path)
    assert (code, said) == (2, f"no business description was found; the first reason is: {reason}")


def test_a_bad_filing_day_of_the_index_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "bare.htm").write_text(html_report(words("bare")))
    index(folder, "bare,9,BAR,Bare Co,2011-12-31,soon")
    code, said = call("--from-folder", folder, "--out", tmp_path)
    assert code == 2
    assert "column 'filed'" in said
    assert "soon" in said
