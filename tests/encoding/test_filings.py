"""Many filings: what is killed resumes to the same bytes, and what cannot be encoded is named."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import companysim.encoding.store as store_module
from companysim.config import EncoderConfig
from companysim.encoding.encode import Encoded, clean, encode
from companysim.encoding.filings import encode_filings
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import SAE
from companysim.encoding.snippets import top_snippets
from companysim.encoding.store import Store
from companysim.errors import DataError
from tests.encoding.corpus import content, encoder_config, filings

# The name `companysim.encoding.filings` is a module whose `encode` is replaced below.
module = importlib.import_module("companysim.encoding.filings")

# Encodes the filings of a parquet file and says how many are done, in a process of its own.
WORKER = """
import sys
from functools import partial
import pandas as pd
from companysim.config import EncoderConfig
from companysim.encoding.filings import encode_filings
from companysim.encoding.models import encoder_settings, load_models
from companysim.encoding.store import Store
config = EncoderConfig.model_validate_json(sys.argv[1])
store = Store.create(sys.argv[3], encoder_settings(config))
say = lambda done, total: print(done, flush=True)
encode_filings(partial(load_models, config), pd.read_parquet(sys.argv[2]), store, report=say)
"""


def worker(config: EncoderConfig, table: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, config.model_dump_json(), str(table), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def run_until(process: subprocess.Popen[str], done: float, wait: float) -> list[float]:
    """Read progress until `done` filings are done, then kill after `wait` more seconds; return what was said."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(float(line))
        if said[-1] >= done:
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    return said


