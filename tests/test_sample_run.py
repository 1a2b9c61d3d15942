"""The bundled sample end to end with the default weights: what `make run` does, checked against sense and README."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

import companysim as cs
from companysim.pipeline import Reporter

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> cs.Run:
    return cs.run("sample", tmp_path_factory.mktemp("runs") / "sample")


def test_universe_is_whole(sample: cs.Run) -> None:
    universe = sample.summary["universe"]
    assert universe["companies"] == 430
    assert universe["dropped"]["further lines of the same company"] == 1
    assert (universe["with_sic"], universe["with_gics"]) == (419, 397)


def test_every_grouping_beats_its_own_null(sample: cs.Run) -> None:
    for row in sample.summary["benchmark"][:-1]:
        assert row["mean_correlation"] > row["size_matched_null"] + 0.1, row["grouping"]
        assert row["null_p"] < 0.01


def test_peers_of_well_known_companies_make_sense(sample: cs.Run) -> None:
    for ticker, expected in {
        "JPM": {"BAC", "C", "WFC", "USB", "PNC"},
        "KO": {"PEP", "CCE", "MNST"},
        "UNP": {"CSX", "NSC", "KSU"},
    }.items():
        assert expected & set(sample.peers(ticker, 5)["ticker"]), ticker
    assert not sample.peers("FOXA", 429)["ticker"].isin(["FOX", "FOXA"]).any()


def test_a_private_company_finds_its_industry(sample: cs.Run) -> None:
    text = (
        "A family-owned chain of hardware and garden stores sells lumber, paint, tools and appliances to homeowners "
        "and small contractors in the Midwest. Sales follow housing, the weather in spring and consumer credit."
    )
    assert {"HD", "LOW"} & set(sample.peers_of_text(text, 5)["ticker"])


def test_the_backtest_makes_trades_after_formation(sample: cs.Run) -> None:
    trades = sample.trades
    assert (trades["method"] == "sae").sum() > 0
    assert (trades["entry"] > "2013-01-01").all()
    assert (trades["exit"] > trades["entry"]).all()
    assert (trades["cost"] > 0).all()
    for method, book in sample.equity.groupby("method"):
        own = trades[trades["method"] == method]
        capital = sample.config.backtest.capital
        assert book["return_net"].sum() * capital == pytest.approx(own["pnl_net"].sum(), abs=1e-3)


def test_a_second_run_is_taken_from_disk(sample: cs.Run) -> None:
    class Watch(Reporter):
        cached = True

        def end(self, stage: str, seconds: float, cached: bool) -> None:
            self.cached &= cached

    watch = Watch()
    started = time.perf_counter()
    cs.run("sample", sample.root, watch)
    assert watch.cached
    assert time.perf_counter() - started < 600  # a hang, not a speed claim


def test_readme_figures_are_those_of_the_run(sample: cs.Run) -> None:
    from companysim.report.console import NAMES

    readme = (ROOT / "README.md").read_text()
    block = readme.split("<!-- output -->")[1].split("<!-- /output -->")[0]
    test_years = block.split("Monthly returns")[1]
    for row in sample.summary["benchmark"][:-1]:
        line = next(line for line in test_years.splitlines() if line.startswith(NAMES[row["grouping"]] + "  "))
        printed = [float(value) for value in re.findall(r"(?<![\d.])0\.\d{3}", line)]
        expected = [
            row["mean_correlation"],
            row["size_matched_null"],
            row["pair_weighted"],
            *row["matched"].values(),
            row["peers5"],
        ]
        np.testing.assert_allclose(printed, expected, atol=0.003, err_msg=line)
    backtest = block.split("Walk-forward")[1]
    for row in sample.summary["backtest"]:
        line = next(line for line in backtest.splitlines() if line.startswith(NAMES[row["grouping"]] + "  "))
        counts = [int(value) for value in line[len(NAMES[row["grouping"]]) :].split()[:4]]
        assert counts == [row["candidates"], row["passed"], row["pairs"], row["trades"]]
