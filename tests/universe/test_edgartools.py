"""edgartools as an outside oracle: the same filings listed, and the same facts in their headers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from companysim.universe.sources.edgar import Edgar, edgar_client
from companysim.universe.sources.submission import read_submission
from tests.edgar_world import IDENTITY, serve, submission
from tests.loopback import Loopback
from tests.universe.test_edgar import BANK, CHIPS, YOUNG

PEER = """
import json, sys
from edgar import Company
from edgar.sgml import FilingHeader
lists, headers = {}, {}
for cik in (101, 202, 303):
    found = Company(cik).get_filings(form=["10-K", "10-K405"], amendments=True).to_pandas()
    rows = found[["accession_number", "form", "reportDate", "filing_date"]].astype(str)
    lists[cik] = rows.sort_values(["filing_date", "accession_number"]).values.tolist()
for name, text in json.load(sys.stdin).items():
    header = FilingHeader.parse_from_sgml_text(text.split("hdr.sgml")[1].split("</SEC-HEADER>")[0])
    filer = header.filers[0].company_information
    headers[name] = [header.accession_number, header.form, header.period_of_report, header.filing_date, filer.name,
                     int(filer.cik), filer.sic[-5:-1]]
print(json.dumps([lists, headers]))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("edgar") is None, reason="needs edgartools")
def test_lists_and_headers_are_those_of_edgartools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    companies = (CHIPS, BANK, YOUNG)
    texts = {filing.accession: submission(company, filing) for company in companies for filing in company.filings}
    with Loopback() as server:
        serve(server, list(companies))
        for variable in ("EDGAR_BASE_URL", "EDGAR_DATA_URL"):
            monkeypatch.setenv(variable, server.url)
        # In a process of its own: importing edgartools changes the locale and writes to the home directory.
        environment = os.environ | {"EDGAR_IDENTITY": IDENTITY, "EDGAR_LOCAL_DATA_DIR": str(tmp_path)}
        peer = subprocess.run(
            [sys.executable, "-c", PEER],
            env=environment,
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            check=True,
        )
        lists, headers = json.loads(peer.stdout)
        with edgar_client(IDENTITY, per_second=500) as client:
            ours = {str(company.cik): Edgar(client).annual_reports(company.cik, 1992) for company in companies}
    assert {cik: table.to_numpy().tolist() for cik, table in ours.items()} == lists
    assert sum(map(len, lists.values())) == 7
    for name, text in texts.items():
        found = read_submission(text.encode())
        facts = [found.accession, found.form, found.period, found.filed, found.company, found.cik, found.sic]
        assert facts == headers[name]
