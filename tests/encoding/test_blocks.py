from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from companysim.encoding.encode import Encoded, encode, encode_in_blocks
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import TopKSAE
from companysim.errors import DataError

# The name `companysim.encoding.encode` is this module; monkeypatch needs the module, not the function.
module = importlib.import_module("companysim.encoding.encode")

TEXTS = [f"company number {i} drills {'oil ' * (i % 5)}and lends {i * i}" for i in range(8)]
PRINT = "f" * 64
Load = Callable[[], tuple[ResidualStream, TopKSAE]]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 3)


@pytest.fixture
def load(stream: ResidualStream, sae: TopKSAE) -> Load:
    return lambda: (stream, sae)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of texts of every block that is really encoded."""
    seen: list[int] = []

    def counted(stream: ResidualStream, sae: TopKSAE, texts: Sequence[str]) -> Encoded:
        seen.append(len(texts))
        return encode(stream, sae, texts)

    monkeypatch.setattr(module, "encode", counted)
    return seen


def kill_at_block(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def dying(stream: ResidualStream, sae: TopKSAE, texts: Sequence[str]) -> Encoded:
        nonlocal count
        count += 1
        if count == number:
            raise KeyboardInterrupt
        return encode(stream, sae, texts)

    monkeypatch.setattr(module, "encode", dying)


def never() -> tuple[ResidualStream, TopKSAE]:
    raise AssertionError("the models were loaded although nothing is left to encode")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def raw(encoded: Encoded) -> list[bytes]:
    latents = encoded.latents
    arrays = (latents.data, latents.indices, latents.indptr, encoded.residual_mean, encoded.tokens)
    return [array.tobytes() for array in arrays]


def test_blocks_together_equal_encoding_at_once(
    load: Load, stream: ResidualStream, sae: TopKSAE, tmp_path: Path
) -> None:
    found, expected = encode_in_blocks(load, TEXTS, tmp_path, PRINT), encode(stream, sae, TEXTS)
    np.testing.assert_allclose(found.latents.toarray(), expected.latents.toarray(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.residual_mean, expected.residual_mean, rtol=1e-5, atol=1e-5)
    assert found.tokens.tolist() == expected.tokens.tolist()


def test_killed_run_resumes_to_the_same_bytes(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    expected = encode_in_blocks(load, TEXTS, tmp_path / "whole", PRINT)
    with monkeypatch.context() as patch:
        kill_at_block(2, patch)
        with pytest.raises(KeyboardInterrupt):
            encode_in_blocks(load, TEXTS, tmp_path / "killed", PRINT)
    assert len(content(tmp_path / "killed")) == 1
    resumed = encode_in_blocks(load, TEXTS, tmp_path / "killed", PRINT)
    assert raw(resumed) == raw(expected)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_finished_blocks_are_not_encoded_again(
    load: Load, calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at_block(3, patch)
        with pytest.raises(KeyboardInterrupt):
            encode_in_blocks(load, TEXTS, tmp_path, PRINT)
    encode_in_blocks(load, TEXTS, tmp_path, PRINT)
    assert calls == [2]


def test_models_are_not_loaded_when_all_blocks_are_there(load: Load, tmp_path: Path) -> None:
    expected = encode_in_blocks(load, TEXTS, tmp_path, PRINT)
    assert raw(encode_in_blocks(never, TEXTS, tmp_path, PRINT)) == raw(expected)


def test_models_are_loaded_once(load: Load, tmp_path: Path) -> None:
    loads = []
    encode_in_blocks(lambda: loads.append(1) or load(), TEXTS, tmp_path, PRINT)  # type: ignore[func-returns-value]
    assert len(loads) == 1


def test_blocks_of_another_fingerprint_are_removed(load: Load, calls: list[int], tmp_path: Path) -> None:
    encode_in_blocks(load, TEXTS, tmp_path, "a" * 64)
    (tmp_path / "notes.txt").write_text("not a block")
    calls.clear()
    encode_in_blocks(load, TEXTS[:7], tmp_path, PRINT)
    assert calls == [3, 3, 1]
    blocks = {f"block-{'f' * 16}-{start:06d}.safetensors" for start in (0, 3, 6)}
    assert set(content(tmp_path)) == blocks | {"notes.txt"}


@pytest.mark.parametrize("kept", [0, 5, -10])
def test_truncated_block_is_encoded_again(load: Load, calls: list[int], tmp_path: Path, kept: int) -> None:
    expected = encode_in_blocks(load, TEXTS, tmp_path, PRINT)
    before = content(tmp_path)
    second = sorted(tmp_path.iterdir())[1]
    second.write_bytes(second.read_bytes()[:kept])
    calls.clear()
    assert raw(encode_in_blocks(load, TEXTS, tmp_path, PRINT)) == raw(expected)
    assert calls == [3]
    assert content(tmp_path) == before


def test_progress_counts_documents(load: Load, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    encode_in_blocks(load, TEXTS, tmp_path, PRINT, lambda done, total: seen.append((done, total)))
    assert seen == [(3, 8), (6, 8), (8, 8)]


def test_empty_text_is_numbered_over_all_blocks_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="text 8 of 8 is empty"):
        encode_in_blocks(never, [*TEXTS[:7], " "], tmp_path, PRINT)
    assert not content(tmp_path)


def test_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text to encode"):
        encode_in_blocks(never, [], tmp_path, PRINT)
