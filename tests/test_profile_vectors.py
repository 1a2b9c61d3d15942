"""One pass at every depth says the same as the library's pass at one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))

import profile_vectors

from companysim.encoding.encode import encode
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import load_sae
from tests.tiny import INDUSTRIES, made_models

TEXTS = [" ".join(words.split()[start:] * 3) for words in INDUSTRIES.values() for start in (0, 4)]


def test_the_pass_is_the_librarys_at_every_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_models(tmp_path, sorted({word for text in TEXTS for word in text.split()}))
    monkeypatch.setattr(profile_vectors, "SHARED", 2)
    sae = load_sae(tmp_path / "sae")

    def stream(block: int) -> ResidualStream:
        return ResidualStream(str(tmp_path / "llm"), f"layers.{block}", window=16, overlap=4, batch_tokens=70)

    deepest = stream(2)
    ids = [found for found, _ in deepest.tokenise(TEXTS)]
    rows = profile_vectors.one_pass(deepest, ids, (0, 1, 2))
    part = tmp_path / "part.safetensors"
    save_file(rows, part)
    document = rows["document"].numpy()
    np.testing.assert_array_equal(document, np.repeat(np.arange(len(TEXTS)), [len(own) for own in ids]))
    tokens = profile_vectors.tokens_of(document, rows["ids"].numpy(), len(TEXTS), (part,))
    for block in range(3):
        wanted = encode(stream(block), sae, TEXTS)
        hidden = tokens.hidden(block)
        np.testing.assert_allclose(tokens.means(hidden)[0], wanted.residual_mean, atol=0.01)  # kept in bfloat16
        np.testing.assert_array_equal(np.bincount(document[hidden.any(dim=1).numpy()]), wanted.pooled.tokens)
    wanted = encode(stream(1), sae, TEXTS)
    latents = tokens.latents(1, tmp_path / "sae", tmp_path / "latents.safetensors")
    (tmp_path / "sae").rename(tmp_path / "gone")
    again = tokens.latents(1, tmp_path / "sae", tmp_path / "latents.safetensors")
    assert (again.pooled("sum") != latents.pooled("sum")).nnz == 0
    for pool in ("sum", "mean", "max", "count", "log_length"):
        theirs, mine = wanted.pooled.matrix(pool).toarray(), latents.pooled(pool).toarray()
        assert np.abs(mine - theirs).mean() < 0.02 * theirs.mean(), pool  # a k-th latent may change
    for row, own in enumerate(ids):
        np.testing.assert_array_equal(tokens.ids[tokens.document == row], own)


def test_parts_are_joined_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_vectors, "PART", 2)
    made = []

    def run(texts: list[str], files: list[Path], dtype: str) -> None:
        for number, file in enumerate(files):
            if not file.is_file():
                own = [torch.tensor([len(text)] * 2) for text in texts[2 * number : 2 * number + 2]]
                ids = torch.cat(own)
                document = torch.repeat_interleave(torch.arange(len(own)), 2)
                save_file({"document": document, "ids": ids, "block 8": ids[:, None].bfloat16()}, file)
                made.append(number)

    monkeypatch.setattr(profile_vectors, "_run", run)
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    profile_vectors.read(texts, tmp_path / "tokens")
    (tmp_path / "tokens" / "part-001.safetensors").unlink()
    tokens = profile_vectors.read(texts, tmp_path / "tokens")
    assert made == [0, 1, 2, 1]
    np.testing.assert_array_equal(tokens.document, np.repeat(np.arange(5), 2))
    np.testing.assert_array_equal(tokens.ids, np.repeat([1, 2, 3, 4, 5], 2))
    np.testing.assert_allclose(tokens.means(tokens.hidden(8))[0].ravel(), [1, 2, 3, 4, 5])


def test_means_by_hand() -> None:
    weights = np.array([[1.0, 1, 1, 1], [2, 6, 1, 5]])
    tokens = profile_vectors.Tokens(np.array([0, 0, 1, 1]), np.arange(4), 2, (), weights)
    hidden = torch.tensor([[1.0, 0], [3, 4], [7, 1], [0, 0]]).bfloat16()  # the last is a massive activation
    expected = [[[2, 2], [7, 1]], [[2.5, 3], [7, 1]]]
    np.testing.assert_allclose(tokens.means(hidden), expected)
