from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from companysim.config import BacktestConfig
from companysim.trading import Partitions, compare, deflated_sharpe, placebo, placebo_p, protocol_of, sharpe
from companysim.trading.bootstrap import bootstrap
from companysim.trading.comparison import Comparison
from companysim.trading.performance import capacity, volume_shares
from tests.trading.test_walk_forward import DATES, END, LABELS, TICKERS, cointegrated

SETTINGS = BacktestConfig(
    formation_start=DATES[0].date(),
    formation_end=DATES[END].date(),
    trading_end=DATES[-1].date(),
    p_value=0.2,
    max_pairs=6,
    placebo_books=50,
    placebo_pairs=20,
    bootstrap_draws=100,
)


def groupings() -> dict[str, Partitions]:
    return {
        "three": Partitions.single(TICKERS, LABELS, DATES[0]),
        "all": Partitions.single(TICKERS, np.zeros(8), DATES[0]),
        "none": Partitions.single(TICKERS, np.full(8, -1), DATES[0]),
    }


@pytest.fixture(scope="module")
def found() -> Comparison:
    volume = pd.DataFrame(1e7, index=DATES, columns=TICKERS)
    return compare(cointegrated(), groupings(), SETTINGS, seed=3, volume=volume)


def test_each_row_holds_the_figures_of_its_grouping(found: Comparison) -> None:
    rows = found.figures.set_index("grouping")
    assert list(rows.index) == ["three", "all", "none"]
    ratios = [float(sharpe(result.daily["return_net"].to_numpy())) for result in found.results.values()]
    for name in ("three", "all"):
        row, result = rows.loc[name], found.results[name]
        net = result.daily["return_net"].to_numpy()
        for key, value in result.summary().items():
            assert row[key] == value
        draws = bootstrap(net, lambda histories: sharpe(histories, axis=1), 100, 3)
        assert (row["sharpe_low"], row["sharpe_high"]) == tuple(np.quantile(draws, [0.025, 0.975]))
        assert row["sharpe_low"] < row["sharpe_net"] < row["sharpe_high"]
        assert row["deflated_sharpe"] == deflated_sharpe(net, 3, float(np.var(ratios[:2], ddof=1)))
        counts, protocol = result.counts, protocol_of(SETTINGS)
        books = placebo(cointegrated(), [counts], protocol, pool=20, books=50, seed=3)[counts]
        np.testing.assert_array_equal(found.placebo[name], books)
        assert row["placebo_p"] == placebo_p(row["sharpe_net"], books)
        np.testing.assert_allclose(row[["placebo_median", "placebo_95"]].astype(float), np.quantile(books, [0.5, 0.95]))
        volume = pd.DataFrame(1e7, index=DATES, columns=TICKERS)
        assert row["capacity"] == capacity(volume_shares(result.trades, volume), 1e6)
    assert (rows["trials"] == 3).all()


def test_a_grouping_without_trades_has_no_ratio_and_no_p(found: Comparison) -> None:
    row = found.figures.iloc[2]
    assert (row["candidates"], row["trades"]) == (0, 0)
    missing = ["sharpe_net", "sharpe_low", "sharpe_high", "deflated_sharpe", "placebo_p", "capacity", "hit_rate"]
    assert row[missing].isna().all()


def test_tables_stack_the_groupings(found: Comparison) -> None:
    for name in ("windows", "pairs", "trades", "yearly", "equity"):
        table = found.table(name)
        parts = {method: len(rows) for method, rows in table.groupby("method")}
        assert parts["three"] > 0, name
    assert {"date", "protocol", "method", "return_gross", "return_net"} <= set(found.table("equity").columns)
    trades = found.table("trades")
    assert len(trades) == found.figures["trades"].sum()


def test_more_trials_than_groupings_deflate_more(found: Comparison) -> None:
    settings = SETTINGS.model_copy(update={"trials": 500})
    more = compare(cointegrated(), groupings(), settings, seed=3)
    assert (more.figures["trials"] == 500).all()
    assert (more.figures["deflated_sharpe"][:2] < found.figures["deflated_sharpe"][:2]).all()
    assert more.figures["capacity"].isna().all()


def test_results_do_not_depend_on_what_else_is_compared(found: Comparison) -> None:
    alone = compare(cointegrated(), {"all": groupings()["all"]}, SETTINGS, seed=3).figures.iloc[0]
    same = ["sharpe_net", "sharpe_low", "placebo_p", "placebo_95", "candidates"]
    assert list(alone[same]) == list(found.figures.iloc[1][same])


def test_progress_is_told() -> None:
    steps: list[tuple[int, int]] = []
    compare(cointegrated(), groupings(), SETTINGS, seed=0, advance=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_settings_reach_the_protocol() -> None:
    changed = {
        "roll_months": 2, "entry": 1.7, "exit": 0.1, "stop": 5.0, "max_days": 9, "reentry": "inside", "pause": 3,
        "zscore_days": 30, "hedge": "dollar", "lag": 2, "delisted_after": 4, "commission_bp": 1.5,
        "half_spread_bp": 2.5, "borrow_percent": 3.5, "cash_percent": 4.5, "delisting_return": -0.5, "max_open": 7,
        "max_per_company": 2, "capital": 5e4, "leverage": 1.5, "fdr": 0.1, "p_value": 0.03, "max_pairs": 11,
    }  # fmt: skip
    protocol = protocol_of(BacktestConfig(**{**SETTINGS.model_dump(), **changed}))
    assert len(protocol.windows) == 3
    for part in (protocol.rules, protocol.costs, protocol.limits, protocol):
        for name, value in changed.items():
            if hasattr(part, name):
                assert getattr(part, name) == value
                changed = {key: other for key, other in changed.items() if key != name}
    assert list(changed) == ["roll_months"]
