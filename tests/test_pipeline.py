"""The whole pipeline on the tiny world: results, resuming, order of rows, point-in-time."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from companysim import pipeline
from companysim.config import RunConfig, load_config
from companysim.errors import DataError, RunError, UnknownTickerError
from companysim.matrices import load_arrays
from companysim.pipeline import Reporter, run
from companysim.report.html.page import page_data
from companysim.results import Run
from tests import tiny


class Recorder(Reporter):
    def __init__(self) -> None:
        self.cached: dict[str, bool] = {}
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def end(self, stage: str, seconds: float, cached: bool) -> None:
        self.cached[stage] = cached


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(world, tmp_path_factory.mktemp("runs") / "tiny")


def figures(found: Run) -> dict[str, object]:
    return {key: value for key, value in found.summary.items() if key != "timings"}


def edited(world: Path, target: Path, **sections: dict[str, object]) -> Path:
    """A copy of the configuration with some settings changed, still pointing at the world's files."""
    content = yaml.safe_load(world.read_text())
    for section, settings in sections.items():
        content.setdefault(section, {}).update(settings)
    for section, keys in {
        "universe": ("filings", "companies", "prices"),
        "encoder": ("model", "sae", "embedding"),
    }.items():
        for key in keys:
            value = Path(content[section][key])
            content[section][key] = str(value if value.is_absolute() else world.parent / value)
    target.write_text(yaml.safe_dump(content))
    return target


def test_summary_has_the_promised_entries(finished: Run) -> None:
    summary = finished.summary
    names = [row["grouping"] for row in summary["benchmark"]]
    assert names == ["sae", "sic", "gics", "sae_pca", "minilm", "tfidf", "residual_mean", "all_pairs"]
    assert summary["universe"]["companies"] == 18
    assert summary["universe"]["years"] == [2011]
    for row in summary["benchmark"][:-1]:
        assert set(row["matched"]) == {"sic", "gics"}
        assert row["ci95"][0] <= row["pair_weighted"] <= row["ci95"][1]
    assert [row["grouping"] for row in summary["backtest"]] == [
        "sae",
        "sae_pca",
        "minilm",
        "tfidf",
        "residual_mean",
        "sic",
        "gics",
    ]
    assert {"protocol", "pairs", "trades", "sharpe_gross", "sharpe_net", "placebo_p"} <= set(summary["backtest"][0])
    assert set(summary["timings"]) >= {"universe", "encoding", "similarity", "clustering", "benchmark", "trading"}


def test_planted_industries_are_found_by_codes_and_words(finished: Run) -> None:
    scores = finished.benchmark.set_index("grouping")
    assert scores.loc["sic", "mean_correlation"] > scores.loc["all_pairs", "pair_weighted"] + 0.1
    assert scores.loc["tfidf", "at_sic_pairs"] == pytest.approx(scores.loc["sic", "at_sic_pairs"], abs=0.1)
    assert finished.trades["pnl_net"].notna().all()
    assert len(finished.trades) > 0


def test_the_explain_stage_names_latents_and_clusters(finished: Run) -> None:
    labels = pd.read_parquet(finished.root / "explain" / "labels.parquet")
    assert labels.columns.tolist() == ["latent", "label", "method", "support", "documents"]
    assert labels["latent"].tolist() == list(range(24))
    assert labels["documents"].tolist() == (finished.pooled.matrix() > 0).sum(axis=0).tolist()
    assert (labels["label"] != "").any()
    clusters = pd.read_parquet(finished.root / "explain" / "clusters.parquet")
    assert clusters[["cluster", "size"]].equals(finished.clusters()[["cluster", "size"]])
    assert clusters["companies"].tolist() == finished.clusters()["tickers"].tolist()
    scores = finished.benchmark.set_index("grouping")
    assert clusters["mean_correlation"].mean() == pytest.approx(scores.loc["sae", "mean_correlation"])
    shown = finished.cluster_latents
    assert shown.columns.tolist() == ["cluster", "rank", "latent", "inside", "outside", "label"]
    assert set(shown["cluster"]) <= set(clusters["cluster"])
    assert shown["label"].tolist() == labels["label"].iloc[shown["latent"]].tolist()


