"""`companysim explain` and `companysim label` on a finished run: tables, JSON, CSV, a sentence for every mistake."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from companysim.cli_explain import explain_command, important, label_command, print_cluster, print_pair
from companysim.errors import CompanySimError, ConfigError, DataError, RunError, ServiceError, UnknownTickerError
from companysim.explain import explain_pair
from companysim.pipeline import Reporter, run
from companysim.results import Run
from companysim.similarity import PcaCosine
from tests import tiny
from tests.explain.made import corpus

app = typer.Typer()
app.command("explain")(explain_command)
app.command("label")(label_command)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", autouse=True)
def faint() -> Iterator[None]:
    """Of the tiny world's 24 latents none is three times as strong as the mean."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("clusters", "defining", "pairs"):
            patch.setattr(f"companysim.explain.{module}.PRESENT", 1.0)
        yield


@pytest.fixture(scope="module")
def finished(world: Path) -> Run:
    return run(world, world.parent / "out")


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Run:
    shutil.copytree(finished.root, tmp_path / "copy")
    return Run(tmp_path / "copy")


def call(found: Run | Path, *arguments: object) -> Result:
    """Run the command; a named error, of which `companysim.cli.main` makes one sentence and exit code 2, is raised."""
    root = found.root if isinstance(found, Run) else found
    result = CliRunner().invoke(app, [*map(str, arguments), "--run", str(root)])
    if isinstance(result.exception, CompanySimError):
        assert "\n" not in str(result.exception)
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def rendered(show: Callable[[Console], None], width: int) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


def test_a_pair_is_explained(finished: Run) -> None:
    text = call(finished, "explain", "ba0", "BA3").stdout
    peers = finished.peers("BA0", 17).set_index("ticker")
    head = f"BA0 (Bank 0 Inc.) and BA3 (Bank 3 Inc.): similarity {peers.loc['BA3', 'similarity']:.3f}"
    assert head in text
    assert f"return correlation {peers.loc['BA3', 'correlation']:.2f}" in text
    for words in ("What makes them alike", "<<", "Labels by terms"):
        assert words in text


def test_a_pair_without_shares_is_printed_with_contributions(rng: np.random.Generator) -> None:
    made = corpus(rng.random((12, 30)) * (rng.random((12, 30)) < 0.4), estimator=PcaCosine(0.99))
    similarity = made.estimator.transform(made.matrix)
    similarity = similarity @ similarity.T
    first, second = np.unravel_index(similarity.argmin(), similarity.shape)
    pair = explain_pair(made, int(first), int(second))
    text = rendered(lambda console: print_pair(pair, console), 140)
    assert "nan" not in text
    assert ["contribution", "latent", "label", "sentences"] in [line.split() for line in text.splitlines()]
    assert f"+{pair.side('shared')['contribution'].iloc[0]:.4f}" in text
    assert "Contributions add up to the similarity" in text


def test_a_pair_as_json_and_csv(finished: Run) -> None:
    record = json.loads(call(finished, "explain", "BA0", "DR1", "-k", 24, "--json").stdout)
    table = pd.read_csv(io.StringIO(call(finished, "explain", "BA0", "DR1", "-k", 24, "--csv").stdout))
    assert record["tickers"] == ["BA0", "DR1"]
    assert len(record["latents"]) == len(table)
    assert [row["latent"] for row in record["latents"]] == table["latent"].tolist()
    vectors = finished.vectors
    rows = [finished._row(ticker) for ticker in ("BA0", "DR1")]
    assert record["similarity"] == pytest.approx(float(vectors[rows[0]] @ vectors[rows[1]]), abs=1e-6)
    for row in record["latents"]:
        assert set(row) >= {"side", "label", "method", "contribution", "share", "drop", "sentence_1", "sentence_2"}


def test_sentences_are_of_the_company_and_the_marked_word_is_where_the_latent_peaks(finished: Run) -> None:
    """The snippets written while encoding keep the peak in characters; the explanation gets it from the token."""
    texts = finished.companies.set_index("filing_id")["text"]
    found = finished.explain("BA0", "BA1", 24)
    snippets = finished.snippets.set_index(["latent", "filing_id"])
    filing = finished.companies["filing_id"].iloc[finished._row("BA0")]
    checked = 0
    for row in found.side("shared").itertuples():
        sentence = str(row.sentence_1)
        assert sentence.replace("<<", "").replace(">>", "").removeprefix("... ").removesuffix(" ...") in texts[filing]
        if (row.latent, filing) in snippets.index:
            spot = snippets.loc[(row.latent, filing)]
            token = texts[filing][int(spot["peak_start"]) : int(spot["peak_end"])].strip()
            assert f"<<{token}>>" in sentence
            checked += 1
    assert checked > 3


