from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaModel

from companysim.encoding.llm import ResidualStream, Window, split
from companysim.errors import ConfigError, WeightsError
from tests.encoding.conftest import BYTES


def read(stream: ResidualStream, texts: list[str]) -> dict[int, list[tuple[Window, torch.Tensor]]]:
    """All windows and their activations, by document."""
    found: dict[int, list[tuple[Window, torch.Tensor]]] = {}
    for batch in stream.batches(stream.windows(texts)):
        for window, hidden in stream.activations(batch):
            found.setdefault(window.document, []).append((window, hidden))
    return found


@torch.no_grad()
def hidden_states(whole: LlamaModel, tokens: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Hidden states of transformers' whole model for one window after the start token, without padding or mask."""
    ids = torch.tensor([[0, *tokens.tolist()]])
    return tuple(states[0] for states in whole(input_ids=ids, output_hidden_states=True).hidden_states)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_stream_equals_hidden_states_of_the_whole_model(llm_path: Path, whole: LlamaModel, layer: int) -> None:
    stream = ResidualStream(str(llm_path), f"layers.{layer}", massive=1e9)
    [[(window, found)]] = read(stream, ["crude oil and gas"]).values()
    states = hidden_states(whole, window.tokens)
    torch.testing.assert_close(found, states[layer + 1][1:], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, states[layer][1:], atol=0.1)  # off by one would show


def test_last_block_is_read_before_the_final_norm(llm_path: Path, whole: LlamaModel) -> None:
    stream = ResidualStream(str(llm_path), "layers.3", massive=1e9)
    [[(window, found)]] = read(stream, ["crude oil and gas"]).values()
    with torch.no_grad():
        torch.testing.assert_close(whole.norm(found), hidden_states(whole, window.tokens)[-1][1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 2])
def test_later_blocks_are_dropped_and_no_head_is_built(llm_path: Path, layer: int) -> None:
    network = ResidualStream(str(llm_path), f"layers.{layer}")._network
    names = [name for name, _ in network.named_parameters()]
    assert {int(name.split(".")[1]) for name in names if name.startswith("layers.")} == set(range(layer + 1))
    assert not [name for name in names if "lm_head" in name]


def test_pass_ends_at_the_hook(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.1")
    stream._network.norm = None  # calling it would fail
    assert len(read(stream, ["abc"])[0][0][1]) == 3


def test_activations_do_not_depend_on_the_batch(stream: ResidualStream) -> None:
    texts = ["a", "oil and gas", "x" * 31, "a bank with branches"]
    together = read(stream, texts)
    for document, text in enumerate(texts):
        for (_, found), (_, alone) in zip(together[document], read(stream, [text])[0], strict=True):
            torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)


def test_start_padding_and_overlap_are_left_out(stream: ResidualStream, whole: LlamaModel) -> None:
    texts = ["".join(chr(97 + (7 * i) % 26) for i in range(100)), "short"]
    found = read(stream, texts)
    assert [len(window.tokens) for window, _ in found[0]] == [31, 31, 31, 31]
    assert [window.skip for window, _ in found[0]] == [0, 8, 8, 8]
    assert sum(len(hidden) for _, hidden in found[0]) == 100
    for window, hidden in [*found[0], *found[1]]:
        expected = hidden_states(whole, window.tokens)[2][1 + window.skip :]
        torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)


def test_windows_put_together_are_the_document(stream: ResidualStream) -> None:
    text = "Crude oil, 天然ガス 🛢 and refining; " * 9
    windows = stream.windows(["other", text])
    counted = np.concatenate([w.tokens[w.skip :] for w in windows if w.document == 1])
    names = np.array(BYTES)[counted]
    assert stream.tokenizer.convert_tokens_to_string(names.tolist()) == text


def test_text_without_tokens_has_no_window(stream: ResidualStream) -> None:
    assert [w.document for w in stream.windows(["a", "", "b"])] == [0, 2]


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
    windows = [Window(i, np.zeros(n, dtype=np.int64), 0) for i, n in enumerate(lengths)]
    groups = tight.batches(windows)
    assert sorted(w.document for group in groups for w in group) == list(range(len(lengths)))
    for group in groups:
        padded = len(group) * (max(len(w.tokens) for w in group) + 1)
        assert padded <= budget or len(group) == 1


def test_batches_use_the_budget(stream: ResidualStream) -> None:
    windows = [Window(i, np.zeros(15, dtype=np.int64), 0) for i in range(20)]
    assert [len(group) for group in stream.batches(windows)] == [8, 8, 4]  # 128 tokens, 16 a row


def test_massive_activation_is_left_out(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.1")
    with torch.no_grad():
        stream._network.embed_tokens.weight[BYTES.index("Z")] *= 1000
    [(_, kept)] = read(stream, ["oil Z gas"])[0]
    stream.massive = 1e9
    [(_, everything)] = read(stream, ["oil Z gas"])[0]
    assert len(everything) == 9
    assert torch.equal(kept, torch.cat([everything[:4], everything[5:]]))


def test_nothing_is_left_out_just_below_the_limit(stream: ResidualStream) -> None:
    tuned = copy.copy(stream)
    tuned.massive = 1e9
    [(_, hidden)] = read(tuned, ["crude oil and gas"])[0]
    norms = hidden.norm(dim=1)
    ratio = float(norms.max() / norms.median())
    tuned.massive = 1.001 * ratio
    assert len(read(tuned, ["crude oil and gas"])[0][0][1]) == 17
    tuned.massive = 0.999 * ratio
    assert len(read(tuned, ["crude oil and gas"])[0][0][1]) == 16


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
    assert ResidualStream(str(model), "layers.1").start_token == BYTES.index("a")
    settings_file.write_text(json.dumps(options))
    with pytest.raises(WeightsError, match="neither a start nor an end token: set its bos_token"):
        ResidualStream(str(model), "layers.1")


@pytest.mark.parametrize("overlap", [-1, 31, 64])
def test_overlap_that_leaves_no_room_is_refused(llm_path: Path, overlap: int) -> None:
    with pytest.raises(ConfigError, match=f"overlap {overlap} must be at least 0 and below window - 1 = 31"):
        ResidualStream(str(llm_path), "layers.1", window=32, overlap=overlap)


def test_activations_that_are_not_finite_are_refused(llm_path: Path) -> None:
    stream = ResidualStream(str(llm_path), "layers.0")
    with torch.no_grad():
        next(stream._network.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsError, match="not finite in float32"):
        list(stream.activations(stream.windows(["oil gas"])))


def test_a_text_that_spells_a_special_token_means_its_characters(stream: ResidualStream) -> None:
    start = stream.tokenizer.bos_token
    (window,) = stream.windows([f"oil {start} gas"])
    assert stream.start_token not in window.tokens
    assert len(window.tokens) > len(stream.windows(["oil  gas"])[0].tokens)