def test_a_second_run_takes_everything_from_disk(world: Path, finished: Run) -> None:
    before = figures(finished)
    recorder = Recorder()
    again = run(world, finished.root, recorder)
    assert all(recorder.cached.values())
    assert figures(again) == before


def test_changed_settings_repeat_only_what_depends_on_them(world: Path, tmp_path: Path, finished: Run) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.root, copy)
    recorder = Recorder()
    run(edited(world, tmp_path / "changed.yaml", backtest={"entry": 1.5}), copy, recorder)
    assert [stage for stage, cached in recorder.cached.items() if not cached] == ["trading"]
    run(edited(world, tmp_path / "changed.yaml", clustering={"share_of_pairs": 0.1}), copy, recorder)
    assert [stage for stage, cached in recorder.cached.items() if not cached] == [
        "clustering",
        "explain",
        "benchmark",
        "trading",
    ]


def test_a_rerun_that_was_killed_is_not_finished(
    world: Path, tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.root, copy)

    def killed(pipeline: object, folder: Path) -> None:
        raise KeyboardInterrupt

    changed = edited(world, tmp_path / "changed.yaml", similarity={"pool": "max"})
    with monkeypatch.context() as patch:
        patch.setattr("companysim.pipeline._Pipeline._clustering", killed)
        with pytest.raises(KeyboardInterrupt):
            run(changed, copy)
    with pytest.raises(RunError, match="no finished run"):  # of new vectors and old clusters
        Run(copy)
    recorder = Recorder()
    again = run(changed, copy, recorder)
    assert [stage for stage, cached in recorder.cached.items() if cached] == ["universe", "encoding", "similarity"]
    assert len(again.clusters()) > 0


def test_a_rerun_without_changes_is_finished_all_the_time(world: Path, tmp_path: Path, finished: Run) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.root, copy)

    class Asking(Recorder):
        def start(self, stage: str, what: str) -> None:
            assert Run(copy).summary == finished.summary

    recorder = Asking()
    run(world, copy, recorder)
    assert list(recorder.cached.values()) == [True] * 7


def test_every_stage_is_repeated_when_code_it_calls_changes() -> None:
    """Subpackages the code of a stage imports count for it: it names them, or takes a fingerprint that counts them."""
    stages = {stage.name: stage for stage in pipeline._Pipeline(RunConfig(), None, Reporter()).stages()}

    def covered(name: str) -> set[str]:
        return set(stages[name].code).union(*map(covered, stages[name].needs))

    home = Path(pipeline.__file__).parent
    for name, stage in stages.items():
        for source in (path for package in stage.code for path in (home / package).glob("*.py")):
            used = re.findall(r"^from companysim\.(\w+)", source.read_text(), re.MULTILINE)
            packages = {package for package in used if (home / package).is_dir()}
            assert packages <= covered(name), (name, source.name)
    functions = {function for function in vars(pipeline).values() if inspect.isfunction(function)}
    assert not [function for function in functions if function.__module__ == "companysim.results"]


def test_a_damaged_file_is_made_again(world: Path, tmp_path: Path, finished: Run) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.root, copy)
    partition = copy / "clustering" / "partition.parquet"
    partition.write_bytes(partition.read_bytes()[:-20])
    recorder = Recorder()
    again = run(world, copy, recorder)
    assert not recorder.cached["clustering"]
    assert recorder.cached["encoding"]
    assert figures(again) == figures(finished)