@pytest.fixture(scope="module")
def config(llm_path: Path, sae: SAE, tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    return encoder_config(llm_path, sae, tmp_path_factory.mktemp("models"))


@pytest.mark.slow
def test_a_thousand_filings_killed_five_times_end_with_the_same_bytes(config: EncoderConfig, tmp_path: Path) -> None:
    table = filings(1000)
    table.to_parquet(tmp_path / "filings.parquet")
    # The resumed runs also read their rows in another order each time.
    process = worker(config, tmp_path / "filings.parquet", tmp_path / "whole")
    whole = run_until(process, np.inf, 0)
    assert process.returncode == 0
    assert whole[-1] == 1000
    rng = np.random.default_rng(7)
    shards: list[int] = []
    for seed, moment in enumerate(sorted(rng.uniform(0, 960, 5))):
        shuffled = tmp_path / f"{seed}.parquet"
        table.sample(frac=1, random_state=seed).to_parquet(shuffled)
        process = worker(config, shuffled, tmp_path / "killed")
        said = run_until(process, moment, rng.uniform(0, 0.02))
        assert process.returncode == -signal.SIGKILL
        assert said[0] == sum(count for count in shards)  # it went on after the last whole shard
        index = Store(tmp_path / "killed").index()
        shards = index.groupby("shard").size().tolist()
        assert moment - 64 < len(index) < 1000
    process = worker(config, tmp_path / "filings.parquet", tmp_path / "killed")
    run_until(process, np.inf, 0)
    assert process.returncode == 0
    killed = content(tmp_path / "killed")
    assert len(killed) == 1 + 2 * 16
    assert killed == content(tmp_path / "whole")
    index, encoded = Store(tmp_path / "killed").read(table)
    assert index["tokens"].tolist() == [len(text) for text in table["text"]]
    assert not encoded.failures


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SHARD_FILINGS", 4)


def dies_after(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop as control-C does, when so many shards are encoded."""
    calls: list[int] = []

    def dying(*arguments: object, **options: object) -> Encoded:
        if len(calls) == shards:
            raise KeyboardInterrupt
        calls.append(1)
        return encode(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "encode", dying)


@pytest.mark.usefixtures("small")
def test_a_stopped_run_keeps_its_shards_and_ends_with_the_same_bytes(
    stream: ResidualStream, sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = filings(10)
    expected = Store.create(tmp_path / "whole", {})
    encode_filings(lambda: (stream, sae), table, expected)
    for seed, shards in enumerate((1, 0, 1)):
        store = Store.create(tmp_path / "stopped", {})
        with monkeypatch.context() as patch:
            dies_after(shards, patch)
            with pytest.raises(KeyboardInterrupt):
                encode_filings(lambda: (stream, sae), table.sample(frac=1, random_state=seed), store)
    assert len(store.index()) == 8
    loads: list[int] = []
    encode_filings(lambda: loads.append(1) or (stream, sae), table, store)  # type: ignore[func-returns-value]
    assert loads == [1]
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


@pytest.mark.usefixtures("small")
def test_filings_together_equal_encoding_at_once(stream: ResidualStream, sae: SAE, tmp_path: Path) -> None:
    table = filings(10)
    store = Store.create(tmp_path / "s", {})
    encode_filings(lambda: (stream, sae), table, store)
    _, found = store.read(table)
    expected = encode(stream, sae, table["text"].tolist())
    for name in ("indptr", "latent", "count", "token", "tokens"):
        np.testing.assert_array_equal(getattr(found.pooled, name), getattr(expected.pooled, name))
    np.testing.assert_allclose(found.pooled.total, expected.pooled.total, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.residual_mean, expected.residual_mean, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small")
def test_progress_rises_from_what_is_done_to_the_end(stream: ResidualStream, sae: SAE, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", {})
    encode_filings(lambda: (stream, sae), filings(4), store)
    seen: list[tuple[float, int]] = []
    encode_filings(lambda: (stream, sae), filings(10), store, report=lambda done, total: seen.append((done, total)))
    done = [at for at, _ in seen]
    assert {total for _, total in seen} == {10}
    assert done[0] == 4
    assert done == sorted(done)
    assert {8, 10} <= set(done)
    assert any(not at.is_integer() for at in map(float, done))  # within a shard too


def test_no_filing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no filing to encode"):
        encode_filings(lambda: pytest.fail("loaded"), filings(1).head(0), Store.create(tmp_path / "s", {}))


@pytest.mark.usefixtures("small")
def test_failures_are_kept_and_tried_again_only_when_asked(stream: ResidualStream, sae: SAE, tmp_path: Path) -> None:
    class Small(SAE):
        """Out of memory whenever a document of the name is near."""

        def encode(self, x: object, budget: int = 0) -> object:
            raise RuntimeError("CUDA out of memory.")

    table = filings(6)
    table.loc[1, "text"] = "\x00 \u200b"
    broken = Small(**{name: getattr(sae, name) for name in SAE.__dataclass_fields__})
    store = Store.create(tmp_path / "s", {})
    failed = encode_filings(lambda: (stream, broken), table, store)
    assert failed["filing_id"].tolist() == table["filing_id"].tolist()
    assert failed["reason"][1] == "the text is empty after cleaning"
    assert "device's memory: lower encoder.window" in failed["reason"][0]
    before = content(tmp_path / "s")

    def never() -> tuple[ResidualStream, SAE]:
        raise AssertionError("loaded")

    pd.testing.assert_frame_equal(encode_filings(never, table, store), failed)
    assert content(tmp_path / "s") == before
    again = encode_filings(lambda: (stream, sae), table, store, retry=True)
    assert again["filing_id"].tolist() == ["f00001"]
    assert {name: content(tmp_path / "s")[name] for name in before} == before  # append-only
    index, found = store.read(table)
    assert index["filing_id"].tolist() == table["filing_id"].tolist()  # each once
    assert found.pooled.tokens.tolist() == [0 if i == 1 else len(text) for i, text in enumerate(table["text"])]
    assert list(found.failures) == [1]


# Unusual filings

LONG = "Oil, gas and 天然ガス. " * 15_800
UNUSUAL = {
    "control": "\x00\x01\x1b[31mdrills\x9f\ufeff wells\u202e",
    "emoji": "🛢️🏦 👩‍👩‍👧‍👦 🇯🇵 \u0001\u0002 💊",
    "empty": "",
    "japanese": "当社は原油と天然ガスの探鉱、開発および生産を行っています。",
    "long": LONG[:300_000],
    "plain": "drills wells",
    "spaces": " \n\t \u200b",
}


def test_unusual_filings_are_encoded_or_named(llm_path: Path, sae: SAE, tmp_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.0", window=128, overlap=8, batch_tokens=8192)
    table = pd.DataFrame({"filing_id": list(UNUSUAL), "text": list(UNUSUAL.values())})
    assert table["text"].str.len().max() == 300_000
    store = Store.create(tmp_path / "s", {})
    failed = encode_filings(lambda: (stream, sae), table, store)
    assert failed.to_dict("list") == {
        "filing_id": ["empty", "spaces"],
        "reason": ["the text is empty after cleaning"] * 2,
    }
    index, encoded = store.read(table)
    for row, (name, text) in enumerate(UNUSUAL.items()):
        assert encoded.pooled.tokens[row] == len(clean(text).encode())  # one token a byte
        assert np.diff(encoded.pooled.indptr)[row] > 0 or name in ("empty", "spaces")
    assert np.isfinite(encoded.pooled.total).all()
    assert np.isfinite(encoded.residual_mean).all()
    for row in top_snippets(store, index).itertuples():
        text = clean(UNUSUAL[row.filing_id])
        assert 0 <= row.start <= row.peak_start < row.peak_end <= row.end <= len(text)
    assert json.loads((tmp_path / "s" / "store.json").read_text())
