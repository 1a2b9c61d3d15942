"""One YAML file <-> one RunConfig; whatever is wrong with the file becomes one sentence that names it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from companysim.config import BacktestConfig, EncoderConfig, RunConfig, UniverseConfig, load_config
from companysim.errors import ConfigError

SECTIONS = ("universe", "encoder", "similarity", "clustering", "benchmark", "backtest")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def refusal(file: Path, content: str | bytes) -> str:
    """The message of the ConfigError that loading `content` must raise: one printable line that names the file."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value).isprintable()
    assert str(file) in str(caught.value)
    return str(caught.value)


# What loads


def test_sample_is_all_defaults() -> None:
    assert load_config() == load_config("sample") == RunConfig()


def test_keys_that_are_not_given_keep_their_defaults(file: Path) -> None:
    file.write_text("name: mine\nbacktest: {half_spread_bp: 7}\n")
    found = load_config(file)
    assert found.name == "mine"
    assert found.backtest == BacktestConfig(half_spread_bp=7.0)
    assert found.model_copy(update={"name": "sample", "backtest": BacktestConfig()}) == RunConfig()


@pytest.mark.parametrize("section", SECTIONS)
def test_an_empty_section_is_its_defaults(file: Path, section: str) -> None:
    file.write_text(f"{section}: {{}}\n")
    assert load_config(file) == RunConfig()


def test_dates_may_be_quoted_or_not(file: Path) -> None:
    file.write_text("universe: {as_of: 2011-06-30}\nbacktest: {formation_end: '2012-01-31'}\n")
    found = load_config(file)
    assert found.universe.as_of == date(2011, 6, 30)
    assert found.backtest.formation_end == date(2012, 1, 31)


def test_the_defaults_survive_yaml(file: Path) -> None:
    file.write_text(RunConfig().to_yaml())
    assert load_config(file) == RunConfig()


def test_yaml_shows_every_key_so_that_a_run_directory_documents_itself() -> None:
    shown = yaml.safe_load(RunConfig().to_yaml())
    assert set(shown) == set(RunConfig.model_fields)
    for section in SECTIONS:
        assert set(shown[section]) == set(type(getattr(RunConfig(), section)).model_fields)


@settings(max_examples=30, deadline=None)
@given(
    name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True),
    seed=st.integers(0, 2**40),
    share=st.floats(0, 1, exclude_min=True),
    stop=st.floats(min_value=3, allow_infinity=True, allow_nan=False),
    leave=st.floats(max_value=1.9, allow_nan=False),
    days=st.lists(st.dates(date(1950, 1, 1), date(2150, 1, 1)), min_size=3, max_size=3, unique=True).map(sorted),
    path=st.text(st.characters(codec="utf-8", exclude_characters="/."), min_size=1, max_size=8).map(
        lambda text: f"/tables/{text}"
    ),
)
def test_any_configuration_survives_yaml(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    seed: int,
    share: float,
    stop: float,
    leave: float,
    days: list[date],
    path: str,
) -> None:
    config = RunConfig.model_validate(
        {
            "name": name,
            "seed": seed,
            "universe": {"as_of": days[0], "filings": path},
            "clustering": {"share_of_pairs": share},
            "benchmark": {"first_year": days[0].year + 1, "last_year": days[0].year + 1},
            "backtest": {
                "formation_start": days[0],
                "formation_end": days[1],
                "trading_end": days[2],
                "stop": stop,
                "exit": leave,
            },
        }
    )
    file = tmp_path_factory.mktemp("config") / "run.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(file) == config


def test_a_configuration_cannot_be_changed_under_a_run() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().universe.as_of = date(2020, 1, 1)


# Paths


@pytest.mark.parametrize("written", ["tables/f.csv", "./f.parquet", "../f.csv"])
def test_table_paths_are_relative_to_the_file_whether_they_exist_or_not(file: Path, written: str) -> None:
    file.write_text(f"universe: {{filings: {written}, companies: {written}, prices: {written}}}")
    found = load_config(file).universe
    for path in (found.filings, found.companies, found.prices):
        assert Path(path) == file.parent / written


def test_a_table_of_the_working_directory_is_never_taken_by_accident(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "f.csv").touch()
    monkeypatch.chdir(elsewhere)
    file.write_text("universe: {filings: f.csv}")
    assert load_config(file).universe.filings == str(file.parent / "f.csv")