def test_a_damaged_shard_is_the_only_one_encoded_again(
    world: Path, tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("companysim.encoding.store.SHARD_FILINGS", 5)
    module = importlib.import_module("companysim.encoding.filings")
    sizes: list[int] = []
    real = module.encode

    def watched(stream: object, sae: object, texts: list[str], **options: object) -> object:
        sizes.append(len(texts))
        return real(stream, sae, texts, **options)

    monkeypatch.setattr(module, "encode", watched)
    first = run(world, tmp_path / "out")
    assert sizes == [5, 5, 5, 3]
    shard = sorted((tmp_path / "out" / "encoding").glob("shard-*.safetensors"))[1]
    good = shard.read_bytes()
    shard.write_bytes(good[:-1])
    recorder = Recorder()
    again = run(world, tmp_path / "out", recorder)
    assert len(sizes) == 5
    assert shard.read_bytes() == good
    assert [line for line in recorder.said if "is damaged and was removed" in line and shard.name in line]
    assert not recorder.cached["encoding"]
    assert figures(again) == figures(first)


def test_another_encoder_replaces_the_shards_of_the_last(world: Path, tmp_path: Path, finished: Run) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.root, copy)
    before = {path.name for path in (copy / "encoding").glob("shard-*")}
    found = run(edited(world, tmp_path / "c.yaml", encoder={"window": 16, "overlap": 4}), copy)
    after = {path.name for path in (copy / "encoding").glob("shard-*")}
    assert len(after) == len(before)
    assert not after & before
    assert found.summary["encoder"]["tokens"] == finished.summary["encoder"]["tokens"]


def test_a_change_of_pool_needs_no_new_pass(world: Path, tmp_path: Path, finished: Run) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.root, copy)
    seen = [load_arrays(copy / "similarity" / "sae.safetensors")["vectors"].tobytes()]
    for pool in ("max", "count"):
        recorder = Recorder()
        run(edited(world, tmp_path / "c.yaml", similarity={"pool": pool}), copy, recorder)
        stages = {"universe", "encoding"}
        assert {stage for stage, cached in recorder.cached.items() if cached} == stages
        seen.append(load_arrays(copy / "similarity" / "sae.safetensors")["vectors"].tobytes())
    assert len(set(seen)) == 3


@pytest.fixture
def broken(world: Path, tmp_path: Path) -> Callable[[list[str]], Path]:
    """A world in which the descriptions of some companies hold a word that makes the model's activations NaN."""
    from safetensors.torch import load_file, save_file

    def made(tickers: list[str]) -> Path:
        shutil.copytree(world.parent / "llm", tmp_path / "llm")
        weights = tmp_path / "llm" / "model.safetensors"
        tensors = load_file(weights)
        tensors["embed_tokens.weight"][0] = float("nan")  # of words the tokenizer does not know
        save_file(tensors, weights, metadata={"format": "pt"})
        filings = pd.read_csv(world.parent / "filings.csv", dtype=str)
        filings.loc[filings["ticker"].isin(tickers), "text"] += " xyzzy"
        filings.to_csv(tmp_path / "filings.csv", index=False)
        return edited(
            world,
            tmp_path / "c.yaml",
            universe={"filings": str(tmp_path / "filings.csv")},
            encoder={"model": str(tmp_path / "llm")},
        )

    return made


def test_a_company_that_cannot_be_encoded_is_left_out_and_named(
    broken: Callable[[list[str]], Path], tmp_path: Path
) -> None:
    config, recorder = broken(["BA3", "CH0"]), Recorder()
    found = run(config, tmp_path / "out", recorder)
    filings = {"1003-2011", "3000-2011"}
    for filing in filings:
        assert [line for line in recorder.said if line.startswith(f"{filing} could not be encoded and is left out: ")]
    failures = pd.read_parquet(tmp_path / "out" / "encoding" / "failures.parquet")
    assert set(failures["filing_id"]) == filings
    assert failures["reason"].str.contains("not finite").all()
    assert found.summary["universe"]["companies"] == 16
    assert found.summary["universe"]["dropped"]["could not be encoded"] == 2
    left = set(found.companies["ticker"])
    assert len(left) == 16
    assert not {"BA3", "CH0"} & left
    assert not {"BA3", "CH0"} & set(found.peers("BA0", 15)["ticker"])
    with pytest.raises(UnknownTickerError, match="BA3"):
        found.peers("BA3")
    partition = pd.read_parquet(tmp_path / "out" / "clustering" / "partition.parquet")
    assert set(partition["ticker"]) == left
    assert not set(found.pairs[["ticker_1", "ticker_2"]].to_numpy().ravel()) - left
    # Return correlations are those of the companies asked for, though prices have columns of the failed ones too.
    prices = pd.read_parquet(found.root / "universe" / "prices.parquet").loc["2014":"2015", ["BA4", "DR2"]]
    expected = np.log(prices).diff().corr().iloc[0, 1]
    assert found.explain("BA4", "DR2").correlation == pytest.approx(expected)
    assert found.peers("BA4", 15).set_index("ticker").loc["DR2", "correlation"] == pytest.approx(expected)
    rows = {ticker: place for place, ticker in enumerate(found.companies["ticker"])}
    drawn = page_data(found)["peers"][rows["BA4"]]
    assert [peer["r"] for peer in drawn if peer["i"] == rows["DR2"]] == [pytest.approx(expected, abs=1e-6)]
    written = pd.read_parquet(found.root / "explain" / "clusters.parquet")["mean_correlation"]
    for number, mean in enumerate(written):
        assert found.explain_cluster(number).mean_correlation == pytest.approx(mean)
    again = Recorder()
    assert figures(run(config, tmp_path / "out", again)) == figures(found)
    assert all(again.cached.values())


