"""Scores in delphi's format, against scikit-learn and statsmodels, and the published ones where they are."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from statsmodels.stats.proportion import confint_proportions_2indep

from companysim.errors import ConfigError, DataError
from companysim.explain.scores import (
    Example,
    balanced_accuracy,
    predicted,
    read_folder,
    read_scores,
    score,
    score_table,
    write_folder,
    write_scores,
)
from tests.scripts import repository_script

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"

ROWS = [  # as delphi writes them
    {
        "str_tokens": [" the", " bank", " pays"],
        "activations": [0.0, 1.5, 0.6],
        "distance": 2,
        "activating": True,
        "prediction": 1,
        "probability": None,
        "correct": True,
    },
    {
        "str_tokens": [" an", " oil"],
        "activations": [0, 0],
        "distance": -1.0,
        "activating": False,
        "prediction": 1,
        "probability": 0.75,
        "correct": False,
    },
    {
        "str_tokens": [" well"],
        "activations": [0],
        "distance": -1.0,
        "activating": False,
        "prediction": None,
        "probability": None,
        "correct": None,
    },
]


def test_a_file_of_delphi_is_read_and_written_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "layers.30_latent7.txt"
    path.write_text(json.dumps(ROWS))
    examples = read_scores(path)
    assert [one.correct for one in examples] == [True, False, None]
    assert examples[1].probability == 0.75
    write_scores(tmp_path / "again.txt", examples)
    assert json.loads((tmp_path / "again.txt").read_text()) == ROWS
    assert read_scores(tmp_path / "again.txt") == examples


def test_predictions_as_booleans_are_read_too(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "prediction": True}, {**ROWS[1], "prediction": False}]
    (tmp_path / "a.txt").write_text(json.dumps(rows))
    assert [one.prediction for one in read_scores(tmp_path / "a.txt")] == [True, False]


def test_marks_of_passages_in_which_the_latent_is_silent_are_not_written(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.txt", [Example((" a", " b"), (0.0, 1.0), -1.0, False, False)])
    assert read_scores(tmp_path / "a.txt")[0].activations == (0.0, 0.0)


def test_folders_by_latent(tmp_path: Path) -> None:
    examples = [Example((" a",), (1.0,), 0.0, True, True)]
    write_folder(tmp_path, "layers.26", {12: examples, 3: examples})
    (tmp_path / "notes.md").write_text("not a score")
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["layers.26_latent12.txt", "layers.26_latent3.txt"]
    assert read_folder(tmp_path) == {3: examples, 12: examples}
    write_folder(tmp_path, "layers.30", {3: examples})
    with pytest.raises(DataError, match=r"files of the modules layers\.26, layers\.30"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="no file <module>_latent<number>"):
        read_folder(tmp_path / "none")


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "7",
        '["text"]',
        "[{}]",
        json.dumps([{**ROWS[0], "activations": [1.0]}]),
        json.dumps([{**ROWS[0], "prediction": 2}]),
        json.dumps([{**ROWS[0], "str_tokens": [1, 2, 3]}]),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match="is no score file of delphi"):
        read_scores(tmp_path / "a.txt")
    with pytest.raises(DataError, match="cannot read the scores"):
        read_scores(tmp_path / "missing.txt")


def test_marks_join_neighbours_and_leave_out_the_weak() -> None:
    one = Example((" the", " river", " bank", " is", " far"), (0.1, 1.0, 0.3, 0.0, 0.9), 0.0, True)
    assert one.marked() == " the<< river bank>> is<< far>>"
    assert one.marked(share=0.0) == "<< the river bank>> is<< far>>"
    assert [one.text[start:end] for start, end in one.marks()] == [" river bank", " far"]
    assert Example((" a", " b"), (0.0, 0.0), -1.0, False).marked() == " a b"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_balanced_accuracy_is_that_of_scikit_learn(pairs: list[tuple[bool, bool]]) -> None:
    truth, said = (np.array(side) for side in zip(*pairs, strict=True))
    judged = pd.DataFrame({"latent": 5, "activating": truth, "prediction": said.astype(float)})
    row = score_table(judged).table.iloc[0]
    if truth.all() or not truth.any():
        assert np.isnan(row["balanced_accuracy"])
        return
    assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, said))
    assert row["low"] <= row["balanced_accuracy"] <= row["high"]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.9, 0.95]))
def test_the_interval_is_newcombes_of_sensitivity_less_false_alarms(
    n: int, m: int, p: float, q: float, level: float
) -> None:
    """(p + q) / 2 = ((p - (1 - q)) + 1) / 2, so it is the interval of a difference, halved and moved."""
    hits, rejections = round(p * n), round(q * m)
    value, low, high = balanced_accuracy(*(np.array([x]) for x in (hits, n, rejections, m)), level)
    expected = confint_proportions_2indep(hits, n, m - rejections, m, method="newcomb", alpha=1 - level)
    assert value[0] == pytest.approx((hits / n + rejections / m) / 2)
    assert (low[0], high[0]) == pytest.approx(tuple((edge + 1) / 2 for edge in expected), abs=1e-9)


@pytest.mark.parametrize(("n", "p", "q"), [(10, 0.5, 0.5), (10, 0.9, 0.9), (20, 0.2, 0.99), (50, 0.6, 0.65)])
def test_intervals_hold_what_they_promise_for_small_counts(n: int, p: float, q: float) -> None:
    rng = np.random.default_rng(n)
    of = np.full(20_000, n)
    _, low, high = balanced_accuracy(rng.binomial(n, p, 20_000), of, rng.binomial(n, q, 20_000), of)
    assert 0.94 <= np.mean((low <= (p + q) / 2 + 1e-12) & ((p + q) / 2 <= high + 1e-12)) <= 0.99


def test_unread_answers_are_left_out_and_counted() -> None:
    yes, no = Example((" a",), (1.0,), 0.0, True), Example((" b",), (0.0,), -1.0, False)
    said = [
        predicted(yes, True),
        predicted(yes, None),
        predicted(no, False),
        predicted(no, True),
        predicted(yes, False),
    ]
    found = score({3: said, 1: [predicted(yes, True)]})
    assert found.table["latent"].tolist() == [1, 3]
    row = found.to_frame().iloc[1]
    assert row[["activating", "other", "unread"]].tolist() == [2, 2, 1]
    assert row[["sensitivity", "specificity", "balanced_accuracy"]].tolist() == [0.5, 0.5, 0.5]
    assert found.table.iloc[0][["balanced_accuracy", "low", "high"]].isna().all()  # no passage of the other kind
    assert found.summary().startswith("1 of 2 latents scored: balanced accuracy 0.500 (0.500 to 0.500)")


def test_the_mean_over_latents_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    judged = pd.DataFrame(
        {
            "latent": np.repeat(np.arange(200), 20),
            "activating": np.tile([True, False], 2000),
            "prediction": rng.integers(0, 2, 4000),
        }
    )
    found = score_table(judged)
    value, low, high = found.mean()
    own = found.table["balanced_accuracy"]
    assert value == pytest.approx(own.mean())
    spread = own.std(ddof=0) / np.sqrt(200)
    assert (low, high) == pytest.approx((value - 1.96 * spread, value + 1.96 * spread), abs=0.2 * spread)
    assert np.isnan(score_table(judged[judged["activating"]]).mean()).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="no column prediction"):
        score_table(pd.DataFrame({"latent": [1], "activating": [True]}))
    counts: Any = [np.array([1])] * 4
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ConfigError, match="level is"):
            balanced_accuracy(*counts, level)


@pytest.fixture(scope="module")
def published() -> ModuleType:
    return repository_script("pipelines/published_scores.py")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared research data is not at {SHARED}")
def test_the_published_scores_are_reproduced(published: ModuleType) -> None:
    judged, scores = published.published(SHARED)
    table = scores.table.set_index("latent")
    assert len(table) == 980
    read = judged.dropna(subset="prediction")
    assert ((read["prediction"] == 1) == read["activating"]).tolist() == read["correct"].astype(bool).tolist()
    for latent, rows in list(read.groupby("latent"))[::49]:
        expected = balanced_accuracy_score(rows["activating"], rows["prediction"] == 1)
        assert table.loc[latent, "balanced_accuracy"] == pytest.approx(expected)
    assert table["unread"].sum() == 126
    value, low, high = scores.mean()
    assert (value, low, high) == pytest.approx((0.618, 0.611, 0.625), abs=0.001)
    tenths = published.by_tenth(judged).set_index("distance")["recognised"]
    assert tenths[0.0] == tenths.max() > 0.6 > tenths[9.0]  # the strongest passages are recognised best
