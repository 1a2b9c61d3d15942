"""Run folders as a finished run leaves them, small and with awkward values in them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from companysim.serve import Tables

NAMES = ["Apple Inc.", 'O\'Reilly "Parts"', "<script>alert(1)</script>", "50 % & _more_"]


def made(root: Path, shift: float = 0.0) -> Path:
    for folder in ("universe", "benchmark", "trading"):
        (root / folder).mkdir(parents=True)
    (root / "summary.json").write_text('{"universe": {"companies": 4}}')
    (root / "config.yaml").write_text("name: made\n")
    companies = pd.DataFrame(
        {
            "ticker": ["AAPL", "ORLY", "NA", "TRUE"],
            "company": NAMES,
            "cik": [3, 1, 2, 4],
            'odd "name"; --': [1.5, None, float("inf"), 2.5],
            "filed": pd.to_datetime(["2012-03-01", "2012-03-02", None, "2012-03-04"]),
        }
    )
    companies.to_parquet(root / "universe" / "companies.parquet")
    figures = pd.DataFrame({"grouping": ["sae", "sic"], "pair_weighted": [0.6 + shift, 0.5], "null_p": [0.001, None]})
    figures.to_csv(root / "benchmark" / "test.csv", index=False)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made(tmp_path / "runs" / "it's a run")


@pytest.fixture
def tables(root: Path) -> Tables:
    return Tables(root)
