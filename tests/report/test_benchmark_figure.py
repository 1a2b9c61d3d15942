"""Charts of a comparison: both libraries draw the same lines, and the lines are the figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companysim.benchmark import Grouping, compare
from companysim.clustering import correlation_curve, cosine_tree
from companysim.report.benchmark_figure import frontier_chart, theta_chart, years_chart


@pytest.fixture
def correlations(rng: np.random.Generator) -> np.ndarray:
    upper = np.triu(rng.uniform(0, 1, (12, 12)), 1)
    full: np.ndarray = upper + upper.T
    np.fill_diagonal(full, np.nan)
    return full


def test_the_frontier_has_a_line_a_method_and_the_level_of_all_pairs() -> None:
    table = pd.DataFrame({"share_of_pairs": [0.001, 0.1], "sae": [0.6, 0.3], "mine": [0.5, 0.4]})
    chart = frontier_chart(table, 0.25)
    figure = chart.plotly()
    assert [trace.name for trace in figure.data] == ["SAE latents", "mine"]
    np.testing.assert_allclose(figure.data[1].x, [0.1, 10])
    np.testing.assert_allclose(figure.data[1].y, [0.5, 0.4])
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.shapes[0].y0 == 0.25


def test_mc_stands_above_its_coverage_as_steps(rng: np.random.Generator, correlations: np.ndarray) -> None:
    curve = correlation_curve(cosine_tree(rng.normal(size=(12, 4))), correlations)
    figure = theta_chart({"sae": curve}).plotly()
    mc, coverage = figure.data
    assert (mc.yaxis, coverage.yaxis) == ("y", "y2")
    for theta in (curve.theta[1:-1] + curve.theta[2:]) / 2:  # between two merges
        place = np.searchsorted(mc.x, theta)
        assert mc.y[place - 1] == mc.y[place] == curve.at(theta)["mean_correlation"].iloc[0]
        assert coverage.y[place] == 100 * curve.at(theta)["coverage"].iloc[0]


def test_years_have_a_line_a_grouping(correlations: np.ndarray) -> None:
    grouping = Grouping("sae", np.repeat([0, 1, 2], 4), np.nan_to_num(correlations))
    found = compare([grouping], {2019: correlations, 2018: -correlations}, null_draws=5, bootstrap_draws=5)
    figure = years_chart(found, "peers1").plotly()
    assert figure.data[0].name == "SAE latents"
    assert list(figure.data[0].x) == [2018, 2019]
    assert figure.data[0].y[0] == pytest.approx(-figure.data[0].y[1])


def test_files_are_self_contained_and_repeatable(tmp_path: Path) -> None:
    chart = frontier_chart(pd.DataFrame({"share_of_pairs": [0.001, 0.1], "sae": [0.6, np.nan]}))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        chart.save(tmp_path / name, "frontier")
    for end in ("png", "html"):
        first, second = ((tmp_path / name / f"frontier.{end}").read_bytes() for name in ("a", "b"))
        assert first == second
    assert b"<script src=" not in first
