"""Hoberg and Phillips' text-based network industries (TNIC) as one more similarity.

Their files, from the Hoberg-Phillips data library, hold one line a pair of firms and year: year, gvkey1, gvkey2, score.
The score is the similarity of the two product descriptions above the threshold at which TNIC-3 is as granular as
three-digit SIC, so a pair that is not listed has score 0. Each pair comes in both directions. TNIC is a network, not
a partition: A may be close to B and B to C, and A not to C.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from companysim.errors import DataError

COLUMNS = ("year", "gvkey1", "gvkey2", "score")
_LINES = 2_000_000  # read at once: the full file has 27 million


def read_tnic(path: str | Path, companies: pd.DataFrame, years: Iterable[int] | None = None) -> pd.DataFrame:
    """Read a TNIC file as pairs of tickers.

    Parameters
    ----------
    path : path
        Text with a header, separated by tabs, commas or blanks; may be compressed (``.gz``, ``.zip``).
    companies : DataFrame
        gvkey and ticker, and year if tickers change hands; firms that are not in it are left out.
    years : iterable of int, optional
        Only these. A TNIC year is the fiscal year of the 10-K, which the market reads some months after it ends.

    Returns
    -------
    DataFrame
        year, ticker_1, ticker_2, score: one row a pair and year, ``ticker_1 < ticker_2``, sorted. Where the two
        directions differ, the higher score.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column or holds what is no number, or a gvkey has several tickers in a year.
    """
    keys = [name for name in ("gvkey", "year") if name in companies]
    if "gvkey" not in companies or "ticker" not in companies:
        raise DataError("companies needs the columns gvkey and ticker, to translate TNIC's firms")
    names = companies[[*keys, "ticker"]].dropna().drop_duplicates().astype(dict.fromkeys(keys, "int64"))
    several = names[names.duplicated(keys)]
    if len(several):
        raise DataError(f"gvkey {several['gvkey'].iloc[0]} has several tickers in one year: keep one of them")
    wanted = None if years is None else sorted(set(years))
    parts = []
    try:
        header = str(pd.read_csv(path, sep="\x01", header=None, nrows=1).iloc[0, 0])
        separator = "\t" if "\t" in header else "," if "," in header else r"\s+"
        types = dict(zip(COLUMNS, ("int64", "int64", "int64", "float64"), strict=True))
        for chunk in pd.read_csv(path, sep=separator, usecols=list(COLUMNS), dtype=types, chunksize=_LINES):
            rows = chunk if wanted is None else chunk[chunk["year"].isin(wanted)]
            for side in ("1", "2"):
                here = names.rename(columns={"gvkey": f"gvkey{side}", "ticker": f"ticker_{side}"})
                rows = rows.merge(here, on=[f"gvkey{side}", *keys[1:]])
            parts.append(rows[["year", "ticker_1", "ticker_2", "score"]])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no TNIC file with the columns {', '.join(COLUMNS)} ({error})") from error
    pairs = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["year", "ticker_1", "ticker_2"])
    if pairs["score"].isna().any():
        raise DataError(f"{path} has a pair without a score: leave the line out")
    turned = pairs["ticker_1"] > pairs["ticker_2"]
    pairs.loc[turned, ["ticker_1", "ticker_2"]] = pairs.loc[turned, ["ticker_2", "ticker_1"]].to_numpy()
    pairs = pairs[pairs["ticker_1"] != pairs["ticker_2"]]  # a firm with itself
    return pairs.groupby(["year", "ticker_1", "ticker_2"])[["score"]].max().reset_index()


def tnic_similarity(pairs: pd.DataFrame, year: int, tickers: Sequence[str]) -> sp.csr_array:
    """Scores of one year as a symmetric CSR matrix in the order of `tickers`, shape (n, n); 0 for pairs not listed.

    Parameters
    ----------
    pairs : DataFrame
        What `read_tnic` returned.
    year : int
    tickers : sequence of str, all different
        Those TNIC does not know have an empty row.

    Raises
    ------
    DataError
        If a ticker is given twice.
    """
    index = pd.Index(tickers)
    if index.has_duplicates:
        raise DataError(f"ticker {index[index.duplicated()][0]} is given twice")
    rows = pairs[pairs["year"] == year]
    i, j = (index.get_indexer(pd.Index(rows[name])) for name in ("ticker_1", "ticker_2"))
    both = (i >= 0) & (j >= 0)
    i, j, score = i[both], j[both], rows["score"].to_numpy(dtype=float)[both]
    ends = (np.concatenate([i, j]), np.concatenate([j, i]))
    return sp.csr_array((np.concatenate([score, score]), ends), shape=(len(index), len(index)))
