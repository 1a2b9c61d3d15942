"""The residual stream equals transformers' hidden states; nothing beyond the hook is computed, kept or counted."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertModel,
    ByT5Tokenizer,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

from companysim.encoding.llm import ResidualStream, Window, split
from companysim.errors import ConfigError, NotFiniteError, WeightsError
from tests.encoding.conftest import BYTES, WORDS, llama_config


class Read(NamedTuple):
    window: Window
    hidden: torch.Tensor
    position: list[int]


def windows_of(stream: ResidualStream, texts: Sequence[str]) -> list[Window]:
    return stream.windows([ids for ids, _ in stream.tokenise(texts)])


def read(stream: ResidualStream, texts: Sequence[str]) -> dict[int, list[Read]]:
    """All windows with the rows and positions of their counted tokens, by document."""
    found: dict[int, list[Read]] = {}
    for batch in stream.batches(windows_of(stream, texts)):
        hidden, window, position = stream.activations(batch)
        assert hidden.dtype == torch.float32
        assert window.dtype == position.dtype == torch.int64
        assert (window.diff() >= 0).all()  # rows come in the order of the windows
        for number, one in enumerate(batch):
            own = window == number
            found.setdefault(one.document, []).append(Read(one, hidden[own], position[own].tolist()))
    return {document: sorted(reads, key=lambda r: r.window.start) for document, reads in found.items()}


@torch.no_grad()
def hidden_states(whole: LlamaModel | BertModel, tokens: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """Hidden states of transformers' whole model for one row of token ids, without padding or mask."""
    ids = torch.tensor([list(tokens)])
    return tuple(states[0] for states in whole(input_ids=ids, output_hidden_states=True).hidden_states)


def after_start(tokens: np.ndarray) -> list[int]:
    return [0, *tokens.tolist()]


# What is read


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_stream_equals_hidden_states_of_the_whole_model(llm_path: Path, whole: LlamaModel, layer: int) -> None:
    stream = ResidualStream(str(llm_path), f"layers.{layer}", massive=1e9)
    [[(window, found, _)]] = read(stream, ["crude oil and gas"]).values()
    states = hidden_states(whole, after_start(window.tokens))
    torch.testing.assert_close(found, states[layer + 1][1:], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, states[layer][1:], atol=0.1)  # off by one would show


def test_last_block_is_read_before_the_final_norm(llm_path: Path, whole: LlamaModel) -> None:
    stream = ResidualStream(str(llm_path), "layers.3", massive=1e9)
    [[(window, found, _)]] = read(stream, ["crude oil and gas"]).values()
    expected = hidden_states(whole, after_start(window.tokens))[-1][1:]
    with torch.no_grad():
        torch.testing.assert_close(whole.norm(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_encoder_reads_cls_text_sep_as_transformers_does(bert_path: Path, layer: int) -> None:
    stream = ResidualStream(str(bert_path), f"encoder.layer.{layer}", window=256, massive=1e9)
    theirs, tokenizer = BertModel.from_pretrained(bert_path).eval(), AutoTokenizer.from_pretrained(bert_path)
    texts = ["oil", "Drug bank CHIP retail loans wells", "alpha beta gamma " * 20, "never seen words"]
    found = read(stream, texts)  # one batch of very different lengths: what is padded must not be attended to
    assert len(stream.batches(windows_of(stream, texts))) == 1
    for document, text in enumerate(texts):
        ids = tokenizer(text)["input_ids"]
        assert (ids[0], ids[-1]) == (2, 3) == stream.special
        [(_, hidden, position)] = found[document]
        expected = hidden_states(theirs, ids)[layer + 1][1:-1]
        torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)
        assert position == list(range(len(ids) - 2))


def test_long_document_of_an_encoder_has_both_special_tokens_in_every_window(bert_path: Path) -> None:
    stream = ResidualStream(str(bert_path), "encoder.layer.1", window=12, overlap=3, massive=1e9)
    theirs = BertModel.from_pretrained(bert_path).eval()
    text = " ".join(np.random.default_rng(4).choice(WORDS, 40))
    reads = read(stream, [text])[0]
    assert [len(window.tokens) for window, _, _ in reads] == [10, 10, 10, 10, 10, 5]
    for window, hidden, _ in reads:
        expected = hidden_states(theirs, [2, *window.tokens.tolist(), 3])[2][1 + window.skip : -1]
        torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)
    assert [p for r in reads for p in r.position] == list(range(40))


# What is not run or kept


@pytest.mark.parametrize("layer", [0, 2])
def test_later_blocks_are_dropped_and_no_head_is_built(llm_path: Path, layer: int) -> None:
    assert "lm_head.weight" in dict(LlamaForCausalLM.from_pretrained(llm_path).named_parameters())
    network = ResidualStream(str(llm_path), f"layers.{layer}").network
    names = [name for name, _ in network.named_parameters()]
    assert {int(name.split(".")[1]) for name in names if name.startswith("layers.")} == set(range(layer + 1))
    assert not [name for name in names if "lm_head" in name]