def test_leaving_out_is_the_same_as_never_having_had(
    world: Path, broken: Callable[[list[str]], Path], tmp_path: Path
) -> None:
    found = figures(run(broken(["BA3"]), tmp_path / "out"))
    filings = pd.read_csv(world.parent / "filings.csv", dtype=str)
    filings[filings["ticker"] != "BA3"].to_csv(tmp_path / "fewer.csv", index=False)
    config = edited(world, tmp_path / "f.yaml", universe={"filings": str(tmp_path / "fewer.csv")})
    expected = figures(run(config, tmp_path / "fewer"))
    for name in ("benchmark", "benchmark_before", "backtest", "clustering"):
        assert found[name] == expected[name], name


def test_a_world_in_which_nothing_can_be_encoded_is_refused(
    world: Path, broken: Callable[[list[str]], Path], tmp_path: Path
) -> None:
    everybody = pd.read_csv(world.parent / "filings.csv", dtype=str)["ticker"].tolist()
    with pytest.raises(DataError, match=r"no description could be encoded \(.*not finite"):
        run(broken(everybody), tmp_path / "out")


def test_order_of_the_input_rows_changes_nothing(world: Path, tmp_path: Path, finished: Run) -> None:
    for name in ("filings.csv", "companies.csv"):
        pd.read_csv(world.parent / name, dtype=str).sample(frac=1, random_state=1).to_csv(tmp_path / name, index=False)
    shuffled = pd.read_parquet(world.parent / "prices.parquet").sample(frac=1, random_state=1)
    shuffled.to_parquet(tmp_path / "prices.parquet", index=False)
    paths = {name: str(tmp_path / f"{name}.csv") for name in ("filings", "companies")}
    config = edited(world, tmp_path / "c.yaml", universe={**paths, "prices": str(tmp_path / "prices.parquet")})
    assert figures(run(config, tmp_path / "out")) == figures(finished)


def test_same_seed_same_results_other_seed_other_draws(world: Path, tmp_path: Path, finished: Run) -> None:
    assert figures(run(world, tmp_path / "same")) == figures(finished)
    content = yaml.safe_load(edited(world, tmp_path / "s.yaml").read_text()) | {"seed": 1}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    other = figures(run(tmp_path / "s.yaml", tmp_path / "other"))
    assert other["benchmark"] != figures(finished)["benchmark"]


def test_a_run_killed_at_any_moment_resumes_to_the_same_result(world: Path, tmp_path: Path, finished: Run) -> None:
    command = [sys.executable, "-m", "companysim", "run", str(world), "--out", str(tmp_path / "killed")]
    for wait in (2.5, 4.0, 5.0, 6.0, 7.0):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert figures(run(world, tmp_path / "killed")) == figures(finished)
    assert not list((tmp_path / "killed").rglob(".partial-*"))


def test_a_filing_of_the_day_after_as_of_changes_nothing(world: Path, tmp_path: Path, finished: Run) -> None:
    filings = pd.read_csv(world.parent / "filings.csv", dtype=str)
    late = filings.head(3).assign(filing_id=["x", "y", "z"], filed="2013-01-01", text="something else entirely")
    pd.concat([filings, late]).to_csv(tmp_path / "filings.csv", index=False)
    config = edited(world, tmp_path / "c.yaml", universe={"filings": str(tmp_path / "filings.csv")})
    assert figures(run(config, tmp_path / "out")) == figures(finished)


