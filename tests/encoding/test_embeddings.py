from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import AutoModel, AutoTokenizer

from companysim.encoding.embeddings import embed, tfidf
from companysim.errors import DataError, WeightsError

TEXTS = ["Oil and gas wells", "bank", "chip drug retail loans delta gamma alpha unknown", "oil oil"]


def test_embed_equals_mean_pooling_in_transformers(bert_path: Path) -> None:
    tokenizer, network = AutoTokenizer.from_pretrained(bert_path), AutoModel.from_pretrained(bert_path).eval()
    expected = []
    for text in TEXTS:  # one by one, so that the oracle knows no padding
        with torch.no_grad():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected.append(torch.nn.functional.normalize(states.mean(0), dim=0).numpy())
    found = embed(str(bert_path), TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_long_text_is_the_token_weighted_mean_of_its_windows(bert_path: Path) -> None:
    words = np.random.default_rng(5).choice(["oil", "gas", "bank", "chip", "drug"], 600).tolist()
    network = AutoModel.from_pretrained(bert_path).eval()
    vocabulary = AutoTokenizer.from_pretrained(bert_path).get_vocab()
    total = torch.zeros(32)
    for start in range(0, 600, 254):
        ids = [2, *(vocabulary[word] for word in words[start : start + 254]), 3]
        with torch.no_grad():
            total += network(input_ids=torch.tensor([ids])).last_hidden_state[0].sum(0)
    expected = torch.nn.functional.normalize(total, dim=0).numpy()
    found = embed(str(bert_path), ["bank", " ".join(words)])[1]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_order_of_the_texts_does_not_matter(bert_path: Path) -> None:
    texts = [" ".join(["oil", "bank", "chip"][: 1 + i % 3] * (1 + i)) for i in range(20)]  # more than one batch
    np.testing.assert_allclose(embed(str(bert_path), texts), embed(str(bert_path), texts[::-1])[::-1], atol=1e-6)


def test_text_is_cleaned_first(bert_path: Path) -> None:
    np.testing.assert_array_equal(embed(str(bert_path), ["oil\x00\u200b gas\n"]), embed(str(bert_path), ["oil gas"]))


def test_progress_ends_at_the_total(bert_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    embed(str(bert_path), ["oil"] * 20, report=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 20), (20, 20)]


def test_empty_text_is_named_by_its_number(bert_path: Path) -> None:
    with pytest.raises(DataError, match="text 2 of 2 is empty"):
        embed(str(bert_path), ["oil", " \x00"])


def test_missing_embedding_model_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=f"cannot load the embedding model '{missing}'"):
        embed(missing, ["oil"])


def test_damaged_embedding_weights_are_refused(bert_path: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(bert_path, model)
    (model / "model.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsError, match=f"cannot load the embedding model '{model}'"):
        embed(str(model), ["oil"])


def test_model_that_is_no_encoder_is_refused(llm_path: Path) -> None:
    with pytest.raises(WeightsError, match="has no cls, sep or pad token: give an encoder"):
        embed(str(llm_path), ["oil"])


def test_tfidf_equals_scikit_learn() -> None:
    oracle = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(TEXTS)
    found = tfidf(TEXTS)
    np.testing.assert_allclose(found.toarray(), oracle.toarray())
    np.testing.assert_allclose(np.linalg.norm(found.toarray(), axis=1), 1)


def test_tfidf_by_hand() -> None:
    # Words bank, oil (columns in this order); idf = ln((1 + n) / (1 + df)) + 1, tf = 1 + ln(count).
    found = tfidf(["oil oil bank", "the oil"]).toarray()
    bank, oil = np.log(3 / 2) + 1, (1 + np.log(2)) * 1
    np.testing.assert_allclose(found, [np.array([bank, oil]) / np.hypot(bank, oil), [0, 1]])


def test_tfidf_takes_words_and_frequencies_from_fit_on_only() -> None:
    fit_on = ["oil gas", "oil bank", "oil chip"]
    oracle = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit(fit_on)
    found = tfidf(["oil bank drug", "drug"], fit_on)
    np.testing.assert_allclose(found.toarray(), oracle.transform(["oil bank drug", "drug"]).toarray())
    assert found.shape == (2, 4)
    assert found[[1]].nnz == 0


def test_tfidf_of_stop_words_only_is_refused() -> None:
    with pytest.raises(DataError, match="only English stop words"):
        tfidf(["the and of", "- ."])
