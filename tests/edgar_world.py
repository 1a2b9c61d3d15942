"""A small EDGAR of companies that never were, in the SEC's shapes, to be served on loopback."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, field

from tests.loopback import Answer, Loopback

IDENTITY = "Jo Tester jo.tester@example.org"


_ADDRESS = dict.fromkeys(("street1", "street2", "city", "stateOrCountry", "zipCode", "stateOrCountryDescription"), "")
_ABOUT = dict.fromkeys(
    ("entityType", "sic", "sicDescription", "ein", "description", "website", "investorWebsite", "category",
     "fiscalYearEnd", "stateOfIncorporation", "stateOfIncorporationDescription", "phone", "flags"), ""
) | {
    "addresses": {"mailing": _ADDRESS, "business": _ADDRESS},
    "exchanges": ["NYSE"],
    "insiderTransactionForOwnerExists": 0,
    "insiderTransactionForIssuerExists": 0,
    "formerNames": [],
}  # fmt: skip
"""What the SEC says of a company besides, as far as edgartools wants it."""


@dataclass(frozen=True)
class Filing:
    accession: str
    form: str
    period: str
    filed: str
    description: str
    sic: str = "3674"
    older: bool = False
    documents: tuple[tuple[str, str], ...] = ()
    """Documents in place of the usual annual report and exhibit."""


@dataclass
class Company:
    cik: int
    ticker: str
    name: str
    filings: list[Filing] = field(default_factory=list)
    more_tickers: tuple[str, ...] = ()


def words(kind: str, count: int = 150) -> str:
    """A description long enough to be one."""
    stock = f"{kind} makes and sells {kind} goods to customers in many states through its own stores and agents".split()
    return " ".join(stock[i % len(stock)] for i in range(count)) + "."


def html_report(description: str, form: str = "10-K") -> str:
    """An annual report of our days: contents, Part I, tables."""
    return f"""<html><head><title>{form}</title></head><body>
<div style="display:none"><ix:header>hidden facts Item 1. Business</ix:header></div>
<p>FORM {form}</p><p><b>TABLE OF CONTENTS</b></p>
<table><tr><td>Item 1.</td><td>Business</td><td>3</td></tr><tr><td>Item 1A.</td><td>Risk Factors</td><td>9</td></tr>
<tr><td>Item 2.</td><td>Properties</td><td>12</td></tr></table>
<p>PART I</p><div><span>Item&#160;1.</span><span> Business</span></div>
<p>{description}</p><p>4</p><p><a href="#toc">Table of Contents</a></p><p>We sell at &#147;home&#148; and abroad.</p>
<p>Item 1A. Risk Factors</p><p>Much may go wrong.</p><p>Item 2. Properties</p><p>A house.</p><p>PART II</p>
</body></html>"""


def text_report(
    body: str, start: str = "ITEM 1.  BUSINESS", inside: str = "", after: str = "ITEM 2.  PROPERTIES\n\n     A mill.\n"
) -> str:
    """A text filing of the 1990s: contents with dotted lines, wrapped paragraphs, page marks."""
    contents = [("1.", "Business", 1), ("2.", "Properties", 4), ("3.", "Legal Proceedings", 5)]
    table = "\n".join(f"Item {n:<4}{title} {'.' * (40 - len(title))} {page:>3}" for n, title, page in contents)
    text = textwrap.indent("\n".join(textwrap.wrap(body, 70)), "  ")
    half = text.index("\n", len(text) // 2)
    return f"""
                       SECURITIES AND EXCHANGE COMMISSION
                             Washington, D.C. 20549
                                   FORM 10-K

                               TABLE OF CONTENTS
                                                                  PAGE
                                     PART I
{table}
<PAGE>
                                     PART I

{start}

{text[:half]}

                                       2
<PAGE>

{text[half + 1 :]}
{inside}
<TABLE>
<CAPTION>
                              1996        1995
                              ----        ----
<S>                           <C>         <C>
Flour ......................  $   12      $   11
Feed .......................       3           4
</TABLE>

{after}

                                    PART II

