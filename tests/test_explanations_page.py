"""docs/EXPLANATIONS.md: the page says what the run says, and every explanation has been read by a person."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from companysim.pipeline import run
from companysim.results import Run
from tests import tiny
from tests.scripts import repository_script

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return repository_script("pipelines/explanations.py")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("page")
    return run(tiny.build(folder), folder / "out")


def test_a_page_holds_what_the_run_says_and_the_remarks(script: ModuleType, finished: Run) -> None:
    made = script.page(finished, {("BA0", "BA1"): "A person says yes."}, {"BA2": "A person says no."})
    pair, group = finished.explain("BA0", "BA1", script.SHARED), finished.explain_cluster("BA2", script.DEFINING)
    for sentence in (pair.headline(), group.headline(), group.rule_sentence(), group.codes_sentence()):
        assert sentence in made
    for row in pair.side("shared").itertuples():
        assert f"(latent {row.latent}, {row.share:.1%})" in made
        assert script.marked(row.sentence_1) in made
    assert made.count("**Read by a person.**") == 2
    assert "A person says yes." in made
    assert "A person says no." in made
    assert "<<" not in made


def test_text_stays_text_in_markdown(script: ModuleType) -> None:
    assert script.marked("a *b* <<c_d>> `e`") == r"a \*b\* **c\_d** \`e\`"


def test_the_page_in_docs_was_made_by_the_script_and_read(script: ModuleType) -> None:
    page = (ROOT / "docs" / "EXPLANATIONS.md").read_text()
    assert page.startswith(script.INTRODUCTION.strip())
    assert len(script.PAIRS) == 10
    assert len(script.CLUSTERS) == 5
    for tickers in script.PAIRS:
        assert f"### {' and '.join(tickers)}\n" in page
    for remark in (*script.PAIRS.values(), *script.CLUSTERS.values()):
        assert len(remark) > 60
        assert f"**Read by a person.** {remark}" in page


@pytest.mark.slow
def test_the_page_is_that_of_the_sample_run(script: ModuleType) -> None:
    """Where the sample has been run: figures may differ in their last digit between machines, sentences may not."""
    root = ROOT / "runs" / "sample"
    if not (root / "explain" / "clusters.parquet").is_file():
        pytest.skip("runs/sample is not there: `companysim run` makes it")
    made = script.page(Run(root), script.PAIRS, script.CLUSTERS)
    page = (ROOT / "docs" / "EXPLANATIONS.md").read_text().split("## Can the labels be believed?")[0]
    told = [line for line in page.splitlines() if line.startswith("   - ")]
    assert told == [line for line in made.splitlines() if line.startswith("   - ")]
