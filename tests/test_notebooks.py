"""The notebooks run on the finished sample run, and what they print makes sense."""

from __future__ import annotations

import ast
import io
import os
import re
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

import companysim as cs
from tests.scripts import repository_script

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("lxml")  # pandas reads HTML tables with it

ROOT = Path(__file__).parents[1]
NAMES = ("01_explore_clusters", "02_benchmark_similarity", "03_backtest_pairs", "04_your_own_llm_and_sae")
LIMIT = 200_000
if not (ROOT / "notebooks").is_dir():
    pytest.skip("the notebooks are part of the repository, not of the package", allow_module_level=True)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that runs the notebooks and stores what they print."""
    return repository_script("pipelines/update_notebooks.py")


@pytest.fixture(scope="module")
def finished(request: pytest.FixtureRequest) -> Path:
    """The sample run, or the finished one COMPANYSIM_RUN names."""
    named = os.environ.get("COMPANYSIM_RUN")
    return Path(named) if named else request.getfixturevalue("sample").root


class Outputs:
    """What a notebook printed: its tables, its texts, its number of pictures."""

    def __init__(self, notebook: object) -> None:
        self.tables: list[pd.DataFrame] = []
        self.text, self.pictures = "", 0
        for cell in notebook.cells:  # type: ignore[attr-defined]
            for output in cell.get("outputs", ()):
                data = output.get("data", {})
                self.pictures += "image/png" in data
                if "text/html" in data:
                    table = pd.read_html(io.StringIO(data["text/html"]), index_col=0)[0]
                    table.columns = table.columns.get_level_values(0)  # a named index makes a second header
                    self.tables.append(table)
                elif output.get("name") != "stderr":
                    self.text += data.get("text/plain", "") + output.get("text", "") + "\n"

    def table(self, *columns: str) -> pd.DataFrame:
        """The one table that has all of `columns`."""
        found = [table for table in self.tables if set(columns) <= set(map(str, table.columns))]
        assert len(found) == 1, columns
        return found[0]

    def numbers(self, pattern: str) -> list[float]:
        """Numbers that groups of `pattern` match in the texts."""
        found = re.search(pattern, self.text)
        assert found is not None, pattern
        return [float(number.replace(",", "")) for number in found.groups()]


def stored(name: str) -> object:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def test_the_list_above_is_complete() -> None:
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_with_its_outputs_and_nothing_else(name: str) -> None:
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert path.stat().st_size < LIMIT
    raw = path.read_text()
    assert str(Path.home()) + "/" not in raw
    assert "/tmp/" not in raw
    notebook = stored(name)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in code) >= 4
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.get("name") == "stderr" for cell in code for output in cell.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_code_of_a_notebook_fits_the_page(name: str) -> None:
    for cell in stored(name).cells:
        if cell.cell_type == "code":
            assert max(map(len, cell.source.splitlines())) <= 120
            ast.parse(cell.source)


def test_tidied_keeps_results_and_drops_what_changes(script: ModuleType) -> None:
    v4 = nbformat.v4
    outputs = [
        v4.new_output("stream", name="stderr", text="warning"),
        v4.new_output("stream", name="stdout", text="result"),
        v4.new_output("execute_result", data={"text/plain": "1"}, metadata={"when": "now"}, execution_count=1),
    ]
    cell = v4.new_code_cell("1", outputs=outputs, metadata={"execution": {"iopub.execute_input": "2026"}})
    found = script.tidied(
        v4.new_notebook(cells=[cell], metadata={"language_info": {"name": "python", "version": "3.11.7"}})
    )
    assert [output.output_type for output in found.cells[0].outputs] == ["stream", "execute_result"]
    assert "2026" not in nbformat.writes(found)
    assert "3.11.7" not in nbformat.writes(found)
    assert "now" not in nbformat.writes(found)
    nbformat.validate(found)


@pytest.mark.slow
def test_explore_clusters(script: ModuleType, finished: Path) -> None:
    found = Outputs(script.executed(ROOT / "notebooks" / f"{NAMES[0]}.ipynb", finished))
    peers, unseen = (table for table in found.tables if "why" in table)
    assert {"QCOM", "CSCO"} & set(peers["ticker"])
    assert peers["similarity"].is_monotonic_decreasing
    assert {"HD", "LOW"} & set(unseen["ticker"])
    assert unseen["why"].str.contains("store").any()
    clusters, mixed = (table for table in found.tables if "tickers" in table)
    assert clusters["size"].is_monotonic_decreasing
    assert clusters["tickers"].str.contains("COP CVX").any()
    assert mixed["same_sic2"].is_monotonic_increasing
    assert mixed["same_sic2"].iloc[0] < 0.5
    choices = found.table("mean_correlation", "largest")
    assert choices.loc["highest MC", "largest"] <= 3  # no grouping
    assert choices.loc["highest MC, 30 % covered", "largest"] > 0.5 * 430  # no grouping either
    run = cs.Run(finished)
    own = run.benchmark.set_index("grouping").loc["sae"]
    shared = ["mean_correlation", "coverage", "share_of_pairs", "clusters", "largest"]
    # The notebook averages correlations over years first; MC is then the same but for rounding.
    assert choices.loc["this run", shared].tolist() == pytest.approx(own[shared].tolist(), abs=2e-3)
    assert found.pictures == 1
    assert (found.table("label", "drop")["contribution"] > 0).all()
    about = found.table("label", "lift")
    assert (about["inside"] > about["outside"]).all()
    assert "smallest rule" in found.text
    assert "report.html" in found.text


@pytest.mark.slow
def test_benchmark_similarity(script: ModuleType, finished: Path) -> None:
    found = Outputs(script.executed(ROOT / "notebooks" / f"{NAMES[1]}.ipynb", finished))
    run = cs.Run(finished)
    own = run.benchmark.set_index("grouping")
    fair = found.table("at_sic_pairs", "at_sic_low")
    assert fair["at_sic_pairs"].is_monotonic_decreasing
    assert fair["at_sic_pairs"].to_dict() == pytest.approx(own["at_sic_pairs"].dropna().to_dict(), abs=6e-4)
    published = found.table("size_matched_null")
    assert (published["mean_correlation"] > published["size_matched_null"]).all()
    differences = found.table("second", "p_by")
    assert (differences["p_by"] >= differences["p_value"]).all()
    assert len(differences) == 6
    rival = found.table("figure", "returns").set_index(["figure", "returns"])
    assert rival.loc[("at_sic4_pairs", "raw"), "difference"] == pytest.approx(
        own.loc["sae", "at_sic_pairs"] - own.loc["tfidf", "at_sic_pairs"], abs=6e-4
    )
    assert set(rival.index.get_level_values("returns")) == {"raw", "components"}
    judged = found.table("at_sic4_pairs", "peers5")
    assert judged.loc[["sae", "tfidf"], "at_sic4_pairs"].tolist() == pytest.approx(
        own.loc[["sae", "tfidf"], "at_sic_pairs"].tolist(), abs=6e-4
    )
    everything = own.loc["all_pairs", "pair_weighted"]
    assert judged.loc["noise", "at_sic4_pairs"] == pytest.approx(everything, abs=0.05)
    assert (judged.drop(index="noise")["at_sic4_pairs"] > everything + 0.2).all()
    assert found.pictures == 1


@pytest.mark.slow
def test_backtest_pairs(script: ModuleType, finished: Path) -> None:
    found = Outputs(script.executed(ROOT / "notebooks" / f"{NAMES[2]}.ipynb", finished))
    rungs = found.table("rung", "sharpe", "alone")
    assert rungs["sharpe"].iloc[0] > 5  # from random walks
    assert abs(rungs["sharpe"].iloc[-1]) < 1
    assert rungs["bookings"].iloc[0] > 100 * rungs["trades"].iloc[0]
    run = cs.Run(finished)
    books, own = found.table("sharpe_net", "placebo_p"), run.backtest.set_index("grouping")
    assert books["sharpe_net"].to_dict() == pytest.approx(own["sharpe_net"].to_dict(), abs=6e-4)
    years = found.table("year", "return_net")
    assert years["year"].tolist() == [2013, 2014, 2015, 2016]
    assert (years["return_net"] < years["return_gross"] + 1e-3).all()
    before, after = found.numbers(r"last day: ([-+.\d]+)% as it was, ([-+.\d]+)% in the crash")
    assert before != after  # the crash is seen on its day, and the notebook asserts that it is not seen before
    ratio, p = found.numbers(r"net Sharpe ratio ([-.\d]+), placebo p ([.\d]+)")
    median, top = found.numbers(r"random pairs: median ([-.\d]+), 95th percentile ([-.\d]+)")
    assert median < top
    assert (ratio > top) == (p < 0.05)
    assert found.pictures == 1


@pytest.mark.slow
def test_your_own_llm_and_sae(script: ModuleType) -> None:
    found = Outputs(script.executed(ROOT / "notebooks" / f"{NAMES[3]}.ipynb"))
    first, last = found.numbers(r"step +0: loss ([.\d]+)\n(?:.*\n)*?step 100: loss ([.\d]+)")
    assert last < first - 1  # it has learned
    (unexplained,) = found.numbers(r"fraction_unexplained=([.\d]+)")
    assert 0 < unexplained < 0.5
    fits = found.table("hook", "claimed")
    assert fits.loc[fits["claimed"], "hook"].tolist() == ["layers.1"]
    assert len(found.table("ticker", "why")) == 5
    table = found.table("at_sic_pairs", "peers5")
    assert table.loc["sae", "at_sic_pairs"] < table.loc["tfidf", "at_sic_pairs"]  # as the text says
    assert table.loc["tfidf", "mean_correlation"] > table.loc["tfidf", "size_matched_null"] + 0.1
    assert "'EleutherAI/sae-llama-3-8b-32x/layers.30'" in found.text
