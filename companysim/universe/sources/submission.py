"""One filing as EDGAR keeps it: a header of facts, then documents between SGML marks, the annual report first.

EDGAR's full text submission of a filing (``<accession>.txt``) has had this shape since 1993. A bare document, as a
browser saves it, is read too; it has no header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ANNUAL = re.compile(r"(?:10-?K(?:T|SB|SB40|405|T405)?|20-?F)(?:/A)?", re.IGNORECASE)
"""Forms of an annual report, amendments included: 10-K, 10-K405, 10-KSB, 10-KT and 20-F."""
_HEADER = re.compile(r"<(SEC|IMS)-HEADER>.*?</\1-HEADER>", re.DOTALL | re.IGNORECASE)
_DOCUMENT = re.compile(r"<DOCUMENT>\s*<TYPE>([^\n<]*)(.*?)(?:</DOCUMENT>|\Z)", re.DOTALL | re.IGNORECASE)
_TEXT = re.compile(r"<TEXT>(.*?)(?:</TEXT>|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Submission:
    """Header and annual report of a filing.

    Attributes
    ----------
    form : str
        Submission type, such as ``10-K405``; empty where nothing says it.
    accession, company, sic : str
        Empty without a header. `sic` is the code the company had when it filed.
    cik : int
        0 without a header.
    period, filed : str
        End of the fiscal year and day of the filing, ``YYYY-MM-DD``; empty without a header.
    document : str
        The annual report itself: HTML, or text with page marks.
    """

    document: str
    form: str = ""
    accession: str = ""
    cik: int = 0
    company: str = ""
    sic: str = ""
    period: str = ""
    filed: str = ""


def read_submission(content: bytes, cik: int | None = None) -> Submission:
    """Take a filing apart.

    Parameters
    ----------
    content : bytes
        A full text submission, or a bare HTML or text document.
    cik : int, optional
        Of several filers of one submission, the one whose name and code are wanted; the first by default.

    Returns
    -------
    Submission
        Of the documents inside, the first of an annual form, or else the first.
    """
    text = decoded(content)
    found = _HEADER.search(text[:200_000])
    header = found.group() if found else ""
    documents = [(kind.strip(), body) for kind, body in _DOCUMENT.findall(text)]
    annual = [body for kind, body in documents if ANNUAL.fullmatch(kind)]
    body = (annual or [body for _, body in documents] or [text])[0]
    inner = _TEXT.search(body)
    blocks = re.split(r"(?m)^\s*(?:FILER|FILED BY|SUBJECT COMPANY):\s*$", header)
    filers = [block for block in blocks[1:] if _value(block, "CENTRAL INDEX KEY")]
    ciks = [int(_value(block, "CENTRAL INDEX KEY")) for block in filers]
    block = filers[ciks.index(cik) if cik in ciks else 0] if filers else ""
    code = re.search(r"\[(\d{4})\]", _value(block, "STANDARD INDUSTRIAL CLASSIFICATION"))
    return Submission(
        document=inner.group(1) if inner else body,
        form=_value(header, "CONFORMED SUBMISSION TYPE") or (documents[0][0] if documents else ""),
        accession=_value(header, "ACCESSION NUMBER"),
        cik=int(_value(block, "CENTRAL INDEX KEY") or 0),
        company=_value(block, "COMPANY CONFORMED NAME"),
        sic=code.group(1) if code and code.group(1) != "0000" else "",
        period=_day(_value(header, "CONFORMED PERIOD OF REPORT")),
        filed=_day(_value(header, "FILED AS OF DATE")),
    )


def report_end(content: bytes | bytearray) -> int:
    """Where the annual report of a submission ends, which may still be arriving; 0 if it is not there whole."""
    mark = b"</DOCUMENT>"
    end = content.find(mark)
    while end >= 0:
        kind = content.rfind(b"<TYPE>", 0, end)
        form = bytes(content[kind + 6 : kind + 26]).split(b"\n")[0].strip() if kind >= 0 else b""
        if ANNUAL.fullmatch(form.decode("ascii", "replace")):
            return end + len(mark)
        end = content.find(mark, end + 1)
    return 0


def decoded(content: bytes) -> str:
    """Text of a document: UTF-8 where it is that, otherwise Windows' Latin letters, which old filings use."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def fiscal_year(period: str) -> int:
    """Fiscal year of a year that ends on `period` (``YYYY-MM-DD``), as Compustat counts.

    A year that ends from January to May counts as the year before: that is where most of it lies. A year of 52 or 53
    weeks ends up to a week later than the month it is kept by, so the first seven days of June still count as May:
    otherwise a company whose years end on 1 June 2013 and 31 May 2014 would have 2013 twice and 2012 never.
    """
    return int(period[:4]) - (period[5:10] <= "06-07")


def _value(header: str, name: str) -> str:
    found = re.search(rf"(?m)^\s*{re.escape(name)}:[ \t]*(.*?)\s*$", header)
    return found.group(1) if found else ""


def _day(digits: str) -> str:
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if re.fullmatch(r"\d{8}", digits) else ""
