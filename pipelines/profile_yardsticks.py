"""The two yardsticks of METHOD.md, section 7, for any similarity of the shared company profiles.

Usage: ``python pipelines/profile_yardsticks.py --data ../shared/data [--minilm]`` prints the baselines recomputed. From
Python: ``profiles = load_profiles(data)``, then ``yardsticks(similarity, profiles)`` with a similarity in the order of
``profiles.companies``.

Deduced, since the section does not say: a company's ticker is the first of its latest filing in the panel; it is one of
the 1,105 if daily prices hold that ticker too; it counts in a year with all twelve monthly returns; a Yahoo profile is
one of any vendor whose name has "yahoo" in it; ties are averaged, not drawn (the section's random row is one draw);
TF-IDF is sublinear and drops words of fewer than five profiles; MiniLM reads the first 256 word pieces.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from companysim.benchmark import Grouping, classification
from companysim.benchmark.correlations import correlation
from companysim.benchmark.metrics import finite_pairs
from companysim.benchmark.returns import log_returns_of
from companysim.benchmark.weights import grouped_pairs, nearest, ranking

SPANS = {"2003-13": range(2003, 2014), "2014-20": range(2014, 2021)}
MONTHS = 12
PEERS = 5
CHARACTERS = 1800
PIECES = 256


@dataclass(frozen=True)
class Profiles:
    """Companies with a profile, codes and returns.

    Attributes
    ----------
    companies : DataFrame
        cik, ticker, sic, gics, text (cut at 1,800 characters), sorted by cik.
    correlations : dict of ndarray, shape (n, n)
        Of the monthly log returns of each year from 2003 to 2020.
    sic, gics : Grouping
    """

    companies: pd.DataFrame
    correlations: dict[int, np.ndarray]
    sic: Grouping
    gics: Grouping


def load_profiles(data: Path) -> Profiles:
    """Read the shared profiles, codes and returns.

    Parameters
    ----------
    data : path
        Holds company_profiles, classifications, filings_panel, returns_monthly and prices_daily, all parquet.
    """
    found = pd.read_parquet(data / "company_profiles.parquet", columns=["cik", "description", "vendor"])
    found = found[found["vendor"].str.contains("yahoo") & found["description"].notna()]
    length = found["description"].str.len()
    found = found.assign(length=length).sort_values(["cik", "length", "description"], ascending=[True, False, True])
    texts = found.drop_duplicates("cik").set_index("cik")["description"]
    codes = pd.read_parquet(data / "classifications.parquet").set_index("cik")
    panel = pd.read_parquet(data / "filings_panel.parquet").sort_values(["year", "filing_id"])
    tickers = panel.drop_duplicates("cik", keep="last").set_index("cik")["tickers"].str.split("|").str[0]
    long = pd.read_parquet(data / "returns_monthly.parquet")
    long["ticker"] = long["ticker"].astype(str)
    log = log_returns_of(long.pivot(index="month", columns="ticker", values="simple_return"), "simple")
    daily = pd.read_parquet(data / "prices_daily.parquet", columns=["ticker"])["ticker"].astype(str).unique()
    table = pd.DataFrame({"ticker": tickers, "sic": codes["sic"], "gics": codes["gics8"], "text": texts}).dropna()
    table = table[table["ticker"].isin(log.columns) & table["ticker"].isin(daily)].sort_index()
    table["text"] = table["text"].str[:CHARACTERS]
    companies = table.rename_axis("cik").reset_index()
    correlations = {}
    for year in (year for span in SPANS.values() for year in span):
        months = log.loc[pd.DatetimeIndex(log.index).year == year, companies["ticker"]]
        correlations[year] = correlation(months.to_numpy(), MONTHS)
    return Profiles(
        companies,
        correlations,
        classification("sic", companies["sic"].tolist()),
        classification("gics", companies["gics"].tolist()),
    )


def yardsticks(similarity: np.ndarray, profiles: Profiles) -> dict[str, float]:
    """Both yardsticks on both spans.

    Parameters
    ----------
    similarity : ndarray, shape (n, n)
        Symmetric, in the order of ``profiles.companies``.

    Returns
    -------
    dict
        ``top 2003-13``, ``top 2014-20``: mean correlation of the most similar pairs, as many as share a SIC-4 code that
        year (about 1.05 %). ``peers 2003-13``, ``peers 2014-20``: of each company's five nearest, over companies. Means
        over the years of a span.
    """
    yearly = yearly_yardsticks(similarity, profiles)
    result = {}
    for name in ("top", "peers"):
        for span, years in SPANS.items():
            result[f"{name} {span}"] = float(yearly.loc[list(years), name].mean())
    return result


def yearly_yardsticks(similarity: np.ndarray, profiles: Profiles) -> pd.DataFrame:
    """Both yardsticks year by year: columns top and peers, indexed by year."""
    ranked = ranking(similarity)
    rows = {}
    for year, values in profiles.correlations.items():
        available = finite_pairs(values)
        pairs = len(grouped_pairs(profiles.sic.labels, available).i)
        rows[year] = {
            "top": ranked.among(available).top(pairs).mean(values),
            "peers": nearest(similarity, available, (PEERS,))[PEERS].mean(values),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def cosine(vectors: np.ndarray) -> np.ndarray:
    """Cosine similarities of rows, shape (n, n)."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity: np.ndarray = unit @ unit.T
    return similarity


def tfidf_similarity(profiles: Profiles) -> np.ndarray:
    """Cosine of sublinear TF-IDF without English stop words and words of fewer than five profiles."""
    vectoriser = TfidfVectorizer(stop_words="english", sublinear_tf=True, min_df=5)
    vectors = vectoriser.fit_transform(profiles.companies["text"])
    similarity: np.ndarray = (vectors @ vectors.T).toarray()
    return similarity


def baselines(profiles: Profiles) -> dict[str, np.ndarray]:
    """Similarities of the rows random (all pairs tie: its expectation), SIC and GICS hierarchy, and TF-IDF."""
    n = len(profiles.companies)
    return {
        "random": np.zeros((n, n)),
        "SIC hierarchy": profiles.sic.similarity,
        "GICS hierarchy": profiles.gics.similarity,
        "TF-IDF": tfidf_similarity(profiles),
    }


def minilm_similarity(profiles: Profiles) -> np.ndarray:
    """Cosine of mean-pooled MiniLM embeddings of the first 256 word pieces, where sentence-transformers cuts."""
    from transformers import AutoTokenizer

    from companysim.encoding.embeddings import SentenceEmbedding
    from companysim.encoding.weights import resolve

    path = resolve("minilm-l6", print)
    tokenizer = AutoTokenizer.from_pretrained(path)
    texts = []
    for text in profiles.companies["text"]:
        pieces = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, truncation=True, max_length=PIECES - 2
        )
        texts.append(text[: pieces["offset_mapping"][-1][1]])
    return cosine(SentenceEmbedding(path).encode(texts).astype(float))


def main() -> None:
    """Print the baselines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--minilm", action="store_true", help="embed the profiles, too: minutes")
    arguments = parser.parse_args()
    profiles = load_profiles(arguments.data)
    similarities = baselines(profiles)
    if arguments.minilm:
        similarities["MiniLM, mean pool"] = minilm_similarity(profiles)
    rows = {name: yardsticks(similarity, profiles) for name, similarity in similarities.items()}
    print(f"{len(profiles.companies)} companies")
    print(pd.DataFrame.from_dict(rows, orient="index").round(4).to_string())


if __name__ == "__main__":
    main()
