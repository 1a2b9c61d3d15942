"""`companysim encode` as a user meets it: exit codes, files, resuming, and what it says of filings that failed."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from companysim.encoding.encode import clean
from companysim.encoding.store import Store
from tests import tiny
from tests.encoding.corpus import content
from tests.test_cli import assert_refused, companysim

LONG = "deposits loans wells oil " * 12_000
UNUSUAL = {
    "control": "\x07wells\x1b[31m \x9f\u200boil loans",
    "emoji": "🛢️ 🏦 👩‍👩‍👧 oil \x01\x02",
    "empty": "",
    "japanese": "当社は原油と天然ガスの探鉱、開発および生産を行っています。",
    "long": LONG[:300_000],
    "plain": "drills wells oil gas rigs",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def unusual(world: Path) -> Path:
    table = pd.DataFrame({"filing_id": list(UNUSUAL), "text": list(UNUSUAL.values())})
    table.to_parquet(world.parent / "unusual.parquet")
    return world.parent / "unusual.parquet"


@pytest.fixture(scope="module")
def encoded(world: Path, unusual: Path) -> Path:
    out = world.parent / "encoded"
    done = companysim("encode", unusual, "--config", world, "--out", out)
    assert done.returncode == 0, done.stderr
    tokens = Store(out).index()["tokens"].sum()
    assert f"5 of 6 filings encoded in {out}, {tokens:,} tokens" in done.stdout.replace("\n", " ")
    assert "1 failed, see" in done.stderr
    assert "the first is empty: the text is empty after cleaning" in done.stderr.replace("\n", " ")
    return out


def test_failures_are_listed_and_the_rest_is_encoded(encoded: Path) -> None:
    assert pd.read_csv(encoded / "failures.csv").to_dict("records") == [
        {"filing_id": "empty", "reason": "the text is empty after cleaning"}
    ]
    index = Store(encoded).index().set_index("filing_id")
    assert sorted(index.index) == sorted(UNUSUAL)
    assert index.loc["long", "tokens"] == len(LONG[:300_000].split())
    assert index.loc["empty", "tokens"] == 0
    assert (index.drop("empty")["tokens"] > 0).all()


def test_snippets_point_into_the_texts(encoded: Path) -> None:
    snippets = pd.read_parquet(encoded / "snippets.parquet")
    assert len(snippets) > 24
    assert (snippets["value"] > 0).all()
    for row in snippets.itertuples():
        text = clean(UNUSUAL[row.filing_id])
        word = text[row.peak_start : row.peak_end].strip()
        assert word
        assert word in text[row.start : row.end]
        assert " " not in word  # one token a word


def test_strict_fails_but_everything_is_written(world: Path, unusual: Path, encoded: Path, tmp_path: Path) -> None:
    done = companysim("encode", unusual, "--config", world, "--out", tmp_path / "strict", "--strict")
    assert done.returncode == 1
    assert "1 failed" in done.stderr
    assert content(tmp_path / "strict") == content(encoded)


def test_a_second_call_and_another_order_of_rows_change_nothing(
    world: Path, unusual: Path, encoded: Path, tmp_path: Path
) -> None:
    before = content(encoded)
    again = companysim("encode", unusual, "--config", world, "--out", encoded)
    assert again.returncode == 0
    assert content(encoded) == before
    table = pd.read_parquet(unusual).sample(frac=1, random_state=1)
    table.to_parquet(tmp_path / "shuffled.parquet")
    companysim("encode", tmp_path / "shuffled.parquet", "--config", world, "--out", tmp_path / "fresh")
    assert content(tmp_path / "fresh") == before


def test_equal_texts_tie_the_same_way_in_any_order_of_rows(world: Path, tmp_path: Path) -> None:
    table = pd.DataFrame({"filing_id": ["a", "b"], "text": ["wells oil gas"] * 2})
    for name, rows in (("one", table), ("other", table[::-1])):
        rows.to_parquet(tmp_path / f"{name}.parquet")
        companysim("encode", tmp_path / f"{name}.parquet", "--config", world, "--out", tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "other")
    assert pd.read_parquet(tmp_path / "one" / "snippets.parquet")["filing_id"].tolist()[:2] == ["a", "b"]


def test_retry_tries_what_failed_again_alone(
    world: Path, unusual: Path, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(encoded, out)
    sizes: list[int] = []
    module = importlib.import_module("companysim.encoding.filings")
    real = module.encode

    def watched(stream: object, sae: object, texts: list[str], **options: object) -> object:
        sizes.append(len(texts))
        return real(stream, sae, texts, **options)

    monkeypatch.setattr(module, "encode", watched)
    assert companysim("encode", unusual, "--config", world, "--out", out).returncode == 0
    assert sizes == []
    assert companysim("encode", unusual, "--config", world, "--out", out, "--retry").returncode == 0
    assert sizes == [1]
    assert pd.read_csv(out / "failures.csv")["filing_id"].tolist() == ["empty"]


def test_a_mended_filing_is_no_failure_any_more(world: Path, unusual: Path, encoded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(encoded, out)
    table = pd.read_parquet(unusual)
    table.loc[table["filing_id"] == "empty", "text"] = "loans deposits credit"
    table.to_parquet(tmp_path / "mended.parquet")
    done = companysim("encode", tmp_path / "mended.parquet", "--config", world, "--out", out, "--strict")
    assert done.returncode == 0, done.stderr
    assert "6 of 6 filings encoded" in done.stdout.replace("\n", " ")
    assert pd.read_csv(out / "failures.csv").empty


def test_the_tokens_and_snippets_of_a_changed_text_are_those_of_the_new_one(world: Path, tmp_path: Path) -> None:
    for text in ("wells oil gas " * 40, "loans deposits"):
        pd.DataFrame({"filing_id": ["a"], "text": [text]}).to_parquet(tmp_path / "f.parquet")
        done = companysim("encode", tmp_path / "f.parquet", "--config", world, "--out", tmp_path / "out")
    assert ", 2 tokens" in done.stdout
    assert pd.read_parquet(tmp_path / "out" / "snippets.parquet")["end"].max() <= len("loans deposits")


def test_a_damaged_shard_is_named_and_made_again(world: Path, unusual: Path, encoded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(encoded, out)
    [shard] = out.glob("shard-*.safetensors")
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    done = companysim("encode", unusual, "--config", world, "--out", out)
    assert done.returncode == 0
    assert "is damaged and was removed: its 6 filings are encoded again" in " ".join(done.stderr.split())
    assert content(out) == content(encoded)


def test_estimate_prints_and_writes_nothing(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = companysim("encode", world.parent / "filings.csv", "--config", world, "--out", out, "--estimate")
    assert done.returncode == 0, done.stderr
    texts = pd.read_csv(world.parent / "filings.csv")["text"]
    tokens = sum(len(text.split()) for text in texts)  # all 18 are measured
    assert f"18 filings, about {tokens:,} tokens" in done.stdout
    assert "GB on disk" in done.stdout
    assert not out.exists()


def test_mistakes_are_one_sentence(world: Path, unusual: Path, encoded: Path, tmp_path: Path) -> None:
    assert_refused(companysim("encode", tmp_path / "none.csv", "--config", world), "DataError", "none.csv")
    (tmp_path / "bad.csv").write_text("id,text\n1,oil\n")
    assert_refused(companysim("encode", tmp_path / "bad.csv", "--config", world), "DataError", "'filing_id' is missing")
    twice = pd.DataFrame({"filing_id": ["a", "a"], "text": ["oil", "gas"]})
    twice.to_csv(tmp_path / "twice.csv", index=False)
    assert_refused(companysim("encode", tmp_path / "twice.csv", "--config", world), "DataError", "filing_id")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused = companysim("encode", unusual, "--config", world, "--out", tmp_path / "mine")
    assert_refused(refused, "RunError", "choose another --out")
    assert content(tmp_path / "mine") == {"thesis.txt": b"years of work"}

    settings = yaml.safe_load(world.read_text())
    for key in ("model", "sae", "embedding"):
        settings["encoder"][key] = str(world.parent / settings["encoder"][key])
    before = content(encoded)
    settings["encoder"]["window"] = 32
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(settings))
    refused = companysim("encode", unusual, "--config", tmp_path / "other.yaml", "--out", encoded)
    assert_refused(refused, "RunError", "other models or settings", "--out")
    assert content(encoded) == before
    settings["encoder"]["window"] = 4096
    (tmp_path / "wide.yaml").write_text(yaml.safe_dump(settings))
    refused = companysim("encode", unusual, "--config", tmp_path / "wide.yaml", "--out", tmp_path / "wide")
    assert_refused(refused, "ConfigError", "exceeds the 512 positions")
