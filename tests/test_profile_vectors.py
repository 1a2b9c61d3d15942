"""One pass at every depth says the same as the library's pass at one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))

import profile_vectors

from companysim.encoding.encode import encode
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import load_sae
from tests.tiny import INDUSTRIES, made_models

TEXTS = [" ".join(words.split()[start:] * 3) for words in INDUSTRIES.values() for start in (0, 4)]


def test_the_pass_is_the_librarys_at_every_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_models(tmp_path, sorted({word for text in TEXTS for word in text.split()}))
    monkeypatch.setattr(profile_vectors, "SAE_BLOCK", 1)
    monkeypatch.setattr(profile_vectors, "SHARED", 2)
    sae = load_sae(tmp_path / "sae")

    def stream(block: int) -> ResidualStream:
        return ResidualStream(str(tmp_path / "llm"), f"layers.{block}", window=16, overlap=4, batch_tokens=70)

    deepest = stream(2)
    ids = [found for found, _ in deepest.tokenise(TEXTS)]
    weight = profile_vectors.token_weights(ids, len(deepest.tokenizer))
    part = profile_vectors.encode_part(deepest, sae, ids, weight)
    tokens = profile_vectors.Tokens(
        **{name: value for name, value in part.items() if name != "n_latents"}, n_latents=int(part["n_latents"][0])
    )
    for block in range(3):
        wanted = encode(stream(block), sae, TEXTS)
        np.testing.assert_allclose(tokens.means[0, block], wanted.residual_mean, atol=1e-5)
        if block == 1:
            np.testing.assert_array_equal(np.bincount(tokens.document), wanted.pooled.tokens)
            for pool in ("sum", "mean", "max", "count", "log_length"):
                theirs = wanted.pooled.matrix(pool).toarray()
                np.testing.assert_allclose(tokens.pooled(pool).toarray(), theirs, rtol=1e-5, atol=1e-5, err_msg=pool)
    for row, document in enumerate(ids):
        np.testing.assert_array_equal(tokens.ids[tokens.document == row], document)
    # A weighted sum is the sum over the texts with each token as often as its weight says: here by hand for one latent.
    own = weight[2, tokens.ids][tokens.token]
    latent = int(tokens.latent[0])
    by_hand = [
        sum(own[at] * tokens.value[at] for at in range(len(own))
            if tokens.latent[at] == latent and tokens.document[tokens.token[at]] == row)
        for row in range(len(TEXTS))
    ]  # fmt: skip
    np.testing.assert_allclose(tokens.pooled("sum", "shared idf").toarray()[:, latent], by_hand, rtol=1e-5)