ITEM 5.  MARKET FOR THE REGISTRANT'S COMMON EQUITY
"""


def submission(company: Company, filing: Filing) -> str:
    """A full text submission: header, annual report, exhibit."""
    documents = filing.documents or (
        (filing.form, html_report(filing.description, filing.form)),
        ("EX-21", "<html><body><p>Item 1. Business</p><p>of the exhibit</p></body></html>"),
    )
    inside = "".join(
        f"<DOCUMENT>\n<TYPE>{kind}\n<SEQUENCE>{number}\n<FILENAME>d{number}.htm\n<TEXT>\n{body}\n</TEXT>\n</DOCUMENT>\n"
        for number, (kind, body) in enumerate(documents, start=1)
    )
    return f"""<SEC-DOCUMENT>{filing.accession}.txt : {filing.filed.replace("-", "")}
<SEC-HEADER>{filing.accession}.hdr.sgml : {filing.filed.replace("-", "")}
ACCESSION NUMBER:\t\t{filing.accession}
CONFORMED SUBMISSION TYPE:\t{filing.form}
PUBLIC DOCUMENT COUNT:\t\t{len(documents)}
CONFORMED PERIOD OF REPORT:\t{filing.period.replace("-", "")}
FILED AS OF DATE:\t\t{filing.filed.replace("-", "")}

FILER:

\tCOMPANY DATA:\t
\t\tCOMPANY CONFORMED NAME:\t\t\t{company.name.upper()}
\t\tCENTRAL INDEX KEY:\t\t\t{company.cik:010d}
\t\tSTANDARD INDUSTRIAL CLASSIFICATION:\tMADE UP TRADE [{filing.sic}]
\t\tFISCAL YEAR END:\t\t\t1231

\tFILING VALUES:
\t\tFORM TYPE:\t\t{filing.form}
</SEC-HEADER>
{inside}</SEC-DOCUMENT>
"""


def columns(filings: list[Filing]) -> dict[str, list[object]]:
    """The column-wise table of ``submissions/CIK##########.json``."""
    return {
        "accessionNumber": [filing.accession for filing in filings],
        "filingDate": [filing.filed for filing in filings],
        "reportDate": [filing.period for filing in filings],
        "acceptanceDateTime": [f"{filing.filed}T16:05:00.000Z" for filing in filings],
        "act": ["34" for _ in filings],
        "form": [filing.form for filing in filings],
        "fileNumber": ["001-00001" for _ in filings],
        "filmNumber": ["1" for _ in filings],
        "items": ["" for _ in filings],
        "size": [1000 for _ in filings],
        "isXBRL": [0 for _ in filings],
        "isInlineXBRL": [0 for _ in filings],
        "primaryDocument": ["d1.htm" for _ in filings],
        "primaryDocDescription": [filing.form for filing in filings],
    }


def serve(server: Loopback, companies: list[Company]) -> None:
    """Let `server` answer as EDGAR would for these companies."""
    listed = [
        {"cik_str": company.cik, "ticker": ticker, "title": company.name}
        for company in companies
        for ticker in (company.ticker, *company.more_tickers)
    ]
    tickers = {str(number): row for number, row in enumerate(listed)}
    server.answers["/files/company_tickers.json"] = Answer(json.dumps(tickers).encode(), "application/json")
    for company in companies:
        recent = [filing for filing in company.filings if not filing.older]
        older = [filing for filing in company.filings if filing.older]
        name = f"CIK{company.cik:010d}-submissions-001.json"
        parts = []
        if older:
            dates = sorted(filing.filed for filing in older)
            parts = [{"name": name, "filingCount": len(older), "filingFrom": dates[0], "filingTo": dates[-1]}]
            server.answers[f"/submissions/{name}"] = Answer(json.dumps(columns(older)).encode(), "application/json")
        body = _ABOUT | {
            "cik": f"{company.cik:010d}",
            "name": company.name,
            "tickers": [company.ticker, *company.more_tickers],
            "filings": {"recent": columns(recent), "files": parts},
        }
        path = f"/submissions/CIK{company.cik:010d}.json"
        server.answers[path] = Answer(json.dumps(body).encode(), "application/json")
        for filing in company.filings:
            path = f"/Archives/edgar/data/{company.cik}/{filing.accession}.txt"
            server.answers[path] = Answer(submission(company, filing).encode("cp1252", "replace"))
