"""What EDGAR knows of a company: its CIK, its annual reports and their text.

Three kinds of addresses are used, all documented by the SEC: the list of tickers (``company_tickers.json``), the list
of a company's filings (``submissions/CIK##########.json`` and the older parts it names) and a filing's full text
submission (``<accession>.txt``), of which the header and the annual report are read and the exhibits are not. The SEC
asks for a name and an e-mail address with every request and for at most ten requests a second
(https://www.sec.gov/os/accessing-edgar-data).

edgartools knows the same addresses, and the tests compare lists and headers with its. The requests are not left to it:
measured against a server on loopback, version 5.62 repeats neither a 429 nor a 503, and what the archive sent in place
of a filing, a page of the wrong type or half a document, stays in its cache for good. It also prompts for a missing
identity, and changes locale and home directory when it is imported.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from companysim.errors import ConfigError
from companysim.universe.sources.http import Client
from companysim.universe.sources.submission import ANNUAL, report_end

IDENTITY = "EDGAR_IDENTITY"
"""Environment variable with who asks, such as ``Jane Doe jane@example.org``; edgartools reads the same one."""
SITE = ("EDGAR_BASE_URL", "https://www.sec.gov")
DATA = ("EDGAR_DATA_URL", "https://data.sec.gov")
"""Environment variables that may name a mirror, as in edgartools, and where EDGAR is otherwise."""
_COLUMNS = {"accessionNumber": "filing_id", "form": "form", "reportDate": "period", "filingDate": "filed"}
_LAST_MARKS = (b"</SEC-DOCUMENT>", b"</IMS-DOCUMENT>", b"</SUBMISSION>", b"-----END PRIVACY-ENHANCED MESSAGE-----")


def edgar_client(identity: str | None = None, **settings: Any) -> Client:
    """Client that says who asks.

    Parameters
    ----------
    identity : str, optional
        Name and e-mail address; `IDENTITY` of the environment if None.
    **settings
        Of `companysim.universe.sources.http.Client`.

    Raises
    ------
    ConfigError
        If neither gives an e-mail address: the SEC answers no anonymous request.
    """
    who = identity or os.environ.get(IDENTITY, "")
    if not (re.search(r"\S@\S+\.\S", who) and who.isascii() and who.isprintable()):
        raise ConfigError(
            "the SEC wants to know who downloads: give your name and e-mail address with --identity or in the "
            f"environment variable {IDENTITY}, such as 'Jane Doe jane@example.org'"
        )
    refusal = "it does so when requests come too fast or do not say who asks; wait ten minutes and run it again"
    return Client(who, refusal=refusal, **settings)


@dataclass(frozen=True)
class Edgar:
    """EDGAR's answers, one method a kind of address.

    Attributes
    ----------
    client : Client
        See `edgar_client`. Each method raises what `companysim.universe.sources.http.Client.get` raises.
    """

    client: Client

    def tickers(self) -> dict[str, tuple[int, str]]:
        """CIK and name of each ticker in use today; share classes are written BRK-B."""
        return self.client.get(f"{_url(SITE)}/files/company_tickers.json", "json", _tickers)

    def annual_reports(self, cik: int, since: int) -> pd.DataFrame:
        """List the annual reports of a company, amendments included.

        Parameters
        ----------
        cik : int
        since : int
            Older parts of the list that end before this year are not asked for.

        Returns
        -------
        DataFrame
            filing_id (the accession number), form, period (end of the fiscal year; empty where EDGAR has none), filed;
            ordered by filed and filing_id.
        """
        home = f"{_url(DATA)}/submissions"
        table, older = self.client.get(f"{home}/CIK{cik:010d}.json", "json", _filings)
        wanted = [part["name"] for part in older if int(part["filingTo"][:4]) >= since]
        table = pd.concat([table, *(self.client.get(f"{home}/{name}", "json", _older) for name in wanted)])
        annual = [ANNUAL.fullmatch(form) is not None for form in table["form"]]
        return table[annual].drop_duplicates("filing_id").sort_values(["filed", "filing_id"], ignore_index=True)

    def submission(self, cik: int, filing_id: str) -> bytes:
        """Header and annual report of a filing; all of it, where it holds no annual report."""
        url = f"{_url(SITE)}/Archives/edgar/data/{cik}/{filing_id}.txt"
        return self.client.get(url, "text/plain", _whole, report_end)


def _url(place: tuple[str, str]) -> str:
    variable, default = place
    return os.environ.get(variable, default).rstrip("/")


def _tickers(content: bytes) -> dict[str, tuple[int, str]]:
    try:
        rows = json.loads(content).values()
        return {row["ticker"].upper(): (int(row["cik_str"]), str(row["title"])) for row in rows}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("it is no list of tickers") from error


def _filings(content: bytes) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    try:
        filings = json.loads(content)["filings"]
        return _table(filings["recent"]), list(filings.get("files") or [])
    except (KeyError, TypeError) as error:
        raise ValueError("it is no list of filings") from error


def _older(content: bytes) -> pd.DataFrame:
    try:
        return _table(json.loads(content))
    except (KeyError, TypeError) as error:
        raise ValueError("it is no list of filings") from error


def _table(columns: dict[str, list[str]]) -> pd.DataFrame:
    return pd.DataFrame({new: columns[old] for old, new in _COLUMNS.items()}).fillna("").astype(str)


def _whole(content: bytes) -> bytes:
    """Up to the end of the annual report; ValueError if the filing breaks off before."""
    end = report_end(content)
    if not end and not content.rstrip().endswith(_LAST_MARKS):
        raise ValueError("it breaks off before the end of the annual report")
    return content[: end or len(content)]