def test_a_cluster_is_explained_by_number_and_by_member(finished: Run) -> None:
    clusters = finished.clusters()
    member = clusters["tickers"].iloc[0].split()[0]
    text = call(finished, "explain", "--cluster", 0).stdout
    assert text == call(finished, "explain", "--cluster", member.lower()).stdout
    assert f"Cluster 0: {clusters['size'].iloc[0]} companies" in text
    for words in ("all pairs", "What defines it", "The smallest rule:", "held out", "SIC:", "GICS:"):
        assert words in text
    record = json.loads(call(finished, "explain", "--cluster", "0", "--json").stdout)
    row = pd.read_parquet(finished.root / "explain" / "clusters.parquet").iloc[0]
    assert record["rule"]["text"] == row["rule"]
    assert record["rule"]["precision"] == pytest.approx(row["precision"])
    assert record["mean_correlation"] == pytest.approx(row["mean_correlation"])
    assert [one["ticker"] for one in record["members"]]
    table = pd.read_csv(io.StringIO(call(finished, "explain", "--cluster", 0, "-k", 3, "--csv").stdout))
    assert len(table) <= 3


def test_a_cluster_that_nothing_defines_is_answered(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("companysim.explain.defining.PRESENT", 1e9)
    text = call(finished, "explain", "--cluster", 0).stdout
    assert "No latent is present in more of the members than of the other companies." in text
    assert "What defines it" not in text
    assert "The smallest rule:" in text


def test_clusters_of_other_groupings_are_explained_too(finished: Run) -> None:
    text = call(finished, "explain", "--cluster", "BA2", "--method", "sic").stdout
    assert "BA0 BA1 BA2 BA3 BA4 BA5" in text
    assert "SIC: 60 6" in text
    assert "GICS: Financials 6" in text


@pytest.mark.parametrize("width", [100, 120, 140])
def test_tables_fit_the_terminal(finished: Run, width: int) -> None:
    pair, group = finished.explain("BA0", "CH1"), finished.explain_cluster(0)
    for text in (rendered(lambda c: print_pair(pair, c), width), rendered(lambda c: print_cluster(group, c), width)):
        assert max(map(len, text.splitlines())) <= width
        assert text.count("<<") == text.count(">>") > 0


def test_markup_in_labels_and_texts_is_shown_as_it_is() -> None:
    made = corpus(np.array([[9.0, 8, 0], [9, 8, 0], [0, 0, 1]]), ["[red]oil [/] [bold]gas"] * 3, labels=["[blue]x"] * 3)
    pair = explain_pair(made, 0, 1)
    text = rendered(lambda c: print_pair(pair, c), 120)
    assert "[blue]x" in text
    assert "<<[red]oil>>" in text


def test_a_pair_without_common_latents_is_answered() -> None:
    pair = explain_pair(corpus(np.array([[3.0, 2, 0, 0], [0, 0, 4, 1], [1, 1, 1, 1]])), 0, 1)
    text = rendered(lambda c: print_pair(pair, c), 120)
    assert "D0 and D1 share no latent beyond what two average companies share." in text
    assert "What makes them alike" not in text
    assert "Strong in D0, faint or absent in D1" not in text or "<<" in text


def test_mistakes_are_answered_by_a_sentence(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(UnknownTickerError, match=r"no company 'BAO' in this run of 18: did you mean BA"):
        call(finished, "explain", "BAO", "BA1")
    with pytest.raises(UnknownTickerError, match="no company 'chips'"):
        call(finished, "explain", "--cluster", "chips")
    with pytest.raises(DataError, match="BA1 is compared with itself: give two different companies"):
        call(finished, "explain", "BA1", "ba1")
    with pytest.raises(ConfigError, match=r"no cluster 99 in this run: it has \d+, numbered from 0"):
        call(finished, "explain", "--cluster", 99)
    with pytest.raises(ConfigError, match="no grouping 'astrology'"):
        call(finished, "explain", "--cluster", 0, "--method", "astrology")
    with pytest.raises(ConfigError, match="at least one latent"):
        call(finished, "explain", "BA0", "BA1", "-k", 0)
    with pytest.raises(RunError, match=r"no finished run in .*none: make one with `companysim run"):
        call(tmp_path / "none", "explain", "BA0", "BA1")
    for arguments in (["BA0"], [], ["BA0", "BA1", "--cluster", "0"], ["BA0", "--cluster", "0"]):
        with pytest.raises(DataError, match="give two tickers, or --cluster"):
            call(finished, "explain", *arguments)


def test_a_company_in_no_cluster_is_told_so(copy: Run) -> None:
    path = copy.root / "clustering" / "partition.parquet"
    partition = pd.read_parquet(path)
    partition.loc[partition["ticker"] == "BA0", "cluster"] = partition["cluster"].max() + 1
    partition.to_parquet(path)
    for method in ("sae", "sic"):  # of codes there is none that is "near enough"
        with pytest.raises(DataError, match=f"BA0 is in no {method} cluster of two or more: `companysim peers BA0`"):
            call(copy, "explain", "--cluster", "BA0", "--method", method)


def test_missing_and_old_labels_are_told(copy: Run) -> None:
    path = copy.root / "explain" / "labels.parquet"
    pd.read_parquet(path)[["latent", "label"]].to_parquet(path)
    with pytest.raises(RunError, match="are of an older version: run again"):
        call(copy, "explain", "BA0", "BA1")
    (copy.root / "explain" / "done.json").unlink()
    with pytest.raises(RunError, match="were not finished: run again"):
        call(copy, "label", "--by", "terms")
    path.unlink()
    with pytest.raises(RunError, match=r"labels\.parquet.*run again to make it anew"):
        call(copy, "explain", "BA0", "BA1")


class Recorder(Reporter):
    def __init__(self) -> None:
        self.cached: dict[str, bool] = {}

    def end(self, stage: str, seconds: float, cached: bool) -> None:
        self.cached[stage] = cached


def test_labels_of_a_service_are_kept_by_the_next_run_and_undone_by_terms(
    world: Path, copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (copy.root / "explain" / name).read_bytes() for name in ("labels.parquet", "clusters.parquet")}
    asked: list[str] = []
    made = lambda *_: lambda prompt: asked.append(prompt) or f"idea {len(asked)}"  # noqa: E731
    monkeypatch.setattr("companysim.explain.endpoint.endpoint", made)
    arguments = ("label", "--by", "endpoint", "--base-url", "http://localhost:1/v1", "--model", "m", "--count", 3)
    said = call(copy, *arguments).stdout
    assert "3 latents labelled by endpoint m, 0 before, 0 keep theirs" in said
    labels = Run(copy.root).labels
    changed = labels[labels["method"] == "endpoint m"]
    assert sorted(changed["label"]) == ["idea 1", "idea 2", "idea 3"]
    assert sorted(changed["latent"]) == sorted(important(copy)[:3])
    assert changed["latent"].isin(copy.cluster_latents["latent"]).any()
    assert "idea" in " ".join(Run(copy.root).cluster_latents["label"])
    assert "3 before" in call(copy, *arguments).stdout  # goes on where it was
    assert len(asked) == 3
    text = call(copy, "explain", "BA0", "BA1", "-k", 24).stdout
    assert "(endpoint m)" in text.replace("\n", " ")
    assert "Labels by endpoint m (" in " ".join(text.split())
    recorder = Recorder()
    run(world, copy.root, recorder)
    assert all(recorder.cached.values())
    assert "24 latents labelled by terms" in call(copy, "label", "--by", "terms").stdout
    assert {name: (copy.root / "explain" / name).read_bytes() for name in before} == before


def test_what_a_service_named_before_it_failed_is_kept(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(base_url: str, model: str) -> Callable[[str], str]:
        answers = iter(["first idea", "..."])

        def complete(prompt: str) -> str:
            try:
                return next(answers)
            except StopIteration:
                raise ServiceError("http://localhost:1/v1 is too busy") from None

        return complete

    monkeypatch.setattr("companysim.explain.endpoint.endpoint", made)
    with pytest.raises(ServiceError, match="too busy"):
        call(copy, "label", "--by", "endpoint", "--base-url", "http://localhost:1/v1", "--model", "m")
    labels = Run(copy.root).labels
    assert labels[labels["method"] == "endpoint m"]["label"].tolist() == ["first idea"]


def test_a_local_model_names_latents(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("companysim.explain.llm_labels.local_model", lambda model, device: lambda prompt: "oil wells")
    assert "2 latents labelled by llm some/dir" in call(
        copy, "label", "--by", "llm", "--model", "some/dir", "--count", 2
    ).stdout  # fmt: skip
    assert (Run(copy.root).labels["method"] == "llm some/dir").sum() == 2


def test_label_asks_for_what_it_needs(finished: Run) -> None:
    for arguments in (
        ["llm"],
        ["endpoint", "--model", "m"],
        ["endpoint", "--base-url", "http://localhost:1"],
        ["llm", "--model", "m", "--base-url", "http://localhost:1"],
    ):
        with pytest.raises(ConfigError, match="give --model with --by llm"):
            call(finished, "label", "--by", *arguments)
    with pytest.raises(ConfigError, match="is no base URL"):
        call(finished, "label", "--by", "endpoint", "--base-url", "nonsense", "--model", "m")
    with pytest.raises(ConfigError, match="--count is 0"):
        call(finished, "label", "--by", "llm", "--model", "m", "--count", 0)


def test_python_answers_like_the_command_line(finished: Run) -> None:
    assert finished.explain("BA0", "BA1").to_frame().equals(finished.explain("ba0", " BA1 ").to_frame())
    assert finished.explain_cluster(0).to_frame().equals(finished.explain_cluster("0").to_frame())
    assert finished.explain("BA0", "BA1").summary().startswith("BA0 (Bank 0 Inc.) and BA1")
