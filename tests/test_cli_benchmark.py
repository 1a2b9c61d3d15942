"""`companysim benchmark` as a user meets it: own files in, tables and figures out, one sentence for every mistake."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml

import companysim as cs
from companysim.benchmark.study import run_study
from companysim.cli import main
from companysim.cli_benchmark import study_tables, write_study
from companysim.errors import ConfigError, DataError
from tests import tiny

N, GROUPS = 24, 6
QUICK = ("--null-draws", "20", "--bootstrap-draws", "20")


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def benchmark(*arguments: object) -> Done:
    stdout, stderr, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["companysim", "benchmark", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    return Done(int(end.value.code or 0), stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Six groups of four that move together; vectors that know them, a partition that does not."""
    folder, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(5)
    ids, group = [f"T{i:02d}" for i in range(N)], np.repeat(np.arange(GROUPS), N // GROUPS)
    dates = pd.date_range("2008-01-31", "2014-12-31", freq="ME")
    common, own = rng.normal(0, 0.05, (len(dates), GROUPS)), rng.normal(0, 0.04, (len(dates), N))
    market = rng.normal(0, 0.03, (len(dates), 1))
    returns = pd.DataFrame(market + common[:, group] + own, dates, ids)
    returns.iloc[-5, 3] = 2.5
    paths = {name: folder / f"{name}.{end}" for name, end in
             (("own", "parquet"), ("random", "csv"), ("returns", "csv"), ("codes", "csv"), ("factors", "csv"))}
    vectors = np.eye(GROUPS)[group] + rng.normal(0, 0.1, (N, GROUPS))
    pd.DataFrame(vectors, columns=[f"f{i}" for i in range(GROUPS)]).assign(ticker=ids).to_parquet(paths["own"])
    pd.DataFrame({"ticker": ids, "cluster": rng.permutation(group)}).to_csv(paths["random"], index=False)
    returns.rename_axis("date").reset_index().to_csv(paths["returns"], index=False)
    codes = pd.DataFrame({"ticker": ids, "sic": [1000 + 100 * g for g in group], "filed": "2012-03-01"})
    codes.to_csv(paths["codes"], index=False)
    lines = [f"{day:%Y%m},{100 * value:.4f},0.01" for day, value in zip(dates, market[:, 0], strict=True)]
    paths["factors"].write_text("By hand\n\n,Mkt-RF,RF\n" + "\n".join(lines) + "\n")
    return paths


def arguments(files: dict[str, Path]) -> list[object]:
    given: list[object] = ["--features", files["own"], "--features", files["random"], "--returns", files["returns"]]
    return [*given, "--classification", files["codes"], *QUICK]


def test_a_run_writes_every_figure_beside_its_headline(tmp_path: Path) -> None:
    from companysim.report.console import robust_sentence

    finished = cs.run(tiny.build(tmp_path / "world"), tmp_path / "out")
    figures = finished.figures
    assert set(zip(figures["window"], figures["returns"], strict=True)) == {
        ("test", "raw"), ("test", "components"), ("before", "raw")
    }  # fmt: skip
    headline = finished.benchmark.set_index("grouping")
    raw = figures[(figures["window"] == "test") & (figures["returns"] == "raw")].set_index(["grouping", "figure"])
    for name in ("sae", "sic", "tfidf"):
        assert raw.loc[(name, "at_sic4_pairs"), "value"] == pytest.approx(headline.loc[name, "at_sic_pairs"])
        assert raw.loc[(name, "peers5"), "low"] <= raw.loc[(name, "peers5"), "high"]
    assert {"p_value", "p_bh", "p_by"} <= set(finished.differences.columns)
    assert sorted(finished.yearly.loc[finished.yearly["window"] == "test", "year"].unique()) == [2014, 2015]
    robust = finished.summary["benchmark_robust"]
    assert robust["capped"]["sae"] == pytest.approx(raw.loc[("sae", "at_sic4_pairs_capped"), "value"])
    assert f"{robust['components']['sae']:.3f}" in robust_sentence(robust, 3)
    assert robust_sentence({"capped": {"sae": None}, "components": {}}, 3) == ""


def test_the_table_names_who_knows_the_groups(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = benchmark(*arguments(files), "--first-year", 2012, "--share-of-pairs", 0.13, "--without", 2013,
                     "--factors", files["factors"], "--components", 1, "--autoencoder", 1, "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "24 companies, raw returns 2012-2014" in done.stdout
    for kind in ("factors", "components", "autoencoder"):
        assert f"{kind} returns" in done.stdout
    assert "extreme returns" in done.stdout
    estimates = pd.read_csv(out / "estimates.csv").set_index(["returns", "years", "grouping", "figure"])["value"]
    for kind in ("raw", "factors", "components", "autoencoder"):
        for years in ("all", "without 2013"):
            best, chance = (estimates[kind, years, name, "at_sic4_pairs"] for name in ("own", "random"))
            assert best > chance + 0.2
    assert estimates["raw", "all", "own", "at_sic4_pairs"] > estimates["factors", "all", "own", "at_sic4_pairs"] - 0.05
    market = estimates.xs(("all", "all_pairs", "pair_weighted"), level=("years", "grouping", "figure"))
    assert market["raw"] > market["factors"] + 0.1
    extremes = pd.read_csv(out / "extremes.csv")
    assert ((extremes["ticker"] == "T03") & (extremes["log_return"] > 1)).any()
    names = {path.name for path in out.iterdir()}
    assert {"differences.csv", "yearly.csv", "missing.csv", "counts.csv", "theta_own.csv", "partitions.csv"} <= names
    for figure in ("frontier", "years", "theta"):
        assert (out / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"
        html = (out / f"{figure}.html").read_text()
        assert "Plotly.newPlot" in html
        assert "src=\"https" not in html  # opens without a network


def test_json_and_csv_hold_the_same_figures(files: dict[str, Path]) -> None:
    as_json, as_csv = benchmark(*arguments(files), "--json"), benchmark(*arguments(files), "--csv")
    assert as_json.returncode == as_csv.returncode == 0
    rows, table = json.loads(as_json.stdout), pd.read_csv(io.StringIO(as_csv.stdout))
    assert len(rows) == len(table)
    assert rows[5]["value"] == pytest.approx(table["value"].iloc[5])
    assert set(table["grouping"]) == {"own", "random", "sic", "all_pairs"}


def test_a_configuration_says_the_same_as_flags(files: dict[str, Path], tmp_path: Path) -> None:
    config = files["own"].parent / "study.yaml"
    content = {"features": ["own.parquet", "random.csv"], "returns": "returns.csv", "classification": "codes.csv"}
    config.write_text(yaml.safe_dump(content | {"null_draws": 20, "bootstrap_draws": 20, "first_year": 2013}))
    first = benchmark("--config", config, "--csv")
    assert first.returncode == 0, first.stderr
    assert first.stdout == benchmark(*arguments(files), "--first-year", 2013, "--csv").stdout
    assert first.stdout != benchmark("--config", config, "--first-year", 2012, "--csv").stdout  # flags come first


def test_windows_after_the_filing(files: dict[str, Path]) -> None:
    done = benchmark(*arguments(files), "--window", "after_filing", "--csv")
    assert done.returncode == 0, done.stderr
    study = run_study([files["own"]], files["returns"], files["codes"], window="after_filing",
                      null_draws=5, bootstrap_draws=5)  # fmt: skip
    assert list(study.windows["raw"].returns) == [2012]
    index = study.windows["raw"].returns[2012].index
    assert (index[0], index[-1]) == (pd.Timestamp("2012-04-30"), pd.Timestamp("2013-03-31"))


def test_clipping_is_asked_for_and_said(files: dict[str, Path]) -> None:
    plain, clipped = (
        run_study([files["own"]], files["returns"], files["codes"], first_year=2012, clip=clip,
                  null_draws=5, bootstrap_draws=5)
        for clip in (False, True)
    )  # fmt: skip
    assert "left as they are" in plain.summary()
    assert "pulled in" in clipped.summary()
    highest = [study.windows["raw"].returns[2014].max(axis=None) for study in (plain, clipped)]
    assert highest[0] == pytest.approx(np.log(3.5))
    assert highest[1] < 1


def test_the_order_of_rows_and_companies_changes_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    paths = []
    for name in ("own", "returns", "codes"):
        read = pd.read_parquet if files[name].suffix == ".parquet" else pd.read_csv
        shuffled = read(files[name]).sample(frac=1, random_state=3)
        path = tmp_path / files[name].name
        shuffled.to_parquet(path) if path.suffix == ".parquet" else shuffled.to_csv(path, index=False)
        paths.append(path)
    settings = {"null_draws": 5, "bootstrap_draws": 5}
    first = run_study([files["own"]], files["returns"], files["codes"], **settings)  # type: ignore[arg-type]
    second = run_study([paths[0]], *paths[1:], **settings)  # type: ignore[arg-type]
    for name, table in study_tables(first).items():
        pd.testing.assert_frame_equal(table, study_tables(second)[name])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--features": "none.csv"}, "none.csv"),
        ({"--returns": "none.csv"}, "none.csv"),
        ({"--classification": "none.csv"}, "none.csv"),
        ({"--first-year": 2030}, "2030"),
        ({"--share-of-pairs": 0}, "share_of_pairs"),
        ({"--components": 11}, "at most"),
        ({"--factors": "none.csv"}, "none.csv"),
        ({"--clip": None}, "clip"),
        ({"--autoencoder": 1}, "12 or more"),
        ({"--config": "none.yaml"}, "none.yaml"),
        ({"--out": "/dev/null/x"}, "--out"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(
    files: dict[str, Path], changes: dict[str, object], words: str
) -> None:
    given = arguments(files)
    for flag, value in changes.items():
        given += [flag] if value is None else [flag, value]
    done = benchmark(*given)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [
        ("--null-draws", 0, 1),
        ("--bootstrap-draws", 0, 1),
        ("--bootstrap-draws", -1, 1),
        ("--seed", -1, 0),
        ("--components", -1, 0),
        ("--autoencoder", -1, 0),
    ],
)
def test_impossible_numbers_are_refused_as_options_and_in_a_file(
    files: dict[str, Path], option: str, value: int, least: int
) -> None:
    done = benchmark(*arguments(files), f"{option}={value}")
    assert done.returncode == 2
    assert f"Invalid value for '{option}'" in done.stderr
    key, config = option[2:].replace("-", "_"), files["own"].parent / "impossible.yaml"
    content = {"features": "own.parquet", "returns": "returns.csv", "classification": "codes.csv", key: value}
    config.write_text(yaml.safe_dump(content))
    done = benchmark("--config", config)
    assert done.returncode == 2
    assert done.stderr == f"ConfigError: {key} is {value}: give {least} or more\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", "YAML"),
        ("- 1", "no settings"),
        ("colour: red", "colour"),
        ("seed: red", "seed"),
        ("window: x", "window"),
        ("share_of_pairs: much", "share_of_pairs"),
    ],
)
def test_a_bad_configuration_is_named(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    done = benchmark("--config", path)
    assert done.returncode == 2
    assert words in done.stderr


def test_missing_files_are_asked_for(files: dict[str, Path]) -> None:
    done = benchmark("--features", files["own"])
    assert done.returncode == 2
    assert "--returns" in done.stderr


def test_companies_nobody_else_knows_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("ticker,f1\nX,1\nY,2\nZ,3\n")
    done = benchmark("--features", path, "--returns", files["returns"], "--classification", files["codes"])
    assert done.returncode == 2
    assert "only 0 companies have returns" in done.stderr
    path.write_text("ticker,f1\nX,1\nY,2\nT03,3\n")
    done = benchmark("--features", path, "--returns", files["returns"], "--classification", files["codes"])
    assert "only 1 company has returns" in done.stderr


def test_codes_of_other_companies_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "codes.csv"
    path.write_text(files["codes"].read_text().replace("T", "X"))
    with pytest.raises(DataError, match=r"codes\.csv holds none of the 24 companies compared"):
        run_study([files["own"]], files["returns"], path)
    path.write_text("ticker,sic\nT03,1000\nT04,1100\nX,1000\n")  # of some: the table says how many
    study = run_study([files["own"]], files["returns"], path, null_draws=5, bootstrap_draws=5)
    assert [(grouping.labels >= 0).sum() for grouping in study.groupings if grouping.name == "sic"] == [2]


def test_weekly_returns_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path, rng = tmp_path / "weekly.csv", np.random.default_rng(0)
    weeks = pd.date_range("2012-01-06", "2014-12-26", freq="W-FRI")
    weekly = pd.DataFrame(rng.normal(0, 0.03, (len(weeks), N)), weeks, [f"T{i:02d}" for i in range(N)])
    weekly.rename_axis("date").to_csv(path)
    with pytest.raises(DataError, match="no two companies share 120 daily returns in any year of 2012-2014"):
        run_study([files["own"]], path, files["codes"])


def test_limits_are_learned_only_where_there_is_a_past(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    late = pd.read_csv(files["returns"], index_col="date")
    late[late.index < "2012"] = np.nan
    late.assign(OTHER=0.01).to_csv(path)  # of a company nobody describes, and all the way back
    study = run_study([files["own"]], path, files["codes"], first_year=2012, null_draws=5, bootstrap_draws=5)
    assert study.extremes is None
    assert "extreme" not in study.summary()
    assert sorted(study.windows["raw"].returns) == [2012, 2013, 2014]
    with pytest.raises(ConfigError, match="no return before 2012 sets the limits of clipping"):
        run_study([files["own"]], path, files["codes"], first_year=2012, clip=True)


def test_a_study_of_a_partition_alone_has_no_tree(files: dict[str, Path], tmp_path: Path) -> None:
    study = run_study([files["random"]], files["returns"], files["codes"], null_draws=5, bootstrap_draws=5)
    assert study.curves == {}
    write_study(study, tmp_path / "out")
    assert not (tmp_path / "out" / "theta.png").exists()
