"""EDGAR, served on loopback: what is fetched, what is left out and why, and what happens when the server is ill."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from companysim.cli_data import app
from companysim.errors import CompanySimError, ConfigError, DataError, RunError
from companysim.universe import COMPANIES, FILINGS, read_table
from companysim.universe.sources import http
from companysim.universe.sources.edgar import Edgar, edgar_client
from companysim.universe.sources.edgar_download import download_filings
from companysim.universe.sources.http import Client, DownloadError, RefusedError
from companysim.universe.sources.tickers import parse_tickers, read_tickers
from companysim.workspace import hold
from tests.edgar_world import IDENTITY, Company, Filing, serve, text_report, words
from tests.interrupts import interruptible
from tests.loopback import Answer, Loopback

ROOT = Path(__file__).parents[2]
CHIPS = Company(
    101,
    "CHP",
    "Chip Works Inc",
    [
        Filing("0000000101-16-000001", "10-K", "2015-12-31", "2016-02-20", words("chip")),
        Filing("0000000101-16-000002", "10-K/A", "2015-12-31", "2016-05-02", words("amended")),
        Filing("0000000101-16-000003", "10-K", "2015-12-31", "2016-06-02", words("again")),
        Filing("0000000101-17-000001", "10-K", "2016-12-31", "2017-02-21", words("chip new"), sic="7372"),
        Filing("0000000101-16-000009", "8-K", "2016-03-01", "2016-03-01", "no annual report"),
        Filing(
            "0000000101-99-000001",
            "10-K405",
            "1998-12-31",
            "1999-03-30",
            "",
            older=True,
            documents=(("10-K405", text_report(words("old"))), ("EX-27", "<ARTICLE> 5")),
        ),
    ],
    more_tickers=("CHP-B",),
)
BANK = Company(
    202, "BNK", "Bank Co", [Filing("0000000202-16-000001", "10-K", "2016-01-30", "2016-04-01", words("bank"), "6021")]
)
YOUNG = Company(
    303, "NEW", "Young Co", [Filing("0000000303-20-000001", "10-K", "2019-12-31", "2020-03-01", words("x"))]
)
CHIP_2015 = "/Archives/edgar/data/101/0000000101-16-000001.txt"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with Loopback() as found:
        serve(found, [CHIPS, BANK, YOUNG])
        monkeypatch.setenv("EDGAR_BASE_URL", found.url)
        monkeypatch.setenv("EDGAR_DATA_URL", found.url)
        monkeypatch.delenv("EDGAR_IDENTITY", raising=False)
        monkeypatch.setattr(http, "MAX_WAIT", 0.01)
        assert Client.__init__.__kwdefaults__
        monkeypatch.setitem(Client.__init__.__kwdefaults__, "per_second", 500)
        yield found


def serve_again() -> Answer:
    with Loopback() as other:
        serve(other, [CHIPS])
        return other.answers[CHIP_2015]


def client(**settings: float) -> Client:
    return edgar_client(IDENTITY, **({"per_second": 500, "wait": 0.01, "timeout": 5} | settings))


def download(
    folder: Path, tickers: dict[str, int | None], years: range = range(2015, 2017), **more: bool
) -> pd.DataFrame:
    with client() as opened:
        return download_filings(Edgar(opened), tickers, years, folder, **more)


def data(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and all that a call of `companysim data` prints."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if isinstance(result.exception, CompanySimError):
        return 2, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


# What is fetched.


def test_one_report_a_company_and_fiscal_year(server: Loopback, tmp_path: Path) -> None:
    index = download(tmp_path, {"CHP": None, "BNK": None})
    kept = index[index["status"] == "kept"]
    assert kept["filing_id"].tolist() == ["0000000101-16-000001", "0000000101-17-000001", "0000000202-16-000001"]
    out = index[index["status"] == "left out"].set_index("filing_id")["reason"]
    assert "amendment" in out["0000000101-16-000002"]
    assert "another report of this fiscal year" in out["0000000101-16-000003"]
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
        f"{name}.txt.gz" for name in kept["filing_id"]
    ]
    assert not [path for path in server.paths() if "16-000002" in path or "16-000003" in path]


def test_amendments_are_kept_on_request(server: Loopback, tmp_path: Path) -> None:
    index = download(tmp_path, {"CHP": None}, amendments=True)
    assert "0000000101-16-000002" in index.loc[index["status"] == "kept", "filing_id"].tolist()
    assert "0000000101-16-000003" not in index.loc[index["status"] == "kept", "filing_id"].tolist()


def test_a_year_that_ends_by_may_counts_as_the_one_before(server: Loopback, tmp_path: Path) -> None:
    index = download(tmp_path, {"BNK": None}, range(2015, 2016))
    assert index["filing_id"].tolist() == ["0000000202-16-000001"]
    with pytest.raises(DataError, match="no annual report of the fiscal years 2016 to 2016"):
        download(tmp_path / "b", {"BNK": None}, range(2016, 2017))


def test_older_parts_of_the_list_are_read_where_they_may_count(server: Loopback, tmp_path: Path) -> None:
    index = download(tmp_path, {"CHP": None}, range(1998, 1999))
    assert index["form"].tolist() == ["10-K405"]
    server.asked.clear()
    download(tmp_path / "new", {"CHP": None}, range(2015, 2016))
    assert not [path for path in server.paths() if "submissions-001" in path]


def test_a_company_of_the_past_is_found_by_its_cik(server: Loopback, tmp_path: Path) -> None:
    index = download(tmp_path, {"GONE": 202})
    assert index[["ticker", "cik", "status"]].to_numpy().tolist() == [["GONE", 202, "kept"]]
    assert "/files/company_tickers.json" not in server.paths()


def test_the_result_does_not_depend_on_the_order_of_the_tickers(server: Loopback, tmp_path: Path) -> None:
    one = download(tmp_path / "1", {"CHP": None, "CHP.B": None, "BNK": None})
    two = download(tmp_path / "2", {"BNK": None, "CHP.B": None, "CHP": None})
    pd.testing.assert_frame_equal(one, two)
    assert one.loc[one["ticker"] == "CHP.B", "reason"].item() == "the same company as CHP, where its filings stand"


def test_only_the_annual_report_is_read_of_a_long_filing(server: Loopback, tmp_path: Path) -> None:
    whole = server.answers[CHIP_2015].body
    start = whole.index(b"</DOCUMENT>") + len(b"</DOCUMENT>")
    server.answers[CHIP_2015].body = whole[:start] + b"\n<DOCUMENT>\n<TYPE>EX-101\n" + b"x" * 20_000_000
    download(tmp_path, {"CHP": None}, range(2015, 2016))
    assert gzip.decompress((tmp_path / "raw" / "0000000101-16-000001.txt.gz").read_bytes()) == whole[:start]


def test_tables_of_a_download_are_those_of_a_run(server: Loopback, tmp_path: Path) -> None:
    code, said = data("filings", "--tickers", "CHP,CHP-B,BNK", "--years", "2015-2016", "--out", tmp_path,
                      "--identity", IDENTITY)  # fmt: skip
    assert code == 0, said
    assert "3 filings of 2 companies, fiscal years 2015 to 2016" in said
    filings = read_table(tmp_path / "filings.parquet", FILINGS)
    assert filings["filing_id"].tolist() == ["0000000101-16-000001", "0000000101-17-000001", "0000000202-16-000001"]
    assert filings["fiscal_year"].tolist() == [2015, 2016, 2015]
    assert filings["filed"].dt.strftime("%Y-%m-%d").tolist() == ["2016-02-20", "2017-02-21", "2016-04-01"]
    assert filings["company"].tolist() == ["CHIP WORKS INC", "CHIP WORKS INC", "BANK CO"]
    assert filings["text"][0].startswith("Item 1. Business\nchip makes")
    assert filings["text"][0].endswith("We sell at “home” and abroad.")
    typed = pd.read_parquet(tmp_path / "filings.parquet")
    assert typed["sic"].tolist() == ["3674", "7372", "6021"]
    companies = read_table(tmp_path / "companies.csv", COMPANIES)
    assert companies["ticker"].tolist() == ["BNK", "CHP", "CHP-B"]
    assert companies["sic"].tolist() == ["6021", "7372", "7372"]
    assert companies["sic_source"].tolist()[1] == "EDGAR, filing of 2017-02-21"
    listed = pd.read_csv(tmp_path / "report.csv", dtype=str, keep_default_na=False).set_index("filing_id")
    assert listed.loc["0000000101-16-000001", "next_heading"] == "Item 1A. Risk Factors"
    assert listed.loc["0000000101-16-000002", "status"] == "left out"


def test_a_text_filing_of_the_nineties(server: Loopback, tmp_path: Path) -> None:
    options = ("--years", "1998", "--out", tmp_path, "--identity", IDENTITY)
    assert data("filings", "--tickers", "CHP", *options)[0] == 0
    row = read_table(tmp_path / "filings.parquet", FILINGS).iloc[0]
    assert (row["fiscal_year"], row["filed"], row["company"]) == (1998, pd.Timestamp("1999-03-30"), "CHIP WORKS INC")
    assert row["text"].startswith("ITEM 1. BUSINESS\nold makes and sells")
    assert "ITEM 2" not in row["text"]


# What is asked, and how.


def test_identity_is_sent_and_stands_in_no_log(
    server: Loopback, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGAR_IDENTITY", IDENTITY)
    server.faults[CHIP_2015] = [Answer(status=503)]
    with caplog.at_level(logging.DEBUG):
        code, said = data("filings", "--tickers", "CHP,ZZZ", "--years", "2015", "--out", tmp_path)
    assert code == 0, said
    assert {asked.headers["User-Agent"] for asked in server.asked} == {IDENTITY}
    for text in [said, caplog.text, *(p.read_text() for p in tmp_path.glob("*.csv"))]:
        assert "jo.tester" not in text


@pytest.mark.parametrize("identity", [None, "", "Jo Tester", "jo@nowhere", "Jo jö@example.org"])
def test_without_an_identity_nothing_is_asked(
    server: Loopback, identity: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="the SEC wants to know who downloads"):
        edgar_client(identity)
    assert server.asked == []


def test_requests_keep_to_the_rate_over_all_threads(server: Loopback) -> None:
    server.answers["/a"] = Answer(b"a")
    with client(per_second=5) as opened, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: opened.get(f"{server.url}/a", "text", bytes), range(5))) == [b"a"] * 5
    times = sorted(asked.at for asked in server.asked)
    assert times[-1] - times[0] >= 4 / 5 * 0.95  # four intervals of a fifth of a second


def test_the_default_rate_is_below_that_of_the_sec() -> None:  # without the fixture, which lifts it
    with edgar_client(IDENTITY) as opened:
        assert opened._interval >= 0.1


# What goes wrong.


@pytest.mark.parametrize(
    "fault",
    [
        Answer(status=429),
        Answer(status=429, headers={"Retry-After": "0"}),
        Answer(status=503, body=b"<html>maintenance</html>", kind="text/html"),
        Answer(b"x" * 5000, short=4000),
        Answer(b"<SEC-DOCUMENT>\n<DOCUMENT>\n<TYPE>10-K\nItem 1", length=False),
        Answer(b"<html>Please wait</html>", kind="text/html"),
        Answer(b"not gzip", headers={"Content-Encoding": "gzip"}),
        Answer(delay=1.0),
    ],
    ids=["429", "429 with a wait", "503", "truncated", "truncated, no length", "wrong type", "bad gzip", "timeout"],
)
def test_what_may_pass_is_asked_again(server: Loopback, tmp_path: Path, fault: Answer) -> None:
    server.faults[CHIP_2015] = [fault, fault]
    with client(timeout=0.3) as opened:
        index = download_filings(Edgar(opened), {"CHP": None}, range(2015, 2016), tmp_path)
    assert index.set_index("filing_id").loc["0000000101-16-000001", "status"] == "kept"
    assert server.paths().count(CHIP_2015) == 3
    found = gzip.decompress((tmp_path / "raw" / "0000000101-16-000001.txt.gz").read_bytes())
    assert found.endswith(b"</DOCUMENT>")
    assert b"chip makes" in found


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Answer(status=429), "the server answered 429 in each of 5 attempts: run it again later"),
        (Answer(status=503), "the server answered 503"),
        (Answer(b"x" * 500, short=400), "the answer broke off"),
        (Answer(b"<SEC-DOCUMENT>", length=False), "breaks off before the end of the annual report"),
        (Answer(b"<html></html>", kind="text/html; charset=x"), "the server sent text/html instead of text/plain"),
        (Answer(b"", status=404), "the server answered 404: there may be no such document"),
    ],
)
def test_what_does_not_pass_is_a_row_with_its_reason(
    server: Loopback, tmp_path: Path, fault: Answer, said: str
) -> None:
    server.answers[CHIP_2015] = fault
    code, output = data(
        "filings", "--tickers", "CHP", "--years", "2015-2016", "--out", tmp_path, "--identity", IDENTITY
    )
    assert code == 0, output
    assert "1 filing of 1 company" in output
    assert f"1 failed, see {tmp_path / 'report.csv'}; the first is 0000000101-16-000001: " in output
    assert said in output
    report = pd.read_csv(tmp_path / "report.csv", keep_default_na=False).set_index("filing_id")
    assert report.loc["0000000101-16-000001", "status"] == "failed"
    assert said in report.loc["0000000101-16-000001", "reason"]
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["0000000101-17-000001.txt.gz"]
    server.answers[CHIP_2015] = serve_again()  # and once it has passed, the same command completes the folder
    code, output = data(
        "filings", "--tickers", "CHP", "--years", "2015-2016", "--out", tmp_path, "--identity", IDENTITY
    )
    assert (code, "2 filings of 1 company" in output) == (0, True)


def test_strict_exits_with_1_if_a_filing_failed(server: Loopback, tmp_path: Path) -> None:
    server.answers[CHIP_2015] = Answer(status=404)
    options = ("--years", "2015-2016", "--out", tmp_path, "--identity", IDENTITY)
    assert data("filings", "--tickers", "CHP", *options, "--strict")[0] == 1


def test_a_server_may_say_how_long_to_wait(server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_WAIT", 300)
    server.faults[CHIP_2015] = [Answer(status=429, headers={"Retry-After": "0.5"})]
    download(tmp_path, {"CHP": None}, range(2015, 2016))
    first, second = [asked.at for asked in server.asked if asked.path == CHIP_2015]
    assert second - first >= 0.5


def test_waits_double(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_WAIT", 300)
    server.answers["/ill"] = Answer(status=503)
    with client(wait=0.05, attempts=4) as opened, pytest.raises(DownloadError, match="in each of 4 attempts"):
        opened.get(f"{server.url}/ill", "json", lambda content: content)
    times = [asked.at for asked in server.asked]
    assert [later - earlier >= wait for earlier, later, wait in zip(times, times[1:], (0.05, 0.1, 0.2), strict=False)]
    assert times[-1] - times[0] >= 0.35


def test_a_refusal_ends_the_download_at_once(server: Loopback, tmp_path: Path) -> None:
    server.answers[CHIP_2015] = Answer(b"<html>too fast</html>", "text/html", 403)
    with pytest.raises(RefusedError, match="refuses requests \\(403\\): it does so when requests come too fast"):
        download(tmp_path, {"CHP": None, "BNK": None})
    assert server.paths().count(CHIP_2015) == 1


def test_no_connection_at_all_is_one_sentence(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGAR_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"http://127.0.0.1:9/files/company_tickers.json: .* run it again later"):
        download(tmp_path, {"CHP": None})


@pytest.mark.parametrize(
    "body", [b'{"0": {"cik_str": 101, "tick', b"[]", b'{"0": 1}'], ids=["truncated", "another kind", "another shape"]
)
def test_a_list_of_tickers_that_is_none(server: Loopback, tmp_path: Path, body: bytes) -> None:
    server.answers["/files/company_tickers.json"] = Answer(body, "application/json")
    with pytest.raises(DownloadError, match=r"company_tickers\.json: the answer is not whole"):
        download(tmp_path, {"CHP": None})


@pytest.mark.parametrize("body", [b'{"filings": {"recent": {"accessionNumber": ["1"', b'{"filings": 3}', b"{}"])
def test_a_list_of_filings_that_is_none_fails_that_company_only(server: Loopback, tmp_path: Path, body: bytes) -> None:
    server.answers["/submissions/CIK0000000202.json"] = Answer(body, "application/json")
    index = download(tmp_path, {"CHP": None, "BNK": None}, range(2015, 2016)).set_index("ticker")
    assert index.loc["BNK", "status"] == "failed"
    assert "the answer is not whole" in index.loc["BNK", "reason"]
    assert (tmp_path / "raw" / "0000000101-16-000001.txt.gz").exists()


def test_tickers_that_do_not_exist_or_have_no_report(server: Loopback, tmp_path: Path) -> None:
    index = download(tmp_path, {"ZZZ": None, "NEW": None, "CHP": None}, range(2015, 2016)).set_index("ticker")
    assert index.loc["ZZZ", "reason"] == (
        "no company files under this ticker today; if one did, give its CIK, as in ZZZ=320193"
    )
    assert index.loc["NEW", "reason"] == "no annual report of the fiscal years 2015 to 2015"
    code, said = data(
        "filings", "--tickers", "ZZZ", "--years", "2015", "--out", tmp_path / "none", "--identity", IDENTITY
    )
    assert code == 2
    assert said.startswith("nothing to download; the first of the reasons is that of ZZZ: no company files under")


def test_filings_that_fail_in_a_row_end_the_download(server: Loopback, tmp_path: Path) -> None:
    many = Company(404, "MNY", "Many Co", [
        Filing(f"0000000404-{year - 1999:02d}-000001", "10-K", f"{year}-12-31", f"{year + 1}-03-01", words("m"))
        for year in range(2000, 2012)
    ])  # fmt: skip
    serve(server, [many])
    for path in list(server.answers):
        if path.startswith("/Archives/edgar/data/404/"):
            server.answers[path] = Answer(status=503)
    with pytest.raises(DownloadError, match="5 filings in a row could not be fetched, the last because http"):
        download(tmp_path, {"MNY": None}, range(2000, 2012))


# Stopping and going on.


def test_what_is_there_is_not_asked_for_again(server: Loopback, tmp_path: Path) -> None:
    download(tmp_path, {"CHP": None})
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "raw").iterdir()}
    server.asked.clear()
    download(tmp_path, {"CHP": None, "BNK": None})
    assert [path for path in server.paths() if "Archives" in path] == [
        "/Archives/edgar/data/202/0000000202-16-000001.txt"
    ]
    assert all((tmp_path / "raw" / name).stat().st_mtime_ns == at for name, at in before.items())


def test_years_of_an_earlier_download_stay_out_of_the_tables(server: Loopback, tmp_path: Path) -> None:
    options = ("--out", tmp_path, "--identity", IDENTITY)
    data("filings", "--tickers", "CHP", "--years", "2015-2016", *options)
    assert data("filings", "--tickers", "CHP", "--years", "2016", *options)[0] == 0
    assert read_table(tmp_path / "filings.parquet", FILINGS)["fiscal_year"].tolist() == [2016]


def test_a_killed_download_leaves_whole_files_and_goes_on(server: Loopback, tmp_path: Path) -> None:
    many = Company(404, "MNY", "Many Co", [
        Filing(f"0000000404-{year - 1999:02d}-000001", "10-K", f"{year}-12-31", f"{year + 1}-03-01", words("m", 4000))
        for year in range(2000, 2012)
    ])  # fmt: skip
    serve(server, [many])
    for answer in server.answers.values():
        answer.delay = 0.1
    command = [sys.executable, "-c", "from companysim.cli_data import app; app()"]
    command += ["filings", "--tickers", "MNY", "--years", "2000-2011", "--out", str(tmp_path), "--identity", IDENTITY]
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    raw = tmp_path / "raw"
    deadline = time.monotonic() + 60
    while not (raw.is_dir() and len(list(raw.glob("0*"))) >= 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = sorted(path.name for path in raw.glob("0*"))
    assert 3 <= len(there) < 12
    for name in there:
        assert gzip.decompress((raw / name).read_bytes()).endswith(b"</DOCUMENT>")
    (raw / ".partial-left").write_bytes(b"half")
    server.asked.clear()
    for answer in server.answers.values():
        answer.delay = 0
    download(tmp_path, {"MNY": None}, range(2000, 2012))
    assert len([path for path in server.paths() if "Archives" in path]) == 12 - len(there)
    assert sorted(path.name for path in raw.iterdir()) == [f"0000000404-{n:02d}-000001.txt.gz" for n in range(1, 13)]


def test_an_interrupt_does_not_wait_for_the_next_attempt(server: Loopback, tmp_path: Path) -> None:
    server.answers[CHIP_2015] = Answer(status=429, headers={"Retry-After": "250"})
    command = [sys.executable, "-c", "from companysim.cli_data import app; app()"]
    command += ["filings", "--tickers", "CHP", "--years", "2015", "--out", str(tmp_path), "--identity", IDENTITY]
    process = subprocess.Popen(
        command,
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=interruptible,
    )
    deadline = time.monotonic() + 60
    while CHIP_2015 not in server.paths():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0  # far below the 250 seconds the server asks for
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_full_disk_leaves_no_part_of_a_file(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", half)
        with pytest.raises(RunError, match=r"cannot write to .* \(No space left on device\): make room or choose"):
            download(tmp_path, {"CHP": None}, range(2015, 2016))
    assert list((tmp_path / "raw").iterdir()) == []
    download(tmp_path, {"CHP": None}, range(2015, 2016))
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["0000000101-16-000001.txt.gz"]


def test_a_folder_that_is_a_file(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    options = ("--years", "2015", "--out", tmp_path / "file", "--identity", IDENTITY)
    assert data("filings", "--tickers", "CHP", *options) == (
        2,
        f"cannot write to {tmp_path / 'file'} (Not a directory): make room or choose another --out",
    )
    assert server.asked == []


def test_two_downloads_into_one_folder_are_one_too_many(server: Loopback, tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(RunError, match="another process"):
        download(tmp_path, {"CHP": None})


# The command line.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--years", "2015"], "give either --tickers AAPL,MSFT or --tickers-file FILE"),
        (["--tickers", "CHP"], "give --years, such as --years 2015-2020"),
        (["--tickers", "CHP", "--years", "15"], "cannot read the years '15': write 2015 or 2015-2020, from 1992 on"),
        (["--tickers", "CHP", "--years", "2016-2015"], "cannot read the years"),
        (["--tickers", "A$B", "--years", "2015"], "cannot read the ticker 'A$B': write AAPL, or LEH=806085"),
        (["--tickers", " ,", "--years", "2015"], "no ticker is given"),
        (["--tickers-file", "nowhere.txt", "--years", "2015"], "cannot read nowhere.txt"),
        (["--from-folder", ".", "--years", "2015"], "--from-folder takes what the folder holds"),
    ],
)
def test_what_a_user_may_get_wrong(server: Loopback, tmp_path: Path, arguments: list[str], said: str) -> None:
    code, output = data("filings", *arguments, "--out", tmp_path, "--identity", IDENTITY)
    assert code == 2
    assert said in output
    assert server.asked == []


def test_tickers_from_a_file(server: Loopback, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("# our list\nchp   # chips\nGONE=CIK0000000202\n\n")
    code, said = data("filings", "--tickers-file", listed, "--years", "2015", "--out", tmp_path, "--identity", IDENTITY)
    assert code == 0, said
    assert read_table(tmp_path / "filings.parquet", FILINGS)["ticker"].tolist() == ["CHP", "GONE"]


def test_tickers_from_a_table(server: Loopback, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("company,ticker,cik\nChips,CHP,\nBank of old,GONE,202\n")
    assert read_tickers(None, listed) == {"CHP": None, "GONE": 202}
    pd.DataFrame({"ticker": ["CHP", "GONE"], "cik": [None, 202]}).to_parquet(tmp_path / "list.parquet")
    assert read_tickers(None, tmp_path / "list.parquet") == {"CHP": None, "GONE": 202}
    assert read_tickers(None, ROOT / "data" / "sample" / "companies.csv")["AAPL"] == 320193
    listed.write_text("name\nCHP\n")
    with pytest.raises(DataError, match=r"list\.csv: column 'ticker' is missing"):
        read_tickers(None, listed)
    with pytest.raises(DataError, match="the ticker GONE is given with two CIKs: keep one"):
        parse_tickers("GONE=202 GONE=203")
