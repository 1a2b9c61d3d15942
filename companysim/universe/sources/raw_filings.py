"""From a folder of annual reports, as EDGAR or a browser left them, to the tables `companysim run` reads.

A full text submission says itself who filed it, when and for which year. A bare document does not: a file
``index.csv`` in the folder may say it (filing_id, which is the name of the file without its ending, cik, ticker, filed
and period, the end of the fiscal year); otherwise only its text can be taken.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from companysim.errors import DataError
from companysim.universe.sources.edgar_download import FAILED, INDEX, KEPT, RAW
from companysim.universe.sources.item1 import extract_business
from companysim.universe.sources.submission import fiscal_year, read_submission
from companysim.workspace import digest, write_text, writing

FILING_COLUMNS = ["filing_id", "cik", "ticker", "company", "fiscal_year", "filed", "text", "form", "period", "sic"]
COMPANY_COLUMNS = ["ticker", "cik", "company", "sic", "sic_source", "gics", "gics_source"]
REPORT_COLUMNS = [
    "filing_id", "cik", "ticker", "company", "form", "period", "filed", "status", "words", "heading", "next_heading",
    "reason",
]  # fmt: skip
EXTRACTED = "business"
_ENDINGS = re.compile(r"\.(?:txt|html?|xhtml)(?:\.gz)?$", re.IGNORECASE)
_FORM = re.compile(r"form\s*(10-?k(?:sb|t|405)?|20-?f)\b", re.IGNORECASE)
_CODE = [digest(Path(__file__).with_name(f"{name}.py")) for name in ("submission", "lines", "item1")]


@dataclass(frozen=True)
class RawFilings:
    """What a folder of annual reports holds.

    Attributes
    ----------
    filings : DataFrame
        The columns of the table `filings`, and form, period (end of the fiscal year) and sic (the code at filing); a
        row each filing whose description was found and whose company, day and year are known, ordered by filing_id.
    companies : DataFrame
        The columns of the table `companies`: a row each ticker with a filing; the code is that of its last one.
    texts : DataFrame
        filing_id and text of descriptions of which the company, the day or the year is not known.
    report : DataFrame
        One row a document, and one a filing or ticker of ``index.csv`` without document: filing_id, cik, ticker,
        company, form, period, filed, status (kept, left out, failed), words, heading, next_heading, reason.
    """

    filings: pd.DataFrame
    companies: pd.DataFrame
    texts: pd.DataFrame
    report: pd.DataFrame


def read_raw_filings(
    folder: Path,
    out: Path,
    *,
    only: Collection[str] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> RawFilings:
    """Extract the business descriptions of a folder's documents.

    Parameters
    ----------
    folder : Path
        Documents (``.txt``, ``.htm``, ``.html``, also ``.gz``), or a folder `raw` with them, and maybe ``index.csv``.
    out : Path
        What is extracted is kept in ``out/business``, one file a filing, and not extracted again.
    only : collection of str, optional
        Filings to read; all by default.
    report : callable
        Receives the number of documents done and in all.

    Raises
    ------
    DataError
        If the folder or the index cannot be read, or there is no document.
    RunError
        If `out` cannot be written to.
    """
    place = folder / RAW if (folder / RAW).is_dir() else folder
    found_there = sorted(file for file in place.glob("*") if _ENDINGS.search(file.name)) if place.is_dir() else []
    documents = [file for file in found_there if only is None or _ENDINGS.sub("", file.name) in only]
    if not documents:
        raise DataError(f"no document in {place}: give a folder with annual reports (.txt, .htm or .html, also .gz)")
    index = _index(folder / INDEX)
    with writing(out):
        (out / EXTRACTED).mkdir(parents=True, exist_ok=True)
    rows = []
    for done, file in enumerate(documents):
        report(done, len(documents))
        filing_id = _ENDINGS.sub("", file.name)
        known = index.pop(filing_id, {})
        if known.get("status", KEPT) == KEPT:
            rows.append(_row(filing_id, known, _extracted(file, filing_id, known, out / EXTRACTED)))
        else:
            rows.append(known)
    report(len(documents), len(documents))
    for known in index.values():
        if known.get("status") == KEPT:
            rows.append(known | {"status": FAILED, "reason": "its document is not in the folder: download it again"})
        else:
            rows.append(known)
    columns = [*REPORT_COLUMNS, "text", "sic", "fiscal_year"]
    unset: dict[str, Any] = {name: "" for name in columns} | {"words": 0, "fiscal_year": 0}
    found = pd.DataFrame([unset | row for row in rows], columns=columns)
    found = found.sort_values(["filing_id", "ticker"], ignore_index=True)
    described = found[found["status"] == KEPT]
    complete = described["reason"] == ""
    filings = described[complete].astype({"cik": "int64", "fiscal_year": "int64"})
    return RawFilings(
        filings=filings[FILING_COLUMNS].reset_index(drop=True),
        companies=_companies(filings, found),
        texts=described.loc[~complete, ["filing_id", "text"]].reset_index(drop=True),
        report=found[REPORT_COLUMNS],
    )


def _index(file: Path) -> dict[str, dict[str, Any]]:
    """Rows of the index by filing; a row of a ticker without filing is kept under the ticker."""
    if not file.exists():
        return {}
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {file} ({' '.join(str(error).split())}): give a CSV file, or remove it"
        ) from error
    if "filing_id" not in table.columns:
        raise DataError(f"{file}: column 'filing_id' is missing: name each document's file there, without its ending")
    rows: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(table.to_dict("records"), start=1):
        key = str(row["filing_id"] or f"ticker {row.get('ticker', number)}")
        if key in rows:
            raise DataError(f"{file}: column 'filing_id' repeats {key!r} (row {number}): each may stand once")
        for name, pattern, example in (("cik", r"\d*", "320193"), ("period", r"(\d{4}-\d\d-\d\d)?", "2012-12-31")):
            value = row.get(name, "")
            if not re.fullmatch(pattern, value):
                raise DataError(f"{file}: column {name!r} holds {value!r} (row {number}): write {example}, or leave it")
        rows[key] = {str(name): value for name, value in row.items()}
        if row["filing_id"] and rows[key].get("status", KEPT) == KEPT:
            rows[key] |= {"status": KEPT, "reason": ""}
    return rows


def _extracted(file: Path, filing_id: str, known: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Header and description of a document, taken from what was kept if document and code are the same."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix.lower() == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        return {
            "reason": f"the file {file.name} cannot be read ({' '.join(str(error).split())}): remove it and run again"
        }
    key = hashlib.sha256(
        "".join([*_CODE, str(known.get("form")), str(known.get("cik"))]).encode() + content
    ).hexdigest()
    kept = folder / f"{filing_id}.json"
    try:
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if found["key"] == key:
            return found
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        pass
    cik = str(known.get("cik", ""))
    submission = read_submission(content, int(cik) if cik.isdigit() else None)
    named = _FORM.search(submission.document[:50_000])
    form = known.get("form") or submission.form or (named[1].upper() if named else "10-K")
    business = extract_business(submission.document, form)
    header = asdict(submission) | {"form": form}
    found = {"key": key, **header, **asdict(business), "words": business.words}
    del found["document"]
    with writing(folder):
        write_text(kept, json.dumps(found))
    return found


def _row(filing_id: str, known: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """One filing: what its header says, then what the index says; why it cannot be used, if it cannot."""
    row = {name: found.get(name) or known.get(name) or "" for name in ("company", "form", "period", "filed", "sic")}
    cik = str(known.get("cik") or found.get("cik") or "")
    row |= {"filing_id": filing_id, "cik": cik, "ticker": known.get("ticker") or (f"CIK{cik}" if cik else "")}
    row |= {name: found[name] for name in ("words", "heading", "next_heading", "text") if name in found}
    reason = found.get("reason", "")
    accession = found.get("accession")
    if accession and known.get("accession", filing_id) != accession and re.fullmatch(r"\d{10}-\d\d-\d{6}", filing_id):
        reason = f"the file holds another filing, {accession}: remove it and run again"
    unknown = [name for name in ("cik", "filed", "period") if not row[name]]
    row["status"] = FAILED if reason else KEPT
    if not reason and unknown:
        reason = f"only its text can be used: neither a header nor {INDEX} gives {' and '.join(unknown)}"
    else:
        row["fiscal_year"] = 0 if unknown else fiscal_year(row["period"])
    return row | {"reason": reason}


def _companies(filings: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Make the table of companies: a row each ticker of a company that has a filing."""
    last = filings.sort_values(["filed", "filing_id"]).drop_duplicates("cik", keep="last")
    last = last[["cik", "company", "sic", "filed"]]
    listed = found.loc[found["cik"].isin(last["cik"].astype(str)) & (found["ticker"] != ""), ["ticker", "cik"]]
    table = listed.drop_duplicates().astype({"cik": "int64"}).merge(last, on="cik").sort_values("ticker")
    table["sic_source"] = ("EDGAR, filing of " + table["filed"]).where(table["sic"] != "", "")
    return table.assign(gics="", gics_source="")[COMPANY_COLUMNS].reset_index(drop=True)
