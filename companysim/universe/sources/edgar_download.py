"""From tickers to a folder of annual reports, one file a filing: a stopped download goes on where it stopped."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from companysim.errors import DataError
from companysim.universe.sources.edgar import Edgar
from companysim.universe.sources.http import DownloadError, RefusedError
from companysim.universe.sources.submission import fiscal_year
from companysim.workspace import hold, remove_partial, replacing, write_csv, writing

RAW, INDEX, SUFFIX = "raw", "index.csv", ".txt.gz"
INDEX_COLUMNS = ["filing_id", "cik", "ticker", "company", "form", "period", "filed", "status", "reason"]
KEPT, LEFT_OUT, FAILED = "kept", "left out", "failed"
_THREADS = 4
_IN_A_ROW = 5


def download_filings(
    edgar: Edgar,
    tickers: Mapping[str, int | None],
    years: Collection[int],
    folder: Path,
    *,
    amendments: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Download the annual reports of companies; what lies in the folder already is not asked for again.

    Parameters
    ----------
    edgar : Edgar
    tickers : mapping of str to int or None
        The CIK of each ticker; None looks it up among the tickers of today.
    years : collection of int
        Fiscal years, see `companysim.universe.sources.submission.fiscal_year`.
    folder : Path
        Receives ``raw/<accession>.txt.gz``, each written whole or not at all, and ``index.csv``.
    amendments : bool
        Keep amendments too. They are listed in any case.
    report : callable
        Receives the number of filings done and in all.

    Returns
    -------
    DataFrame
        The index, ordered by cik, filed and filing_id: filing_id, cik, ticker, company, form, period, filed, status
        (kept, left out, failed) and reason. A company without a report has a row without filing_id, and so have further
        tickers of a company: its filings stand under the first in the alphabet.

    Raises
    ------
    DataError
        If there is nothing to download.
    RefusedError
        If the SEC refuses requests; what has arrived stays.
    DownloadError
        If five filings in a row fail; what has arrived stays.
    RunError
        If the folder cannot be written to, or another process downloads into it.
    """
    raw = folder / RAW
    with writing(folder):
        raw.mkdir(parents=True, exist_ok=True)
    with writing(folder), hold(folder):
        remove_partial(folder)
        remove_partial(raw)
        index = _index(edgar, tickers, years, amendments)
        write_csv(folder / INDEX, index)
        wanted = index[index["status"] == KEPT]
        if wanted.empty:
            first = index.iloc[0]
            raise DataError(f"nothing to download; the first of the reasons is that of {first.ticker}: {first.reason}")
        failed = _fetch(edgar, wanted, raw, report)
        index["status"] = index["status"].mask(index["filing_id"].isin(failed), FAILED)
        index["reason"] = [failed.get(name, reason) for name, reason in zip(index.filing_id, index.reason, strict=True)]
        write_csv(folder / INDEX, index)
    return index


def _index(edgar: Edgar, tickers: Mapping[str, int | None], years: Collection[int], amendments: bool) -> pd.DataFrame:
    """All annual reports of the years with what is to become of each, and the companies that have none."""
    today = edgar.tickers() if None in tickers.values() else {}
    rows: list[dict[str, Any]] = []
    companies: dict[int, dict[str, Any]] = {}
    for ticker in sorted(tickers):
        cik, name = today.get(ticker.replace(".", "-").replace("/", "-"), (None, ""))
        cik = tickers[ticker] or cik
        if cik is None:
            reason = f"no company files under this ticker today; if one did, give its CIK, as in {ticker}=320193"
            rows.append({"ticker": ticker, "status": FAILED, "reason": reason})
        elif cik in companies:
            reason = f"the same company as {companies[cik]['ticker']}, where its filings stand"
            rows.append({"cik": cik, "ticker": ticker, "company": name, "status": LEFT_OUT, "reason": reason})
        else:
            companies[cik] = {"cik": cik, "ticker": ticker, "company": name}
    for cik, company in companies.items():
        try:
            reports = edgar.annual_reports(cik, min(years))
        except RefusedError:
            raise
        except DownloadError as error:
            rows.append(company | {"status": FAILED, "reason": str(error)})
            continue
        chosen = _chosen(reports, years, amendments)
        if chosen.empty:
            reason = f"no annual report of the fiscal years {min(years)} to {max(years)}"
            rows.append(company | {"status": FAILED, "reason": reason})
        rows.extend(company | {str(name): value for name, value in row.items()} for row in chosen.to_dict("records"))
    unset = {name: "" for name in INDEX_COLUMNS} | {"cik": 0}
    table = pd.DataFrame([unset | row for row in rows], columns=INDEX_COLUMNS)
    return table.sort_values(["cik", "filed", "filing_id", "ticker"], ignore_index=True)


def _chosen(reports: pd.DataFrame, years: Collection[int], amendments: bool) -> pd.DataFrame:
    """Choose reports of the wanted years, and say why; of several originals of one year the first filed is kept."""
    # Where EDGAR names no period, a report is taken to be of the year before it was filed.
    before = (reports["filed"].str[:4].astype(int) - 1).astype(str) + "-12-31"
    chosen = reports.assign(year=reports["period"].where(reports["period"] != "", before).map(fiscal_year))
    chosen = chosen[chosen["year"].isin(list(years))]
    amended = chosen["form"].str.upper().str.endswith("/A")
    again = chosen.assign(amended=amended).duplicated(["year", "amended"]) & ~amended
    reason = pd.Series("", chosen.index).mask(again, "the company filed another report of this fiscal year before")
    if not amendments:
        reason = reason.mask(amended, "an amendment; --amendments keeps it")
    return chosen.assign(status=reason.map(lambda text: LEFT_OUT if text else KEPT), reason=reason)


def _fetch(edgar: Edgar, wanted: pd.DataFrame, raw: Path, report: Callable[[int, int], None]) -> dict[str, str]:
    """Download what is missing; return why some filings failed. Stops where none would come."""
    filings = zip(wanted["cik"].astype(int), wanted["filing_id"], strict=True)
    missing = [(cik, filing_id) for cik, filing_id in filings if not (raw / f"{filing_id}{SUFFIX}").exists()]
    done = len(wanted) - len(missing)
    report(done, len(wanted))

    def fetch(filing: tuple[int, str]) -> str:
        cik, filing_id = filing
        try:
            content = edgar.submission(cik, filing_id)
        except RefusedError:
            raise
        except DownloadError as error:
            return str(error)
        with replacing(raw / f"{filing_id}{SUFFIX}") as temporary:
            temporary.write_bytes(gzip.compress(content, mtime=0))
        return ""

    failed: dict[str, str] = {}
    in_a_row = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for (_, filing_id), reason in zip(missing, pool.map(fetch, missing), strict=True):
                report(done := done + 1, len(wanted))
                in_a_row = in_a_row + 1 if reason else 0
                if reason:
                    failed[filing_id] = reason
                if in_a_row == _IN_A_ROW:
                    raise DownloadError(f"{in_a_row} filings in a row could not be fetched, the last because {reason}")
        except BaseException:
            edgar.client.stop()  # or the threads would go on waiting for their next attempts
            pool.shutdown(cancel_futures=True)
            raise
    return failed
