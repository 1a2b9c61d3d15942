from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaModel

from companysim.encoding.encode import clean, encode
from companysim.encoding.llm import ResidualStream, split
from companysim.encoding.sae import TopKSAE
from companysim.errors import DataError, WeightsError

TEXTS = ["crude oil and natural gas", "a" * 5 + "bank deposits and loans to retail customers" * 3, "x"]


def naive(whole: LlamaModel, stream: ResidualStream, sae: TopKSAE, text: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Pool one document token by token in float64, from transformers' whole model."""
    encoder, bias, b_dec = (t.double().numpy() for t in (sae.encoder, sae.bias, sae.b_dec))
    ids = stream.tokenizer(text, add_special_tokens=False)["input_ids"]
    latents, total, count = np.zeros(sae.n_latents), np.zeros(sae.width), 0
    for start, stop, skip in split(len(ids), stream.window - 1, stream.overlap):
        with torch.no_grad():
            states = whole(input_ids=torch.tensor([[0, *ids[start:stop]]]), output_hidden_states=True).hidden_states
        for x in states[2][0, 1 + skip :].double().numpy():
            pre = encoder @ (x - b_dec) + bias
            for latent in np.argsort(-pre)[: sae.k]:
                latents[latent] += max(pre[latent], 0)
            total += x
            count += 1
    return latents, total / count, count


def test_pooling_equals_a_loop_over_tokens(whole: LlamaModel, stream: ResidualStream, sae: TopKSAE) -> None:
    found = encode(stream, sae, TEXTS)
    for row, text in enumerate(TEXTS):
        latents, mean, count = naive(whole, stream, sae, text)
        np.testing.assert_allclose(found.latents[[row]].toarray()[0], latents, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.residual_mean[row], mean, rtol=1e-5, atol=1e-5)
        assert found.tokens[row] == count == len(text)


def test_types_and_shapes(stream: ResidualStream, sae: TopKSAE) -> None:
    found = encode(stream, sae, TEXTS)
    assert found.latents.shape == (3, 48)
    assert found.latents.format == "csr"
    assert found.latents.dtype == found.residual_mean.dtype == np.float32
    assert found.residual_mean.shape == (3, 32)
    assert found.tokens.dtype == np.int64
    assert (found.latents.data > 0).all()


def test_order_of_the_texts_does_not_matter(stream: ResidualStream, sae: TopKSAE) -> None:
    forward, backward = encode(stream, sae, TEXTS), encode(stream, sae, TEXTS[::-1])
    np.testing.assert_allclose(forward.latents.toarray(), backward.latents.toarray()[::-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(forward.residual_mean, backward.residual_mean[::-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("messy", "tidy"),
    [
        ("oil\x00and\x07\x1bgas\x9f", "oil and gas"),
        ("  oil \n\n \t and\u00a0\u2003gas\r\n", "oil and gas"),
        ("\ufeffoil\u200b and\u200b \u2028gas\u202e", "oil and gas"),
        ("oil\ud800\udfffgas", "oil gas"),
        ("石油 と 天然ガス", "石油 と 天然ガス"),
        ("🛢️ and 🏦", "🛢️ and 🏦"),
        (" \x00\u200b\n", ""),
    ],
)
def test_clean(messy: str, tidy: str) -> None:
    assert clean(messy) == tidy


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab \n\t\x00\x1f\u00a0\u200b\u2028\ufeff\ud800é🏦"), max_size=30))
def test_clean_leaves_single_spaces_only_and_keeps_the_rest(text: str) -> None:
    cleaned = clean(text)
    assert cleaned == " ".join(cleaned.split())
    assert [c for c in cleaned if c != " "] == [c for c in text if c in "abé🏦"]


@pytest.mark.parametrize("text", ["天然ガスと銀行", "🛢️🏦💊", "oil\x00\x1f\ud800 gas", "<p>&amp;</p>"])
def test_unusual_text_counts_its_bytes(stream: ResidualStream, sae: TopKSAE, text: str) -> None:
    found = encode(stream, sae, [text])
    assert found.tokens.tolist() == [len(clean(text).encode())]
    assert np.isfinite(found.latents.data).all()
    assert np.isfinite(found.residual_mean).all()


def test_document_of_300000_characters(llm_path: Path, sae: TopKSAE) -> None:
    long = ResidualStream(str(llm_path), "layers.0", window=128, overlap=0, batch_tokens=4096)
    found = encode(long, sae, ["oil gas ba" * 30_000, "bank"])
    assert found.tokens.tolist() == [300_000, 4]
    assert np.isfinite(found.latents.data).all()


@pytest.mark.parametrize("nothing", ["", "  \n", "\x00\u200b\ufeff"])
def test_text_empty_after_cleaning_is_named_by_its_number(stream: ResidualStream, sae: TopKSAE, nothing: str) -> None:
    with pytest.raises(DataError, match="text 2 of 3 is empty after cleaning: remove it"):
        encode(stream, sae, ["oil", nothing, "gas"])


def test_no_text_at_all_is_refused(stream: ResidualStream, sae: TopKSAE) -> None:
    with pytest.raises(DataError, match="no text to encode"):
        encode(stream, sae, [])


def test_text_without_any_counted_token_is_named(stream: ResidualStream, sae: TopKSAE) -> None:
    class Mute:
        """A tokenizer that knows no character of the second text."""

        def __call__(self, texts: list[str], **options: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[1, 2], []]}

    mute = ResidualStream.__new__(ResidualStream)
    mute.__dict__.update(stream.__dict__ | {"tokenizer": Mute()})
    with pytest.raises(DataError, match="begins 'ᚠᚢᚦ' gives the language model no token: remove it"):
        encode(mute, sae, ["oil", "ᚠᚢᚦ"])


def test_sae_of_another_width_is_refused_with_both_widths(stream: ResidualStream) -> None:
    narrow = TopKSAE(torch.zeros(8, 31), torch.zeros(8), torch.zeros(31), 2)
    with pytest.raises(WeightsError, match="reads vectors of 31 numbers but the model's are 32 wide"):
        encode(stream, narrow, ["oil"])
