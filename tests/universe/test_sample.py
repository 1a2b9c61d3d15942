"""The bundled sample is what the documentation says it is."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from companysim.universe import COMPANIES, FILINGS, PRICES, build_universe, bundled, read_table


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return read_table(bundled("sample/prices.parquet"), PRICES)


@pytest.fixture(scope="module")
def companies() -> pd.DataFrame:
    return read_table(bundled("sample/companies.csv"), COMPANIES)


@pytest.fixture(scope="module")
def filings() -> pd.DataFrame:
    return read_table(bundled("sample/filings.parquet"), FILINGS)


def test_prices_are_all_there(prices: pd.DataFrame) -> None:
    assert len(prices) == 1_084_827
    assert prices["ticker"].nunique() == 431
    assert prices["date"].min() == pd.Timestamp("2007-01-04")
    assert prices["date"].max() == pd.Timestamp("2016-12-30")
    assert (prices["adj_close"] > 0).all()


def test_every_line_has_a_price_on_every_day(prices: pd.DataFrame) -> None:
    assert (prices["ticker"].value_counts() == prices["date"].nunique()).all()
    assert (prices["date"].dt.day_of_week < 5).all()


def test_companies_are_430_and_fox_has_two_lines(companies: pd.DataFrame, prices: pd.DataFrame) -> None:
    assert len(companies) == 431
    assert companies["cik"].nunique() == 430
    assert companies.loc[companies["cik"].duplicated(keep=False), "ticker"].tolist() == ["FOX", "FOXA"]
    assert set(companies["ticker"]) == set(prices["ticker"])


def test_every_code_says_where_it_comes_from(companies: pd.DataFrame) -> None:
    for scheme in ("sic", "gics"):
        assert ((companies[scheme] == "") == (companies[f"{scheme}_source"] == "")).all()


def test_every_company_has_one_filing_of_2011(filings: pd.DataFrame, companies: pd.DataFrame) -> None:
    assert len(filings) == 430
    assert set(filings["cik"]) == set(companies["cik"])
    assert (filings["fiscal_year"] == 2011).all()
    assert (filings["filed"] == pd.Timestamp("2012-03-01")).all()


def test_every_filing_carries_a_ticker_and_name_of_its_company(filings: pd.DataFrame, companies: pd.DataFrame) -> None:
    listed = set(zip(companies["cik"], companies["ticker"], companies["company"], strict=True))
    assert set(zip(filings["cik"], filings["ticker"], filings["company"], strict=True)) <= listed


def test_every_text_has_80_to_150_words_of_ascii(filings: pd.DataFrame) -> None:
    assert filings["text"].str.split().str.len().between(80, 150).all()
    assert filings["text"].map(str.isascii).all()


def test_no_text_gives_its_ticker_away(filings: pd.DataFrame, companies: pd.DataFrame) -> None:
    texts = filings.set_index("cik")["text"]
    given = [
        ticker
        for ticker, cik in zip(companies["ticker"], companies["cik"], strict=True)
        if len(ticker) >= 3 and re.search(rf"\b{re.escape(ticker)}\b", texts.get(cik, ""))
    ]
    assert given == []


def test_no_two_texts_are_nearly_the_same(filings: pd.DataFrame) -> None:
    vectors = TfidfVectorizer().fit_transform(filings["text"])
    similarity = (vectors @ vectors.T).toarray()
    np.fill_diagonal(similarity, 0)
    assert similarity.max() <= 0.6


def test_the_sample_is_a_universe_of_430_without_a_gap(
    filings: pd.DataFrame, companies: pd.DataFrame, prices: pd.DataFrame
) -> None:
    universe = build_universe(filings, companies, prices, pd.Timestamp("2012-12-31"))
    assert universe.companies.shape[0] == universe.prices.shape[1] == 430
    assert universe.dropped["further lines of the same company"] == 1
    assert not universe.prices.isna().any(axis=None)