def test_nothing_runs_after_the_hook(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.1")
    ran: list[str] = []
    for name, module in stream.network.named_modules():
        module.register_forward_pre_hook(lambda module, inputs, name=name: ran.append(name))
    read(stream, ["abc"])
    assert {"embed_tokens", "layers.0", "layers.1", "layers.1.mlp"} <= set(ran)
    assert "norm" not in ran
    assert ran[-1].startswith("layers.1.")


def test_states_of_earlier_blocks_do_not_stay_in_memory(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.3")
    states: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        states.append(weakref.ref(output[0] if isinstance(output, tuple) else output))
        alive.append(sum(state() is not None for state in states))

    for number in range(4):
        stream.network.layers[number].register_forward_hook(keep)
    read(stream, ["abc"])
    assert len(alive) == 4
    assert max(alive) <= 2  # a block's input and output


def test_no_gradient_and_no_cache(stream: ResidualStream) -> None:
    hidden = stream.activations(windows_of(stream, ["oil and gas"])).hidden
    assert not hidden.requires_grad
    assert hidden.grad_fn is None


# What is counted


def test_activations_do_not_depend_on_the_batch(stream: ResidualStream) -> None:
    texts = ["a", "oil and gas", "x" * 31, "a bank with branches"]
    together = read(stream, texts)
    for document, text in enumerate(texts):
        for one, alone in zip(together[document], read(stream, [text])[0], strict=True):
            torch.testing.assert_close(one.hidden, alone.hidden, rtol=1e-5, atol=1e-5)
            assert one.position == alone.position


def test_start_padding_and_overlap_are_left_out(stream: ResidualStream, whole: LlamaModel) -> None:
    texts = ["".join(chr(97 + (7 * i) % 26) for i in range(100)), "short"]
    found = read(stream, texts)
    assert [len(r.window.tokens) for r in found[0]] == [31, 31, 31, 31]
    assert [r.window.skip for r in found[0]] == [0, 8, 8, 8]
    assert [p for r in found[0] for p in r.position] == list(range(100))
    for window, hidden, _ in [*found[0], *found[1]]:
        expected = hidden_states(whole, after_start(window.tokens))[2][1 + window.skip :]
        torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    window=st.integers(3, 24),
    budget=st.integers(24, 200),
    encoder=st.booleans(),
    data=st.data(),
)
def test_every_token_of_every_document_is_counted_once(
    llm_path: Path, bert_path: Path, lengths: list[int], window: int, budget: int, encoder: bool, data: st.DataObject
) -> None:
    base = loaded(bert_path, "encoder.layer.0") if encoder else loaded(llm_path, "layers.0")
    tuned = copy.copy(base)
    tuned.window, tuned.room = window, window - (2 if encoder else 1)
    tuned.overlap = data.draw(st.integers(0, tuned.room - 1))
    tuned.batch_tokens = budget
    found = read(tuned, [" ".join(WORDS[i % 12] for i in range(n)) if encoder else "x" * n for n in lengths])
    for document, length in enumerate(lengths):
        assert [p for r in found.get(document, []) for p in r.position] == list(range(length))


_LOADED: dict[tuple[Path, str], ResidualStream] = {}


def loaded(path: Path, hook: str) -> ResidualStream:
    """One stream for all examples of hypothesis."""
    key = (path, hook)
    if key not in _LOADED:
        _LOADED[key] = ResidualStream(str(path), hook, window=64, overlap=0, massive=1e9)
    return _LOADED[key]


def test_windows_put_together_are_the_document(stream: ResidualStream) -> None:
    text = "Crude oil, 天然ガス 🛢 and refining; " * 9
    windows = [w for w in windows_of(stream, ["other", text]) if w.document == 1]
    assert len(windows) > 3
    counted = np.concatenate([w.tokens[w.skip :] for w in windows])
    names = np.array(BYTES)[counted]
    assert stream.tokenizer.convert_tokens_to_string(names.tolist()) == text
    for before, after in itertools.pairwise(windows):  # the repeated tokens are the ones before
        np.testing.assert_array_equal(after.tokens[: after.skip], before.tokens[-after.skip :])


def test_text_without_tokens_has_no_window(stream: ResidualStream) -> None:
    assert [w.document for w in windows_of(stream, ["a", "", "b"])] == [0, 2]
    assert stream.tokenise([]) == []
    assert stream.windows([]) == []
    assert stream.batches([]) == []


def test_tokens_begin_at_their_characters(stream: ResidualStream) -> None:
    text = "gas 天🛢x"  # one token a byte
    (ids, starts), (nothing, none) = stream.tokenise([text, ""])
    assert ids.dtype == np.int64
    assert starts.dtype == np.int32
    assert starts.tolist() == [i for i, character in enumerate(text) for _ in character.encode()]
    assert len(ids) == len(text.encode())
    assert len(nothing) == len(none) == 0


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, 300), room=st.integers(1, 40), data=st.data())
def test_split_counts_every_token_once(length: int, room: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, room - 1))
    spans = split(length, room, overlap)
    assert [i for start, stop, skip in spans for i in range(start + skip, stop)] == list(range(length))
    assert all(0 < stop - start <= room for start, stop, _ in spans)
    assert [skip for _, _, skip in spans] == [min(overlap, start + skip) for start, _, skip in spans]


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 31), max_size=30), budget=st.integers(8, 200))
def test_batches_hold_every_window_once_within_the_budget(
    stream: ResidualStream, lengths: list[int], budget: int
) -> None:
    tight = copy.copy(stream)
    tight.batch_tokens = budget
    windows = [Window(i, np.zeros(n, dtype=np.int64), 0, 0) for i, n in enumerate(lengths)]
    groups = tight.batches(windows)
    assert sorted(w.document for group in groups for w in group) == list(range(len(lengths)))
    for group in groups:
        padded = len(group) * (max(len(w.tokens) for w in group) + 1)
        assert padded <= budget or len(group) == 1


