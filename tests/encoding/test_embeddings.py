from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

from companysim.encoding.embeddings import DocumentEncoder, SentenceEmbedding, Tfidf
from companysim.errors import ConfigError, DataError, NotFiniteError, WeightsError
from tests.encoding.conftest import WORDS

TEXTS = ["Oil and gas wells", "bank", "chip drug retail loans delta gamma alpha unknown", "oil oil"]
LONG = " ".join(np.random.default_rng(5).choice(WORDS, 600))


def states(path: Path, ids: list[int]) -> torch.Tensor:
    """Last hidden states of one sequence, as transformers gives them without any padding."""
    network = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = network(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return found


def unit(vector: torch.Tensor) -> np.ndarray:
    scaled: np.ndarray = torch.nn.functional.normalize(vector, dim=0).numpy()
    return scaled


def ids_of(path: Path, text: str, special: bool = True) -> list[int]:
    found: list[int] = AutoTokenizer.from_pretrained(path)(text, add_special_tokens=special)["input_ids"]
    return found


@pytest.fixture
def model(bert_path: Path, tmp_path: Path) -> Path:
    """A copy of the BERT to write settings into."""
    return Path(shutil.copytree(bert_path, tmp_path / "model"))


def sentence_files(model: Path, steps: list[str], pooling: dict[str, Any], **transformer: Any) -> None:
    """Settings as sentence-transformers 2 wrote them."""
    places = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": places.get(step, f"{i}_{step}"),
            "type": f"sentence_transformers.models.{step}",
        }
        for i, step in enumerate(steps)
    ]
    (model / "1_Pooling").mkdir()
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (model / "sentence_bert_config.json").write_text(json.dumps(transformer))


def test_mean_equals_transformers_text_by_text(bert_path: Path) -> None:
    found = SentenceEmbedding(str(bert_path)).encode(TEXTS)
    assert found.dtype == np.float32
    expected = [unit(states(bert_path, ids_of(bert_path, text)).mean(0)) for text in TEXTS]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_cls_equals_transformers_text_by_text(bert_path: Path) -> None:
    found = SentenceEmbedding(str(bert_path), pooling="cls").encode(TEXTS)
    expected = [unit(states(bert_path, ids_of(bert_path, text))[0]) for text in TEXTS]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(("window", "room"), [(None, 254), (400, 254), (50, 48)])  # the model has 256 positions
def test_long_text_is_the_token_weighted_mean_of_its_windows(
    bert_path: Path, pooling: Any, window: int | None, room: int
) -> None:
    ids = ids_of(bert_path, LONG, special=False)
    total = torch.zeros(32)
    for start in range(0, 600, room):
        piece = [2, *ids[start : start + room], 3]
        hidden = states(bert_path, piece)
        total += hidden.sum(0) if pooling == "mean" else len(piece) * hidden[0]
    found = SentenceEmbedding(str(bert_path), pooling=pooling, window=window).encode(["bank", LONG])[1]
    np.testing.assert_allclose(found, unit(total), rtol=1e-5, atol=1e-6)


@pytest.fixture
def roberta_path(tmp_path: Path) -> Path:
    """A RoBERTa: 66 positions, of which the first two are never used, and a padding id that is not 0."""
    path = tmp_path / "roberta"
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    # It states no cls and no sep token: what the tokenizer adds is what counts.
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(path)
    torch.manual_seed(4)
    config = RobertaConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=66, pad_token_id=1, bos_token_id=0, eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(path)
    return path


def test_positions_of_roberta_begin_behind_the_padding_index(roberta_path: Path) -> None:
    ids = ids_of(roberta_path, LONG, special=False)
    total = sum(states(roberta_path, [0, *ids[start : start + 62], 2]).sum(0) for start in range(0, 600, 62))
    found = SentenceEmbedding(str(roberta_path)).encode(["bank", LONG, "oil gas drug"])
    np.testing.assert_allclose(found[1], unit(torch.as_tensor(total)), rtol=1e-5, atol=1e-6)
    bank = states(roberta_path, [0, *ids_of(roberta_path, "bank", special=False), 2])
    np.testing.assert_allclose(found[0], unit(bank.mean(0)), rtol=1e-5, atol=1e-6)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """Token ids of every batch that is run."""
    seen: list[list[list[int]]] = []
    forward = SentenceEmbedding._forward

    def spy(self: SentenceEmbedding, network: Any, batch: Any, *rest: Any) -> np.ndarray:
        seen.append([piece.ids for piece in batch])
        return forward(self, network, batch, *rest)

    monkeypatch.setattr(SentenceEmbedding, "_forward", spy)
    return seen


