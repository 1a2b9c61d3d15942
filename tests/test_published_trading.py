"""The published figures on the shared prices; skipped where ../shared/data is absent."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from companysim.trading.ladder import ladder
from tests.scripts import repository_script

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SHARED / "prices_daily.parquet").exists(), reason=f"the shared research data is not at {SHARED}"
    ),
]


@pytest.fixture(scope="module")
def pipeline() -> ModuleType:
    return repository_script("pipelines/published_trading.py")


@pytest.fixture(scope="module")
def rungs(pipeline: ModuleType) -> dict[str, pd.DataFrame]:
    prices = pipeline.read_prices(SHARED)
    lists = pipeline.released(SHARED, pipeline.priced_tickers(SHARED, prices))
    return {method: ladder(prices, pairs).to_frame().set_index("fault") for method, pairs in lists.items()}


@pytest.mark.parametrize(("method", "figure"), [("sae_gcd", 12.17), ("sic", 9.71)])
def test_the_public_codes_figure_to_one_percent(rungs: dict[str, pd.DataFrame], method: str, figure: float) -> None:
    assert rungs[method]["sharpe"]["as published"] == pytest.approx(figure, rel=0.01)


@pytest.mark.parametrize(
    ("method", "figures"),
    [
        ("sae_gcd", {"duplicates": 11.5, "shared_account": 1.41, "hedge_hindsight": -0.12, "no_costs": -0.32}),
        ("sic", {"duplicates": 8.2, "shared_account": 1.11, "hedge_hindsight": -0.19, "no_costs": -0.44}),
    ],
)
def test_each_pair_once_and_rungs_a_b_and_c(
    rungs: dict[str, pd.DataFrame], method: str, figures: dict[str, float]
) -> None:
    for fault, figure in figures.items():
        assert rungs[method]["sharpe"][fault] == pytest.approx(figure, abs=0.05 if figure > 5 else 0.005), fault
    assert rungs[method]["pairs"]["duplicates"] == {"sae_gcd": 10, "sic": 13}[method]


def test_clearing_alone_takes_the_sharpe_below_one(rungs: dict[str, pd.DataFrame]) -> None:
    assert rungs["sae_gcd"]["alone"]["never_cleared"] == pytest.approx(0.5, abs=0.15)