def test_prices_after_the_formation_window_choose_no_pair(world: Path, tmp_path: Path, finished: Run) -> None:
    prices = pd.read_parquet(world.parent / "prices.parquet")
    later = prices["date"] > "2012-12-31"
    prices.loc[later, "adj_close"] *= np.random.default_rng(0).uniform(0.5, 2, later.sum())
    prices.to_parquet(tmp_path / "prices.parquet", index=False)
    config = edited(world, tmp_path / "c.yaml", universe={"prices": str(tmp_path / "prices.parquet")})
    changed = run(config, tmp_path / "out")
    pd.testing.assert_frame_equal(changed.pairs, finished.pairs)
    assert not changed.trades.equals(finished.trades)


def test_two_lines_of_one_company_count_once(world: Path, tmp_path: Path) -> None:
    companies = pd.read_csv(world.parent / "companies.csv", dtype=str)
    second = companies[companies["ticker"] == "BA0"].assign(ticker="BA0B")
    pd.concat([companies, second]).to_csv(tmp_path / "companies.csv", index=False)
    prices = pd.read_parquet(world.parent / "prices.parquet")
    pd.concat([prices, prices[prices["ticker"] == "BA0"].assign(ticker="BA0B")]).to_parquet(tmp_path / "prices.parquet")
    paths = {"companies": str(tmp_path / "companies.csv"), "prices": str(tmp_path / "prices.parquet")}
    found = run(edited(world, tmp_path / "c.yaml", universe=paths), tmp_path / "out")
    assert found.summary["universe"]["dropped"]["further lines of the same company"] == 1
    assert found.companies["ticker"].tolist().count("BA0B") == 0
    pd.testing.assert_frame_equal(found.peers("BA0B"), found.peers("BA0"))  # asked for by either line


def test_a_run_without_earlier_years_has_an_empty_benchmark_of_them(
    world: Path, tmp_path: Path, finished: Run
) -> None:
    assert finished.benchmark_before["grouping"].tolist() == finished.benchmark["grouping"].tolist()
    filings = pd.read_csv(world.parent / "filings.csv", dtype=str).assign(filed="2006-03-01")
    filings.to_csv(tmp_path / "filings.csv", index=False)
    universe = {"filings": str(tmp_path / "filings.csv"), "as_of": "2006-12-31"}
    found = run(edited(world, tmp_path / "c.yaml", universe=universe, benchmark={"first_year": 2007}), tmp_path / "out")
    assert not (found.root / "benchmark" / "before.csv").exists()
    assert found.benchmark_before.empty
    assert found.benchmark_before.columns.tolist() == found.benchmark.columns.tolist()


def test_years_without_returns_are_refused(world: Path, tmp_path: Path) -> None:
    config = edited(world, tmp_path / "c.yaml", benchmark={"first_year": 2030, "last_year": 2031})
    with pytest.raises(DataError, match=r"no returns in 2030-2031"):
        run(config, tmp_path / "out")


def test_the_bundled_yaml_is_the_sample_configuration() -> None:
    assert load_config(Path(__file__).parents[1] / "pipelines" / "sample.yaml") == RunConfig()


def test_partition_and_summary_keep_their_contract(finished: Run) -> None:
    partition = pd.read_parquet(finished.root / "clustering" / "partition.parquet")
    assert {"method", "year", "cluster", "filing_id"} <= set(partition.columns)
    assert {"ticker_1", "ticker_2", "hedge_ratio", "adf_t", "p_value", "lags", "half_life"} <= set(
        finished.pairs.columns
    )
    assert {"side", "entry", "exit", "pnl_gross", "cost", "pnl_net", "reason"} <= set(finished.trades.columns)
    assert {"date", "protocol", "method", "return_gross", "return_net"} <= set(finished.equity.columns)
    assert json.loads((finished.root / "summary.json").read_text()) == finished.summary
    assert not list(finished.root.rglob("*.pkl"))