def test_order_of_the_texts_does_not_matter(bert_path: Path, batches: list[list[list[int]]]) -> None:
    texts = [" ".join(["oil", "bank", "chip"][: 1 + i % 3] * (1 + i)) for i in range(20)]
    texts += [LONG, *WORDS]  # the words are of one length: the order must not even decide which share a batch
    encoder = SentenceEmbedding(str(bert_path), batch_tokens=20, window=40)
    found = encoder.encode(texts)
    first = batches.copy()
    batches.clear()
    np.testing.assert_array_equal(encoder.encode(texts[::-1])[::-1], found)
    assert batches == first


def test_batches_respect_the_token_budget(bert_path: Path, batches: list[list[list[int]]]) -> None:
    seen: list[tuple[int, int]] = []
    texts = [LONG, *(" ".join(["oil"] * n) for n in (1, 2, 3, 10, 30))]
    SentenceEmbedding(str(bert_path), batch_tokens=64, window=100).encode(texts, lambda *at: seen.append(at))
    # 600 tokens are 6 windows of 98 and one of 12; lengths with special tokens: 100 (six), 32, 14, 12, 5, 4, 3.
    lengths = [[len(ids) for ids in batch] for batch in batches]
    assert lengths == [[100]] * 6 + [[32, 14], [12, 5, 4, 3]]
    assert seen == [(n, 12) for n in (1, 2, 3, 4, 5, 6, 8, 12)]


def test_text_is_cleaned_first(bert_path: Path) -> None:
    encoder = SentenceEmbedding(str(bert_path))
    np.testing.assert_array_equal(encoder.encode(["oil\x00\u200b gas\n"]), encoder.encode(["oil gas"]))


def test_text_that_spells_a_special_token_means_its_characters(bert_path: Path) -> None:
    [found] = SentenceEmbedding(str(bert_path)).encode(["oil [SEP]"])
    oil = ids_of(bert_path, "oil", special=False)
    np.testing.assert_allclose(found, unit(states(bert_path, [2, *oil, 1, 1, 1, 3]).mean(0)), rtol=1e-5, atol=1e-6)


def test_decoder_is_pooled_too_but_has_nothing_to_pool_by_cls(llm_path: Path) -> None:
    found = SentenceEmbedding(str(llm_path)).encode(["oil wells", "a"])  # padded without a padding token
    expected = [unit(states(llm_path, ids_of(llm_path, text)).mean(0)) for text in ("oil wells", "a")]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(WeightsError, match="puts no special token in front of a text, so none can be pooled by cls"):
        SentenceEmbedding(str(llm_path), pooling="cls").encode(["oil"])


def test_half_precision_is_close_and_its_overflow_is_named(model: Path) -> None:
    exact = SentenceEmbedding(str(model)).encode(TEXTS)
    close = SentenceEmbedding(str(model), dtype="bfloat16").encode(TEXTS)
    assert close.dtype == np.float32
    assert 1e-5 < np.abs(close - exact).max() < 0.05
    network = AutoModel.from_pretrained(model)
    network.encoder.layer[-1].output.LayerNorm.weight.data.fill_(1e5)  # finite in float32 and bfloat16 only
    network.save_pretrained(model)
    SentenceEmbedding(str(model), dtype="bfloat16").encode(TEXTS)
    with pytest.raises(NotFiniteError, match="are not finite in float16: use float32, bfloat16 or other weights"):
        SentenceEmbedding(str(model), dtype="float16").encode(TEXTS)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [True, False])