def test_batches_use_the_budget_special_tokens_included(stream: ResidualStream, bert_path: Path) -> None:
    windows = [Window(i, np.zeros(15, dtype=np.int64), 0, 0) for i in range(20)]
    assert [len(group) for group in stream.batches(windows)] == [8, 8, 4]  # 128 tokens, 16 a row
    both = ResidualStream(str(bert_path), "encoder.layer.0", window=32, overlap=8, batch_tokens=128)
    assert [len(group) for group in both.batches(windows)] == [7, 7, 6]  # 17 a row


def test_a_text_that_spells_a_special_token_means_its_characters(stream: ResidualStream) -> None:
    (ids, _), (without, _) = stream.tokenise([f"oil {stream.tokenizer.bos_token} gas", "oil  gas"])
    assert stream.special[0] not in ids
    assert len(ids) == len(without) + 3


# Massive activations


def test_massive_activation_is_left_out(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.1")
    with torch.no_grad():
        stream.network.embed_tokens.weight[BYTES.index("Z")] *= 1000
    [(_, kept, position)] = read(stream, ["oil Z gas"])[0]
    stream.massive = 1e9
    [(_, everything, _)] = read(stream, ["oil Z gas"])[0]
    assert len(everything) == 9
    assert torch.equal(kept, torch.cat([everything[:4], everything[5:]]))
    assert position == [0, 1, 2, 3, 5, 6, 7, 8]


def test_massive_is_judged_by_the_median_of_each_window_alone(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.1", window=9, overlap=0, massive=5)
    with torch.no_grad():
        stream.network.embed_tokens.weight[BYTES.index("Z")] *= 1000
    found = read(stream, ["oil Z oi" + "Z" * 8 + "abcdefgh", "oil"])
    # The second window holds nothing else: it is its own measure, whatever its neighbours in the document or batch are.
    assert [r.position for r in found[0]] == [[0, 1, 2, 3, 5, 6, 7], [*range(8, 16)], [*range(16, 24)]]
    assert found[1][0].position == [0, 1, 2]


def test_nothing_is_left_out_just_below_the_limit(stream: ResidualStream) -> None:
    tuned = copy.copy(stream)
    tuned.massive = 1e9
    [(_, hidden, _)] = read(tuned, ["crude oil and gas"])[0]
    norms = hidden.norm(dim=1)
    ratio = float(norms.max() / norms.median())
    tuned.massive = 1.001 * ratio
    assert len(read(tuned, ["crude oil and gas"])[0][0].hidden) == 17
    tuned.massive = 0.999 * ratio
    assert len(read(tuned, ["crude oil and gas"])[0][0].hidden) == 16


def test_repeated_context_does_not_count_for_the_median(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.1", window=9, overlap=6, massive=5)
    with torch.no_grad():
        stream.network.embed_tokens.weight[BYTES.index("Z")] *= 1000
    # The second window repeats six massive tokens and counts one of them and one that is not.
    found = read(stream, ["ab" + "Z" * 7 + "c"])[0]
    assert found[1].window.skip == 6
    assert found[1].position == [9]  # of two, the median is the lower


def test_activations_that_are_not_finite_are_refused(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.0")
    with torch.no_grad():
        next(stream.network.parameters()).fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="not finite in float32: use float32 or bfloat16"):
        stream.activations(windows_of(stream, ["oil gas"]))


def test_what_is_not_counted_need_not_be_finite(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.0")
    stream._block.register_forward_hook(lambda module, inputs, output: output.index_fill(1, torch.tensor(0), np.inf))
    [(_, hidden, _)] = read(stream, ["oil gas"])[0]
    assert hidden.isfinite().all()
    assert len(hidden) == 7


# What is refused


@pytest.mark.parametrize("hook", ["layers.4", "layers.x", "blocks.1"])
def test_hook_that_does_not_exist_is_named(llm_path: Path, hook: str) -> None:
    with pytest.raises(WeightsError, match=f"no module '{hook}': .* embed_tokens, layers, norm.* like layers.26"):
        ResidualStream(str(llm_path), hook)


@pytest.mark.parametrize("hook", ["layers", "", "rotary_emb", "layers.1.mlp.gate_proj"])
def test_hook_without_a_residual_stream_is_refused(llm_path: Path, hook: str) -> None:
    stream = ResidualStream(str(llm_path), hook)
    with pytest.raises(WeightsError, match=f"module '{hook}' does not put out one vector of 32 .* name a block"):
        read(stream, ["abc"])


def test_missing_model_is_named_with_a_remedy(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=f"cannot load the language model '{missing}' .*give a local directory"):
        ResidualStream(missing, "layers.1")


def test_encoder_decoder_is_refused(llm_path: Path, tmp_path: Path) -> None:
    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(llm_path).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="is an encoder-decoder: give a decoder or an encoder") as caught:
        ResidualStream(str(tmp_path), "encoder.block.0")
    assert str(tmp_path) in str(caught.value)


def test_tokenizer_without_offsets_is_refused(tmp_path: Path) -> None:
    LlamaModel(llama_config(300, layers=1)).save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)  # of Python code
    with pytest.raises(WeightsError, match=r"has no fast tokenizer: .* with tokenizer\.json"):
        ResidualStream(str(tmp_path), "layers.0")


def without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def with_cut_weights(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def with_broken_config(model: Path) -> None:
    (model / "config.json").write_text("{")


def with_unknown_architecture(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "nope"}')


def with_broken_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    "damage",
    [without_weights, with_cut_weights, with_broken_config, with_unknown_architecture, with_broken_tokenizer],
)
def test_damaged_model_is_refused(llm_path: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    model = tmp_path / "model"
    shutil.copytree(llm_path, model)
    damage(model)
    with pytest.raises(WeightsError, match=f"cannot load the language model '{model}'"):
        ResidualStream(str(model), "layers.1")


def test_end_token_stands_in_for_a_missing_start_token(llm_path: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(llm_path, model)
    settings_file = model / "tokenizer_config.json"
    options = json.loads(settings_file.read_text())
    del options["bos_token"]
    settings_file.write_text(json.dumps(options | {"eos_token": "a"}))
    assert ResidualStream(str(model), "layers.1").special == (BYTES.index("a"), None)
    settings_file.write_text(json.dumps(options))
    with pytest.raises(WeightsError, match="neither a start nor an end token: set its bos_token"):
        ResidualStream(str(model), "layers.1")


@pytest.mark.parametrize("overlap", [-1, 31, 64])
def test_overlap_that_leaves_no_room_is_refused(llm_path: Path, overlap: int) -> None:
    with pytest.raises(ConfigError, match=f"overlap {overlap} must be at least 0 and below the window's 31 tokens"):
        ResidualStream(str(llm_path), "layers.1", window=32, overlap=overlap)


def test_overlap_may_be_all_but_one_token_of_an_encoder(bert_path: Path) -> None:
    ResidualStream(str(bert_path), "encoder.layer.0", window=32, overlap=29)
    with pytest.raises(ConfigError, match="below the window's 30 tokens"):
        ResidualStream(str(bert_path), "encoder.layer.0", window=32, overlap=30)


def test_window_larger_than_the_models_positions_is_refused(llm_path: Path, bert_path: Path) -> None:
    for path, hook, limit in ((llm_path, "layers.0", 512), (bert_path, "encoder.layer.0", 256)):
        assert ResidualStream(str(path), hook, window=limit).room < limit
        with pytest.raises(ConfigError, match=rf"window {limit + 1} exceeds the {limit} positions .*encoder\.window"):
            ResidualStream(str(path), hook, window=limit + 1)


def test_positions_counted_from_behind_the_padding_index_are_not_overrun(tmp_path: Path) -> None:
    RobertaModel(
        RobertaConfig(
            vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=40, pad_token_id=1,
        )
    ).save_pretrained(tmp_path)  # fmt: skip
    words = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    bare = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=bare, **special).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="exceeds the 38 positions"):
        ResidualStream(str(tmp_path), "encoder.layer.0", window=39, overlap=4)
    stream = ResidualStream(str(tmp_path), "encoder.layer.0", window=38, overlap=4, massive=1e9)
    assert sum(len(r.hidden) for r in read(stream, ["oil gas " * 50])[0]) == 100
