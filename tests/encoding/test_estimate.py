"""The estimate against what encoding everything then takes. The clock is replaced: nothing here depends on speed."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from companysim.encoding.encode import encode
from companysim.encoding.estimate import Estimate, estimate
from companysim.encoding.filings import encode_filings
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import SAE
from companysim.encoding.store import Store
from companysim.errors import DataError
from tests.encoding.corpus import filings

module = importlib.import_module("companysim.encoding.estimate")


LEAST = module._LEAST


@pytest.fixture(autouse=True)
def _one_filing_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST", 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let each encoded character take so many seconds."""

    def of(seconds: float) -> None:
        now = [0.0]

        def timed(stream: ResidualStream, sae: SAE, texts: list[str], **options: object) -> object:
            now[0] += seconds * sum(map(len, texts))
            return encode(stream, sae, texts, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "encode", timed)
        monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    return of


def test_estimate_of_all_documents_is_exact(
    stream: ResidualStream, sae: SAE, tmp_path: Path, clock: Callable[[float], None]
) -> None:
    clock(0.01)
    table = filings(40)
    found = estimate(stream, sae, table["text"].tolist(), seconds=1e9)
    tokens = int(table["text"].str.len().sum())  # one token a byte
    assert found.filings == found.measured_filings == 40
    assert found.tokens == found.measured_tokens == tokens
    assert found.tokens_per_second == pytest.approx(100)
    assert found.hours == pytest.approx(tokens / 100 / 3600)
    store = Store.create(tmp_path / "s", {})
    encode_filings(lambda: (stream, sae), table, store)
    written = sum(path.stat().st_size for path in (tmp_path / "s").iterdir())
    assert found.gigabytes == pytest.approx(written / 1e9, rel=0.1)


def test_estimate_from_a_part_is_near_the_whole(
    stream: ResidualStream, sae: SAE, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    monkeypatch.setattr(module, "_FIRST_CHARACTERS", 1500)
    clock(0.001)
    rng = np.random.default_rng(8)
    alphabet = list("abcdefgh éü天")  # one to three tokens a character
    texts = ["x" + "".join(rng.choice(alphabet, n)) + "x" for n in rng.integers(5, 400, 60)]
    found = estimate(stream, sae, texts, seconds=0)
    assert 3 <= found.measured_filings < 15
    whole = encode(stream, sae, texts)
    assert found.tokens == pytest.approx(int(whole.pooled.tokens.sum()), rel=0.05)
    assert found.hours == pytest.approx(sum(map(len, texts)) * 0.001 / 3600, rel=0.05)
    everything = estimate(stream, sae, texts, seconds=1e9)
    assert found.gigabytes == pytest.approx(everything.gigabytes, rel=0.15)


def test_more_documents_are_measured_until_it_takes_long_enough(
    stream: ResidualStream, sae: SAE, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    monkeypatch.setattr(module, "_FIRST_CHARACTERS", 100)
    texts = ["oil and gas, " * 8] * 50
    measured = []
    for seconds in (0.0, 2.0, 7.0, 1e9):
        clock(0.01)  # a text of 104 characters takes about one second
        measured.append(estimate(stream, sae, texts, seconds=seconds).measured_filings)
    assert measured == [1, 3, 15, 50]


def test_one_odd_length_does_not_decide(
    stream: ResidualStream, sae: SAE, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    monkeypatch.setattr(module, "_LEAST", LEAST)
    monkeypatch.setattr(module, "_FIRST_CHARACTERS", 100)
    clock(10.0)
    assert estimate(stream, sae, ["oil and gas, " * 8] * 50, seconds=0).measured_filings == 15  # 0.96, 3.8, 15.4
    assert estimate(stream, sae, ["oil and gas, " * 8] * 5, seconds=0).measured_filings == 5


def test_sampled_documents_spread_over_the_lengths(
    stream: ResidualStream, sae: SAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def watched(stream: ResidualStream, sae: SAE, texts: list[str], **options: object) -> object:
        seen.append([len(text) for text in texts])
        return encode(stream, sae, texts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "encode", watched)
    monkeypatch.setattr(module, "_FIRST_CHARACTERS", 4 * 51)
    order = np.random.default_rng(9).permutation(100)
    estimate(stream, sae, ["x" * (n + 1) for n in order], seconds=0)
    assert seen == [[13, 38, 63, 88]]


def test_texts_without_tokens_take_no_time(stream: ResidualStream, sae: SAE) -> None:
    found = estimate(stream, sae, ["", " "], seconds=0)
    assert (found.tokens, found.hours, found.filings) == (0, 0.0, 2)
    assert "2 filings, about 0 tokens" in found.summary()


def test_no_text_is_refused(stream: ResidualStream, sae: SAE) -> None:
    with pytest.raises(DataError, match="no text to encode"):
        estimate(stream, sae, [])


def test_summary_names_hours_or_minutes() -> None:
    long = Estimate(27_888, 300_000_000, 10_000.4, 8.333, 12.345, 10, 100_000).summary()
    assert long.splitlines()[0] == (
        "27,888 filings, about 300,000,000 tokens: 8.3 hours on this device at 10,000 tokens/s, 12.35 GB on disk"
    )
    assert "10 filings with 100,000 tokens" in long
    assert "30.0 minutes" in Estimate(1, 1, 1.0, 0.5, 0.0, 1, 1).summary()
