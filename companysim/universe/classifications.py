"""Classifications of companies in one long table: SIC with its tree, Fama-French industries, GICS, Yahoo's own.

SIC codes come from EDGAR, Fama-French industries from SIC codes. GICS belongs to MSCI and S&P and comes from the user's
own file; its four levels are the first 2, 4, 6 and 8 digits of a code, and no names of its groups are kept here.
Yahoo's sectors and industries are free and a stand-in, as of the day they are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from companysim.universe.fama_french import SCHEMES, industry
from companysim.universe.sic import DIVISIONS, MAJOR_GROUPS, place

GICS_LEVELS = {"gics_sector": 2, "gics_group": 4, "gics_industry": 6, "gics": 8}
YAHOO = ("sector", "industry")


def classify(companies: pd.DataFrame, yahoo: Mapping[str, Mapping[str, str]] | None = None) -> pd.DataFrame:
    """Every scheme and level of companies' codes, as a long table.

    Parameters
    ----------
    companies : DataFrame
        ticker, cik, sic (four digits or empty) and gics (eight digits or empty); see `COMPANIES`.
    yahoo : mapping of ticker to mapping, optional
        sector and industry of each company, see `companysim.universe.sources.yahoo.Yahoo.profile`.

    Returns
    -------
    DataFrame
        ticker, cik, scheme, code, label; a row for each company, scheme and level it has a code of, sorted. A company
        counts once, under its first ticker. Schemes: sic_division, sic_major_group, sic_industry_group, sic; ff5 to
        ff49; gics_sector, gics_group, gics_industry, gics; yahoo_sector, yahoo_industry.
    """
    rows: list[tuple[str, int, str, str, str]] = []
    for company in companies.sort_values("ticker").drop_duplicates("cik").itertuples():
        ticker, cik = str(company.ticker), int(str(company.cik))
        sic, gics = str(company.sic), str(company.gics)
        found = place(sic)
        codes = {
            "sic_division": (found.division, DIVISIONS[found.division][0] if found.division else ""),
            "sic_major_group": (found.major_group, MAJOR_GROUPS.get(found.major_group, "")),
            "sic_industry_group": (found.industry_group, ""),
            "sic": (found.industry, ""),
        }
        codes |= {scheme: (industry(sic, scheme), "") for scheme in SCHEMES}
        codes |= {level: (gics[:digits], "") for level, digits in GICS_LEVELS.items()}
        profile = (yahoo or {}).get(ticker, {})
        codes |= {f"yahoo_{name}": (profile.get(name, ""), "") for name in YAHOO}
        rows += [(ticker, cik, scheme, code, label) for scheme, (code, label) in codes.items() if code]
    table = pd.DataFrame(rows, columns=["ticker", "cik", "scheme", "code", "label"])
    return table.sort_values(["scheme", "ticker"], ignore_index=True)


def with_gics(companies: pd.DataFrame, gics: Mapping[str, str], source: str) -> pd.DataFrame:
    """Companies with the GICS codes of a user's file; a company the file does not have keeps its own.

    Parameters
    ----------
    companies : DataFrame
        See `COMPANIES`.
    gics : mapping of ticker to str
        Eight digits, or empty.
    source : str
        Written to ``gics_source``.
    """
    codes = companies["ticker"].map(gics).fillna("")
    return companies.assign(
        gics=codes.where(codes != "", companies["gics"]),
        gics_source=companies["gics_source"].where(codes == "", source),
    )
