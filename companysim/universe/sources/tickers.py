"""Lists of tickers and years as they are written on the command line and in files."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from companysim.errors import DataError
from companysim.universe.tables import read_frame

_TICKER = re.compile(r"([A-Za-z0-9][A-Za-z0-9.\-/]{0,9})(?:=(?:CIK)?0*([1-9]\d{0,9}))?", re.IGNORECASE)


def parse_tickers(text: str) -> dict[str, int | None]:
    """Read tickers separated by commas or white space, each alone or with its CIK.

    Parameters
    ----------
    text : str
        Such as ``AAPL, LEH=806085``. Only companies of today can be looked up by their ticker; those that are gone need
        their CIK. What follows ``#`` in a line is a remark.

    Returns
    -------
    dict of str to int or None
        The CIK of each ticker, None where it is to be looked up.

    Raises
    ------
    DataError
        If there is none, one cannot be read, or one has two CIKs.
    """
    found: dict[str, int | None] = {}
    for piece in re.split(r"[,;\s]+", re.sub(r"#.*", "", text)):
        match = _TICKER.fullmatch(piece)
        if match:
            ticker, cik = match[1].upper(), int(match[2]) if match[2] else None
            if found.get(ticker, cik) != cik:
                raise DataError(f"the ticker {ticker} is given with two CIKs: keep one")
            found[ticker] = cik
        elif piece:
            raise DataError(f"cannot read the ticker {piece!r}: write AAPL, or LEH=806085 for a ticker and its CIK")
    if not found:
        raise DataError("no ticker is given: write them with commas, such as AAPL,MSFT")
    return found


def read_tickers(tickers: str | None, file: Path | None) -> dict[str, int | None]:
    """Tickers of a command line's ``--tickers`` or ``--tickers-file``; see `parse_tickers`.

    A file is text with a ticker a line, or a table (.csv, .parquet) with the columns ticker and, where known, cik.

    Raises
    ------
    DataError
        If not exactly one is given, or the file cannot be read.
    """
    if (tickers is None) == (file is None):
        raise DataError("give either --tickers AAPL,MSFT or --tickers-file FILE")
    if file is None:
        return parse_tickers(tickers or "")
    if file.suffix.lower() in (".csv", ".parquet"):
        table = read_frame(file, "ticker and, where known, cik")
        if "ticker" not in table.columns:
            raise DataError(f"{file}: column 'ticker' is missing: name the tickers")
        ciks = table.get("cik", pd.Series("", table.index)).astype(object).fillna("").astype(str).str.removesuffix(".0")
        rows = zip(table["ticker"].astype(str), ciks, strict=True)
        return parse_tickers("\n".join(f"{ticker}={cik}" if cik else ticker for ticker, cik in rows))
    try:
        return parse_tickers(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file} ({error}): give a text file with a ticker a line") from error


def parse_years(text: str) -> range:
    """Read ``2015`` or ``2015-2020``.

    Raises
    ------
    DataError
        If it is neither, or begins before 1992: EDGAR holds nothing before.
    """
    match = re.fullmatch(r"\s*(\d{4})(?:\s*-\s*(\d{4}))?\s*", text)
    years = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
    if not years or years[0] < 1992:
        raise DataError(f"cannot read the years {text!r}: write 2015 or 2015-2020, from 1992 on")
    return years
