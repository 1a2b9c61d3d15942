"""Sentences and tables say what the figures say, also when figures are missing."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
from rich.console import Console

from companysim.report.console import (
    ConsoleReporter,
    backtest_sentence,
    backtest_table,
    benchmark_sentence,
    benchmark_table,
    robust_sentence,
    shorten,
    table,
    years_table,
)


def row(grouping: str, sic: float | None, lead: list[float | None], **more: Any) -> dict[str, Any]:
    return {
        "grouping": grouping,
        "mean_correlation": 0.5,
        "size_matched_null": 0.2,
        "pair_weighted": 0.4,
        "ci95": [0.3, 0.5],
        "coverage": 0.5,
        "share_of_pairs": 0.01,
        "matched": {"sic": sic},
        "matched_ci95": {"sic": [0.3, 0.6] if sic is not None else [None, None]},
        "lead_ci95": {"sic": lead},
        "peers5": 0.4,
    } | more


def printed(renderable: object) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_winner_is_named_whoever_it_is() -> None:
    rows = [row("sae", 0.45, [0.0, 0.0]), row("tfidf", 0.50, [-0.08, -0.02]), row("sic", 0.40, [0.01, 0.1])]
    sentence = benchmark_sentence(rows)
    assert "the SAE trails its best rival (TF-IDF) by 0.050" in sentence
    assert "a difference beyond chance" in sentence


def test_a_lead_whose_interval_holds_zero_may_be_chance() -> None:
    sentence = benchmark_sentence([row("sae", 0.52, [0.0, 0.0]), row("tfidf", 0.50, [-0.02, 0.06])])
    assert "the SAE leads its best rival (TF-IDF) by 0.020" in sentence
    assert "which may be chance" in sentence


def test_components_are_counted_in_words() -> None:
    robust = {"components": {"sae": 0.4, "sic": 0.3}}
    assert robust_sentence(robust, 1).startswith("with 1 principal component taken out")
    assert robust_sentence(robust, 3).startswith("with 3 principal components taken out")


def test_no_verified_code_is_said_and_shown_as_dashes() -> None:
    rows = [row("sae", None, [None, None]), row("sic", None, [None, None], mean_correlation=None, ci95=[None, None])]
    assert "No company has a verified code" in benchmark_sentence(rows)
    assert " - " in printed(benchmark_table(rows, [2014, 2015]))


def test_backtest_without_a_trade_is_shown_as_dashes_and_never_a_winner() -> None:
    empty = {
        "grouping": "sic", "candidates": 0, "passed": 0, "discoveries": 0, "pairs": 0, "trades": 0,
        "sharpe_gross": None, "sharpe_net": None,
        "return_net_annual": 0.0, "max_drawdown": 0.0, "hit_rate": None,
        "sharpe_low": None, "sharpe_high": None, "deflated_sharpe": None, "trials": 2, "placebo_p": None,
    }  # fmt: skip
    winner = empty | {"grouping": "sae", "trades": 3, "sharpe_net": 1.2, "hit_rate": 0.5, "placebo_p": 0.01}
    assert "0.05 for none" in backtest_sentence([empty])
    winner |= {"passed": 9, "discoveries": 2}
    assert "0.05 for SAE latents" in backtest_sentence([empty, winner])
    assert "Of the 9 that passed the test, 2 survive" in backtest_sentence([empty, winner])
    assert "best of 2 worthless trials" in backtest_sentence([empty, winner])
    one = winner | {"discoveries": 1, "trials": 1}
    assert "1 survives control" in backtest_sentence([empty, one])
    assert "best of 1 worthless trial would show" in backtest_sentence([one])
    assert printed(backtest_table([empty], "2012", "2016")).count(" - ") >= 3


def test_years_are_rows_and_methods_columns() -> None:
    years = pd.DataFrame(
        {"year": [2014, 2015, 2014, 2015], "method": ["sic", "sic", "own", "own"], "trades": [1, 2, 3, 4]}
    ).assign(return_net=[0.01, -0.02, 0.0, 0.05])
    lines = [line.split() for line in printed(years_table(years)).splitlines()]
    assert lines[1:] == [
        ["year", "SIC", "own", "trades"],
        ["2014", "1.00%", "0.00%", "4"],
        ["2015", "-2.00%", "5.00%", "6"],
    ]


def test_text_is_no_markup() -> None:
    name = "[/b] [reserved] :bank:"
    shown = printed(table(name, [name, "other"], [[name, name]]))
    assert shown.count(name) == 4
    stream = io.StringIO()
    with ConsoleReporter(Console(file=stream, width=200)) as reporter:
        reporter.say(f"{name} could not be encoded")
    assert f"{name} could not be encoded" in stream.getvalue()


def test_shorten_counts_what_it_leaves_out() -> None:
    assert shorten("AA BB", 80) == "AA BB"
    assert shorten("AAAA BBBB CCCC DDDD", 10) == "AAAA BBBB ... and 2 more"