def test_paths_hold_from_any_working_directory(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("universe: {prices: p.csv}\nencoder: {sae: my-sae}")
    monkeypatch.chdir(tmp_path)
    found = load_config(file.name)
    assert found.universe.prices == str(tmp_path / "p.csv")
    assert found.encoder.sae == str(tmp_path / "my-sae")


def test_a_saved_configuration_means_the_same_from_its_run_directory(file: Path, tmp_path: Path) -> None:
    file.write_text("universe: {prices: p.csv}\nencoder: {sae: my-sae}")
    chosen = load_config(file)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text(chosen.to_yaml())
    assert load_config(tmp_path / "out" / "config.yaml") == chosen


def test_hub_ids_stay_as_they_are_unless_such_a_folder_exists(file: Path) -> None:
    file.write_text("encoder: {model: org/model, sae: org/sae/layers.30}")
    assert load_config(file).encoder.sae == "org/sae/layers.30"
    assert load_config(file).encoder.model == "org/model"
    (file.parent / "org" / "sae" / "layers.30").mkdir(parents=True)
    assert load_config(file).encoder.sae == str(file.parent / "org/sae/layers.30")


def test_absolute_paths_and_sample_stay_as_they_are(file: Path) -> None:
    (file.parent / "sample").mkdir()
    file.write_text("universe: {prices: /data/p.parquet, filings: sample}\nencoder: {sae: sample}")
    found = load_config(file)
    assert found.universe == UniverseConfig(prices="/data/p.parquet")
    assert found.encoder == EncoderConfig()


def test_a_model_is_a_folder_beside_the_file_if_there_is_one_and_else_a_name(file: Path) -> None:
    (file.parent / "local").mkdir()
    file.write_text("encoder: {model: local, embedding: org/embedder}")
    found = load_config(file).encoder
    assert found.model == str(file.parent / "local")
    assert found.embedding == "org/embedder"


# What does not load


def test_an_unknown_key_lists_the_known_ones(file: Path) -> None:
    message = refusal(file, "sead: 1")
    assert "unknown key 'sead': known here are name, seed, universe, encoder, similarity" in message
    assert "half_spread_bp" not in message


@pytest.mark.parametrize(
    ("content", "key", "known"),
    [
        ("universe: {prizes: x}", "universe.prizes", "filings, companies, prices, as_of"),
        ("clustering: {theta: 1}", "clustering.theta", "share_of_pairs"),
        ("similarity: {pca: 1}", "similarity.pca", "pool, sae, pca_variance"),
    ],
)
def test_an_unknown_nested_key_lists_the_known_ones_of_its_section(
    file: Path, content: str, key: str, known: str
) -> None:
    message = refusal(file, content)
    assert message.endswith(f"unknown key {key!r}: known here are {known}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("seed: soon", "seed is 'soon'"),
        ("seed: 1.5", "seed is 1.5"),
        ("seed: -1", "seed is -1: input should be greater than or equal to 0"),
        ("seed: yes", "seed is True: no setting is yes or no"),
        ("name: 5", "name is 5"),
        ("name: a/b", "name is 'a/b'"),
        ("name: ..", "name is '..'"),
        ("name: ''", "name is ''"),
        ('name: "a\\nb"', "name is 'a\\nb'"),
        ("universe: nowhere", "universe is 'nowhere'"),
        ("universe:", "universe is None"),
        ("universe: [a, b]", "universe is ['a', 'b']"),
        ("universe: {filings: [a, b]}", "universe.filings is ['a', 'b']"),
        ("universe: {as_of: soon}", "universe.as_of is 'soon'"),
        ("universe: {as_of: 2012}", "universe.as_of is 2012"),
        ("encoder: {window: 7}", "encoder.window is 7"),
        ("encoder: {overlap: -1}", "encoder.overlap is -1"),
        ("encoder: {window: 64, overlap: 63}", "overlap must be below window - 1"),
        ("encoder: {batch_tokens: 0}", "encoder.batch_tokens is 0"),
        ("encoder: {device: tpu}", "encoder.device is 'tpu': input should be 'cpu', 'cuda' or 'mps'"),
        ("encoder: {dtype: int8}", "encoder.dtype is 'int8'"),
        ("similarity: {sae: euclid}", "similarity.sae is 'euclid': input should be 'pca_cosine', 'log_idf_cosine'"),
        ("similarity: {pca_variance: 0}", "similarity.pca_variance is 0"),
        ("clustering: {share_of_pairs: 1.01}", "clustering.share_of_pairs is 1.01"),
        ("clustering: {share_of_pairs: .nan}", "clustering.share_of_pairs is nan"),
        ("benchmark: {null_draws: 0}", "benchmark.null_draws is 0"),
        ("benchmark: {bootstrap_draws: 0}", "benchmark.bootstrap_draws is 0"),
        ("benchmark: {first_year: 2012}", "benchmark.first_year must lie after universe.as_of"),
        ("benchmark: {first_year: 2017}", "benchmark.first_year lies after benchmark.last_year"),
        ("backtest: {p_value: 0}", "backtest.p_value is 0"),
        ("backtest: {max_pairs: 0}", "backtest.max_pairs is 0"),
        ("backtest: {max_pairs: true}", "backtest.max_pairs is True"),
        ("backtest: {half_spread_bp: -1}", "backtest.half_spread_bp is -1"),
        ("backtest: {half_spread_bp: .inf}", "backtest.half_spread_bp is inf"),
        ("backtest: {borrow_percent: .inf}", "backtest.borrow_percent is inf"),
        ("backtest: {exit: 2}", "exit, entry and stop must be in this order"),
        ("backtest: {exit: .nan}", "exit, entry and stop must be in this order"),
        ("backtest: {stop: 1.5}", "exit, entry and stop must be in this order"),
        ("backtest: {placebo_books: 0}", "backtest.placebo_books is 0"),
    ],
)
def test_an_impossible_value_is_named_with_its_key(file: Path, content: str, words: str) -> None:
    assert words in refusal(file, content)


