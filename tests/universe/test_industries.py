"""SIC's tree and Fama-French industries: known companies, whole coverage, and an outside assignment where it lies."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from companysim.errors import ConfigError
from companysim.universe import fama_french
from companysim.universe.classifications import classify, with_gics
from companysim.universe.fama_french import SCHEMES, industries, industry
from companysim.universe.sic import DIVISIONS, MAJOR_GROUPS, place

SHARED = Path(__file__).parents[3] / "shared/data"


@pytest.mark.parametrize(
    ("sic", "found"),
    [
        ("3571", ("D", "35", "357", "3571")),
        ("0100", ("A", "01", "010", "0100")),
        ("6770", ("H", "67", "677", "6770")),
        ("5812", ("G", "58", "581", "5812")),
        ("9995", ("J", "99", "999", "9995")),
        ("1100", ("B", "", "110", "1100")),  # the classification of 1987 has no major group 11
        ("", ("", "", "", "")),
    ],
)
def test_a_code_has_its_place_in_the_tree(sic: str, found: tuple[str, ...]) -> None:
    assert place(sic) == found


def test_divisions_cover_all_major_groups_once() -> None:
    ranges = [range(first, last + 1) for _, first, last in DIVISIONS.values()]
    assert all(sum(int(group) in part for part in ranges) == 1 for group in MAJOR_GROUPS)
    assert len(MAJOR_GROUPS) == 83


@pytest.mark.parametrize(
    ("sic", "ff5", "ff10", "ff12", "ff17", "ff30", "ff38", "ff48", "ff49"),
    [
        ("3571", "HiTec", "HiTec", "BusEq", "Machn", "BusEq", "Machn", "Comps", "Hardw"),
        ("7372", "HiTec", "HiTec", "BusEq", "Other", "Servs", "Srvc", "BusSv", "Softw"),
        ("7375", "HiTec", "HiTec", "BusEq", "Other", "Servs", "Srvc", "BusSv", "Softw"),
        ("7517", "Other", "Other", "Other", "Other", "Servs", "Srvc", "Other", "Other"),
        ("7373", "HiTec", "HiTec", "BusEq", "Other", "BusEq", "Srvc", "Comps", "Softw"),
        ("1311", "Manuf", "Enrgy", "Enrgy", "Oil", "Oil", "Oil", "Oil", "Oil"),
        ("6022", "Other", "Other", "Money", "Finan", "Fin", "Money", "Banks", "Banks"),
        ("2834", "Hlth", "Hlth", "Hlth", "Cnsum", "Hlth", "Chems", "Drugs", "Drugs"),
        ("3711", "Cnsmr", "Durbl", "Durbl", "Cars", "Autos", "Cars", "Autos", "Autos"),
        ("4813", "HiTec", "Telcm", "Telcm", "Other", "Telcm", "Phone", "Telcm", "Telcm"),
        ("4911", "Manuf", "Utils", "Utils", "Utils", "Util", "Utils", "Util", "Util"),
        ("2750", "Manuf", "Manuf", "Manuf", "Other", "Books", "Print", "BusSv", "BusSv"),
        ("3760", "Manuf", "Manuf", "Manuf", "Trans", "Other", "Cars", "Guns", "Guns"),
        ("5812", "Cnsmr", "Shops", "Shops", "Rtail", "Meals", "Rtail", "Meals", "Meals"),
        ("9995", "Other", "Other", "Other", "Other", "Other", "Govt", "Other", "Other"),
        ("", "", "", "", "", "", "", "", ""),
    ],
)
def test_known_codes_are_in_their_industries(
    sic: str, ff5: str, ff10: str, ff12: str, ff17: str, ff30: str, ff38: str, ff48: str, ff49: str
) -> None:
    assert [industry(sic, scheme) for scheme in SCHEMES] == [ff5, ff10, ff12, ff17, ff30, ff38, ff48, ff49]


def test_each_scheme_has_as_many_industries_as_it_says() -> None:
    for scheme in SCHEMES:
        assert len(industries(scheme)) == int(scheme[2:]) == len(set(industries(scheme)))
        assert set(industries(scheme)) == {industry(f"{code:04}", scheme) for code in range(10_000)}
    with pytest.raises(ConfigError, match="'ff7': choose one of ff5, ff10"):
        industry("3571", "ff7")
    with pytest.raises(ConfigError, match="'ff7'"):
        industries("ff7")


def test_no_code_is_in_two_industries() -> None:
    for text in fama_french._LISTED.values():
        parts = re.findall(r"\b(\d{4})(?:-(\d{4}))?\b", text)
        codes = [code for first, last in parts for code in range(int(first), int(last or first) + 1)]
        assert len(codes) == len(set(codes))


@pytest.mark.parametrize("scheme", ["ff12", "ff17", "ff30", "ff48"])
def test_an_outside_assignment_of_1591_companies_is_the_same(scheme: str) -> None:
    path = SHARED / "classifications.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    table = pd.read_parquet(path)
    assert [industry(sic, scheme) for sic in table["sic"]] == table[scheme].tolist()


def test_a_table_of_every_scheme_and_level() -> None:
    companies = pd.DataFrame(
        {
            "ticker": ["BB", "AA", "AB"],
            "cik": [2, 1, 1],
            "sic": ["", "3571", "3571"],
            "gics": ["45202030", "", ""],
        }
    )
    found = classify(companies, {"AA": {"sector": "Technology", "industry": ""}})
    codes = {(row.ticker, row.scheme): row.code for row in found.itertuples()}
    assert codes[("BB", "gics_sector")] == "45"
    assert codes[("BB", "gics_group")] == "4520"
    assert codes[("BB", "gics_industry")] == "452020"
    assert codes[("AA", "sic_division")] == "D"
    assert codes[("AA", "yahoo_sector")] == "Technology"
    assert ("AA", "yahoo_industry") not in codes
    assert ("BB", "sic") not in codes
    assert "AB" not in set(found["ticker"])  # a further line of the same company
    assert not found.duplicated(["cik", "scheme"]).any()
    label = found.set_index(["ticker", "scheme"])["label"]
    assert label[("AA", "sic_major_group")] == "Industrial machinery and computer equipment"
    shuffled = classify(companies.sample(frac=1, random_state=1))
    assert shuffled.equals(classify(companies))


def test_a_users_gics_codes_replace_and_name_their_source() -> None:
    companies = pd.DataFrame({"ticker": ["A", "B"], "gics": ["", "10101010"], "gics_source": ["", "vendor"]})
    found = with_gics(companies, {"A": "45202030", "B": "", "Z": "1"}, "mine.csv")
    assert found["gics"].tolist() == ["45202030", "10101010"]
    assert found["gics_source"].tolist() == ["mine.csv", "vendor"]