def test_directory_saved_by_sentence_transformers_is_used_as_there(
    bert_path: Path, tmp_path: Path, pooling: str, normalise: bool
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    steps = [Transformer(str(bert_path)), Pooling(32, pooling), *([Normalize()] if normalise else [])]
    SentenceTransformer(modules=steps).save(str(tmp_path / "saved"))
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS)
    ours = SentenceEmbedding(str(tmp_path / "saved")).encode(TEXTS)
    assert np.allclose(np.linalg.norm(ours, axis=1), 1) == normalise
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flag", ["pooling_mode_mean_tokens", "pooling_mode_cls_token"])
def test_settings_of_older_sentence_transformers_are_read_as_there(model: Path, flag: str) -> None:
    from sentence_transformers import SentenceTransformer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.normalizer = None  # so that lower case must come from the settings
    tokenizer.save(str(model / "tokenizer.json"))
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}
    sentence_files(model, ["Transformer", "Pooling"], pooling | {flag: True}, max_seq_length=8, do_lower_case=True)
    texts = ["OIL and GAS", "bank chip oil"]
    theirs = SentenceTransformer(str(model), device="cpu").encode(texts)
    np.testing.assert_allclose(SentenceEmbedding(str(model)).encode(texts), theirs, rtol=1e-5, atol=1e-6)
    # Theirs would truncate to 8 tokens; ours goes on in a second window.
    long = ["oil gas bank chip drug loans wells"]
    found = SentenceEmbedding(str(model)).encode(long)
    np.testing.assert_array_equal(found, SentenceEmbedding(str(model), window=8).encode(long))
    assert not np.allclose(found, SentenceEmbedding(str(model), window=20).encode(long))