@pytest.mark.parametrize(
    "backtest",
    [
        "{formation_end: 2006-01-01}",
        "{formation_start: 2012-12-31}",
        "{trading_end: 2012-12-31}",
        "{formation_end: 2017-01-01}",
    ],
)
def test_dates_out_of_order_are_refused(file: Path, backtest: str) -> None:
    message = refusal(file, f"backtest: {backtest}")
    assert "formation_start, formation_end and trading_end must be in this order" in message


def test_text_of_the_trading_period_is_refused_as_hindsight(file: Path) -> None:
    message = refusal(file, "universe: {as_of: 2013-01-01}")
    assert "universe.as_of lies after backtest.formation_end" in message
    assert "the backtest would trade on later text" in message


def test_hindsight_is_refused_when_the_formation_ends_earlier(file: Path) -> None:
    assert "universe.as_of lies after" in refusal(file, "backtest: {formation_end: 2012-12-30}")


def test_text_of_the_last_day_of_the_formation_is_no_hindsight(file: Path) -> None:
    file.write_text("universe: {as_of: 2012-06-30}\nbacktest: {formation_end: 2012-06-30}")
    assert load_config(file).universe.as_of == load_config(file).backtest.formation_end


@pytest.mark.parametrize(
    "content",
    [
        "a: b: c",
        "{",
        "name: 'x",
        "\t- x: [",
        "? [a]\n: b",
        "!!python/object/apply:os.getcwd []",
        b"name: \xff\xfe",
        b"\x00\x01\x02",
        "universe: {as_of: 2012-02-30}",
        "seed: !!int soon",
    ],
)
def test_what_is_no_yaml_is_refused(file: Path, content: str | bytes) -> None:
    assert "is not valid YAML" in refusal(file, content)


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n", "- a\n- b\n", "sample", "5"])
def test_a_file_without_settings_is_refused(file: Path, content: str) -> None:
    assert "holds no settings: write keys such as 'name: my-run', or use 'sample'" in refusal(file, content)


@pytest.mark.parametrize("key", ["1", "true", "null", '"a\\nb"'])
def test_a_key_that_is_no_name_is_refused_in_one_line(file: Path, key: str) -> None:
    refusal(file, f"{key}: 2")


def test_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml \(No such file or directory\): give a YAML file, or 'sample'$"):
        load_config(tmp_path / "no.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\(Is a directory\): give a YAML file, or 'sample'$"):
        load_config(tmp_path)
