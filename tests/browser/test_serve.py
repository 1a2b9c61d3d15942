"""The local page as a reader meets it."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest

import companysim as cs
from tests.report.world import HOSTILE

pytestmark = pytest.mark.browser


@pytest.fixture
def page(address: str, open_page: Any) -> Any:
    found = open_page(address)
    found.locator("#rows tbody tr").first.wait_for()
    return found


def test_search_sort_and_turn_pages(run: cs.Run, page: Any) -> None:
    row = run.companies.iloc[5]
    assert f"of {len(run.companies)}" in page.locator("#said").inner_text()
    page.get_by_label("Search").fill(row["company"].lower())
    page.locator("#rows tbody tr").filter(has_text=row["company"]).wait_for()
    page.locator("#said").filter(has_text="to 1 of 1").wait_for()
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="cik", exact=True).click()
    lowest = str(run.companies.sort_values("cik")["ticker"].iloc[0])
    page.locator("#rows tbody tr:first-child td:first-child", has_text=lowest).wait_for()
    page.locator("#table").select_option("trades")
    page.locator("#rows th", has_text="pnl_net").wait_for()


def test_downloads_hold_the_table(run: cs.Run, page: Any) -> None:
    page.locator("#table").select_option("benchmark")
    page.locator("#rows th", has_text="pair_weighted").wait_for()
    with page.expect_download() as started:
        page.locator("#downloads").get_by_role("link", name="csv").click()
    found = pd.read_csv(io.BytesIO(started.value.path().read_bytes()))
    pd.testing.assert_frame_equal(found, run.benchmark)


def test_runs_are_compared(run: cs.Run, page: Any) -> None:
    page.locator("#comparison tbody tr").first.wait_for()
    page.locator("#figure").select_option("pair_weighted")
    shown = page.locator("#comparison tbody tr").filter(has_text="sae").first.inner_text().split()
    assert float(shown[1]) == pytest.approx(run.summary["benchmark"][0]["pair_weighted"], abs=1e-5)
    assert float(shown[-1]) == 0


def test_a_ticker_leads_to_the_report(run: cs.Run, page: Any) -> None:
    ticker = run.companies["ticker"].iloc[1]
    page.locator("#rows tbody").get_by_role("link", name=ticker, exact=True).click()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#company h3").inner_text().startswith(ticker)


def test_a_company_called_script_does_nothing(run: cs.Run, page: Any) -> None:
    if HOSTILE not in set(run.companies["company"]):
        pytest.skip("this run has no such company")
    assert HOSTILE in page.locator("#rows").inner_text()
    assert page.evaluate("window.hacked") is None
    assert page.locator("#rows img, #rows script").count() == 0