@pytest.mark.parametrize(
    ("pooling", "named"),
    [
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode": ["mean", "max"]}, "mean\\+max"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}, "max"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls\\+mean"),
    ],
)
def test_other_pooling_is_refused_unless_it_is_overridden(model: Path, pooling: dict[str, Any], named: str) -> None:
    sentence_files(model, ["Transformer", "Pooling", "Normalize"], pooling)
    with pytest.raises(WeightsError, match=f"pools by {named}, which is not implemented: choose a model that"):
        SentenceEmbedding(str(model)).encode(["oil"])
    found = SentenceEmbedding(str(model), pooling="cls").encode(["oil"])
    np.testing.assert_allclose(found[0], unit(states(model, ids_of(model, "oil"))[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [["Transformer", "Pooling", "Dense"], ["Transformer"], ["StaticEmbedding"]])
def test_other_steps_are_refused(model: Path, steps: list[str]) -> None:
    sentence_files(model, steps, {})
    with pytest.raises(WeightsError, match=f"consists of {', '.join(steps)}: only Transformer, Pooling and Normalize"):
        SentenceEmbedding(str(model)).encode(["oil"])


def test_default_prompt_is_refused_and_an_empty_one_is_not(model: Path) -> None:
    settings = {"default_prompt_name": "document", "prompts": {"document": "", "query": "Query: "}}
    (model / "config_sentence_transformers.json").write_text(json.dumps(settings))
    SentenceEmbedding(str(model)).encode(["oil"])
    settings["default_prompt_name"] = "query"
    (model / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="puts the prompt 'Query: ' before every text, which is not supported"):
        SentenceEmbedding(str(model)).encode(["oil"])


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("content", ["{", '"text"', '[{"path": ""}]'])
def test_damaged_settings_are_named(model: Path, name: str, content: str) -> None:
    sentence_files(model, ["Transformer", "Pooling"], {})
    (model / name).write_text(content)
    with pytest.raises(WeightsError, match=f"{name} is damaged"):
        SentenceEmbedding(str(model)).encode(["oil"])


def test_revision_chooses_weights_and_settings_of_a_hub_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own cache, filled by hand and used offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sentence_files(model, ["Transformer", "Pooling", "Normalize"], {"pooling_mode": "cls"})
    home = tmp_path / "hub" / "models--org--encoder"
    shutil.copytree(model, home / "snapshots" / ("a" * 40))
    torch.manual_seed(5)
    AutoModel.from_config(AutoModel.from_pretrained(model).config).save_pretrained(model)
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    shutil.copytree(model, home / "snapshots" / ("b" * 40))
    for digit, pooled in (("a", lambda hidden: hidden[0]), ("b", lambda hidden: hidden.mean(0))):
        snapshot = home / "snapshots" / (digit * 40)
        [found] = SentenceEmbedding("org/encoder", revision=digit * 40).encode(["oil gas"])
        expected = unit(pooled(states(snapshot, ids_of(snapshot, "oil gas"))))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_code_of_a_model_is_never_run(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "novel", "auto_map": {"AutoConfig": "novel.Config", "AutoModel": "novel.Model"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "novel.py").write_text("raise SystemExit('code of the model was run')")
    with pytest.raises(WeightsError, match="cannot load the embedding model"):
        SentenceEmbedding(str(model)).encode(["oil"])


def test_encoder_decoder_is_refused(model: Path) -> None:
    T5Model(T5Config(vocab_size=20, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(model)
    with pytest.raises(WeightsError, match="is an encoder-decoder: give an encoder"):
        SentenceEmbedding(str(model)).encode(["oil"])


@pytest.mark.parametrize("window", [0, 2])
def test_window_of_special_tokens_only_is_refused(bert_path: Path, window: int) -> None:
    with pytest.raises(ConfigError, match=f"a window of {window} tokens holds no text"):
        SentenceEmbedding(str(bert_path), window=window).encode(["oil"])


def test_empty_text_is_named_by_its_number(bert_path: Path) -> None:
    with pytest.raises(DataError, match="text 2 of 2 is empty"):
        SentenceEmbedding(str(bert_path)).encode(["oil", " \x00"])


def test_text_without_a_token_is_named_by_its_number(model: Path) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"o": 4, "[CLS]": 2}, merges=[]))  # knows one letter and no unknown token
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[CLS]").save_pretrained(model)
    with pytest.raises(DataError, match="text 2 of 2 gives the embedding model no token: remove it"):
        SentenceEmbedding(str(model)).encode(["o", "é"])


def test_missing_embedding_model_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=f"cannot load the embedding model '{missing}'"):
        SentenceEmbedding(missing).encode(["oil"])


def test_damaged_embedding_weights_are_refused(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsError, match=f"cannot load the embedding model '{model}'"):
        SentenceEmbedding(str(model)).encode(["oil"])


def test_all_encoders_have_one_shape(bert_path: Path) -> None:
    encoders: list[DocumentEncoder] = [SentenceEmbedding(str(bert_path)), Tfidf()]
    for encoder in encoders:
        seen: list[tuple[int, int]] = []
        assert encoder.encode(TEXTS, lambda *at, seen=seen: seen.append(at)).shape[0] == len(TEXTS)
        assert seen[-1] == (4, 4)


def test_tfidf_equals_scikit_learn() -> None:
    oracle = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(TEXTS)
    found = Tfidf().encode(TEXTS)
    np.testing.assert_allclose(found.toarray(), oracle.toarray())
    np.testing.assert_allclose(np.linalg.norm(found.toarray(), axis=1), 1)


def test_tfidf_by_hand() -> None:
    # Words bank, oil (columns in this order); idf = ln((1 + n) / (1 + df)) + 1, tf = 1 + ln(count).
    found = Tfidf().encode(["oil oil bank", "the oil"]).toarray()
    bank, oil = np.log(3 / 2) + 1, (1 + np.log(2)) * 1
    np.testing.assert_allclose(found, [np.array([bank, oil]) / np.hypot(bank, oil), [0, 1]])


def test_tfidf_takes_words_and_frequencies_from_fit_on_only() -> None:
    fit_on = ["oil gas", "oil bank", "oil chip"]
    oracle = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit(fit_on)
    found = Tfidf(fit_on).encode(["oil bank drug", "drug"])
    np.testing.assert_allclose(found.toarray(), oracle.transform(["oil bank drug", "drug"]).toarray())
    assert found.shape == (2, 4)
    assert found[[1]].nnz == 0


def test_tfidf_of_stop_words_only_is_refused() -> None:
    with pytest.raises(DataError, match="only English stop words"):
        Tfidf().encode(["the and of", "- ."])
