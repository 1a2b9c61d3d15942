"""From texts to pooled vectors: equal to the naive way, whatever the batches, the memory or the other documents."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertModel, LlamaModel

from companysim.encoding.encode import Encoded, clean, encode
from companysim.encoding.llm import Activations, Padded, ResidualStream, Window
from companysim.encoding.sae import SAE, load_sae, save_sae
from companysim.errors import DataError, WeightsError
from tests.encoding.conftest import BYTES, WORDS

TEXTS = [
    "crude oil and natural gas",
    "a" * 5 + "bank deposits and loans to retail customers" * 3,
    "x",
    "Net sales of 天然ガス rose 12 % in fiscal 2011; 🛢️ wells: " * 4,
]


# The naive way: transformers' whole model, one document at a time, eai-sparsify's encode, a loop over tokens.


@pytest.fixture(scope="session")
def checkpoint(sae: SAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sae") / "sae"
    save_sae(sae, path, dtype="float32")
    return path


@pytest.fixture(scope="session")
def theirs(checkpoint: Path) -> Any:
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # the plain decoder, as on a machine without a GPU
    import sparsify

    return sparsify.SparseCoder.load_from_disk(checkpoint)


class Naive(NamedTuple):
    """One document: dense pools in float64, and the set of latents of each token."""

    total: np.ndarray
    peak: np.ndarray
    count: np.ndarray
    token: np.ndarray
    mean: np.ndarray
    support: list[set[int]]
    margin: float


def pieces(length: int, room: int, overlap: int) -> Iterator[tuple[int, int, list[int]]]:
    """Windows of a document with the positions each adds: all it holds that no window before it held."""
    seen: set[int] = set()
    first = 0
    while len(seen) < length:
        last = min(first + room, length)
        yield first, last, [p for p in range(first, last) if p not in seen]
        seen.update(range(first, last))
        first = last - overlap


@torch.no_grad()
def naive(whole: Any, theirs: Any, ids: list[int], stream: ResidualStream, state: int, begin: int, end: Any) -> Naive:
    latents = theirs.num_latents
    total, peak, count = np.zeros(latents), np.zeros(latents), np.zeros(latents, dtype=int)
    token, residual, support, margin = np.zeros(latents, dtype=int), np.zeros(theirs.d_in), [], np.inf
    overlap = stream.overlap
    for first, last, new in pieces(len(ids), stream.window - 1 - (end is not None), overlap):
        row = torch.tensor([[begin, *ids[first:last], *([] if end is None else [end])]])
        hidden = whole(input_ids=row, output_hidden_states=True).hidden_states[state][0]
        for position in new:
            x = hidden[1 + position - first]
            found = theirs.encode(x)
            ordered = found.pre_acts.sort(descending=True).values
            margin = min(margin, float(ordered[theirs.cfg.k - 1] - ordered[theirs.cfg.k]) / float(ordered[0]))
            active = {}
            for value, latent in zip(found.top_acts.tolist(), found.top_indices.tolist(), strict=True):
                if value > 0:
                    active[latent] = value
                    total[latent] += value
                    count[latent] += 1
                    if value > peak[latent]:
                        peak[latent], token[latent] = value, position
            support.append(set(active))
            residual += x.double().numpy()
    return Naive(total, peak, count, token, residual / max(len(support), 1), support, margin)


def assert_equals_naive(found: Encoded, expected: Sequence[Naive]) -> None:
    """Each pool of each document to 1e-5 of its norm; counts and positions exactly."""
    assert not found.failures
    dense = {pool: found.pooled.matrix(pool).toarray() for pool in ("sum", "max", "count", "mean")}  # type: ignore[arg-type]
    for row, one in enumerate(expected):
        n = len(one.support)
        assert found.pooled.tokens[row] == n
        for pool, wanted in (("sum", one.total), ("max", one.peak), ("mean", one.total / n)):
            assert np.linalg.norm(dense[pool][row] - wanted) <= 1e-5 * np.linalg.norm(wanted)
        assert dense["count"][row].tolist() == one.count.tolist()
        own = slice(*found.pooled.indptr[row : row + 2])
        assert found.pooled.token[own].tolist() == one.token[found.pooled.latent[own]].tolist()
        assert np.linalg.norm(found.residual_mean[row] - one.mean) <= 1e-5 * np.linalg.norm(one.mean)


def test_pools_equal_the_naive_way(whole: LlamaModel, stream: ResidualStream, theirs: Any, checkpoint: Path) -> None:
    tokenizer = stream.tokenizer
    expected = [
        naive(whole, theirs, tokenizer(text, add_special_tokens=False)["input_ids"], stream, 2, 0, None)
        for text in map(clean, TEXTS)
    ]
    assert_equals_naive(encode(stream, load_sae(checkpoint), TEXTS), expected)


def test_no_latent_flips_at_the_top_k_boundary(
    whole: LlamaModel, stream: ResidualStream, theirs: Any, checkpoint: Path
) -> None:
    """Latents may flip where the k-th and the next are equal to the last bits; here none come nearer than 3e-5."""
    rng = np.random.default_rng(5)
    texts = ["".join(rng.choice(list("abcdefgh iknorst"), 120)).strip() for _ in range(12)]
    sae, flips, smallest, tokens = load_sae(checkpoint), 0, np.inf, 0
    for text in map(clean, texts):
        [(ids, _)] = stream.tokenise([text])
        expected = naive(whole, theirs, ids.tolist(), stream, 2, 0, None)
        found: dict[int, set[int]] = {}
        for batch in stream.batches(stream.windows([ids])):
            hidden, _, position = stream.activations(batch)
            codes = sae.encode(hidden)
            for at, latent in zip(position[codes.token].tolist(), codes.latent.tolist(), strict=True):
                found.setdefault(at, set()).add(latent)
        flips += sum(found.get(at, set()) != support for at, support in enumerate(expected.support))
        smallest, tokens = min(smallest, expected.margin), tokens + len(ids)
    assert tokens > 1400
    assert smallest > 1e-5
    assert flips == 0


@pytest.mark.parametrize(("window", "overlap"), [(9, 0), (9, 7), (40, 13), (512, 64)])
def test_long_documents_follow_the_overlap_rule(
    llm_path: Path, whole: LlamaModel, theirs: Any, checkpoint: Path, window: int, overlap: int
) -> None:
    stream = ResidualStream(str(llm_path), "layers.1", window=window, overlap=overlap, batch_tokens=1100)
    texts = ["Revenue grew, as did wells drilled; " * 20, "short", "banks lend to retail customers and " * 6]
    ids = [stream.tokenizer(clean(text), add_special_tokens=False)["input_ids"] for text in texts]
    expected = [naive(whole, theirs, one, stream, 2, 0, None) for one in ids]
    assert_equals_naive(encode(stream, load_sae(checkpoint), texts), expected)


def test_encoder_model_equals_the_naive_way(bert_path: Path, theirs: Any, checkpoint: Path) -> None:
    bert, tokenizer = BertModel.from_pretrained(bert_path).eval(), AutoTokenizer.from_pretrained(bert_path)
    stream = ResidualStream(str(bert_path), "encoder.layer.0", window=24, overlap=5, batch_tokens=300)
    rng = np.random.default_rng(6)
    texts = [" ".join(rng.choice(WORDS, n)) for n in (1, 22, 23, 90)]
    expected = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        expected.append(naive(bert, theirs, ids[1:-1], stream, 1, ids[0], ids[-1]))
    assert_equals_naive(encode(stream, load_sae(checkpoint), texts), expected)


def test_a_small_budget_of_latents_changes_nothing_but_last_bits(stream: ResidualStream, sae: SAE) -> None:
    rows: list[int] = []
    real = SAE._encode

    class Watched(SAE):
        def _encode(self, x: torch.Tensor) -> Any:
            rows.append(len(x))
            return real(self, x)

    watched = Watched(**{name: getattr(sae, name) for name in SAE.__dataclass_fields__})
    found = encode(stream, watched, TEXTS, latent_budget=7 * 48 * 4)
    assert max(rows) == 7  # tokens x 48 latents x 4 bytes
    assert_close(found, encode(stream, sae, TEXTS))


# Shapes, progress and documents that differ


def assert_close(found: Encoded, expected: Encoded, rows: Sequence[int] | None = None) -> None:
    """Same support, counts, positions and failures; values to float32's accuracy."""
    chosen = np.array(rows if rows is not None else range(len(expected.starts)))
    one, other = found.pooled, expected.pooled.rows(chosen)
    assert one.tokens.tolist() == other.tokens.tolist()
    for name in ("indptr", "latent", "count", "token"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("total", "peak"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.residual_mean, expected.residual_mean[chosen], rtol=1e-5, atol=1e-5)
    for mine, wanted in zip(found.starts, [expected.starts[row] for row in chosen], strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_types_and_shapes(stream: ResidualStream, sae: SAE) -> None:
    found = encode(stream, sae, TEXTS)
    pooled = found.pooled
    assert pooled.matrix().shape == (4, 48)
    kinds = {name: getattr(pooled, name).dtype for name in ("indptr", "latent", "total", "peak", "count", "token")}
    assert kinds == {
        "indptr": np.int64,
        "latent": np.int32,
        "total": np.float32,
        "peak": np.float32,
        "count": np.int32,
        "token": np.int32,
    }
    assert pooled.tokens.dtype == np.int64
    assert found.residual_mean.shape == (4, 32)
    assert found.residual_mean.dtype == np.float32
    for text, starts, tokens in zip(TEXTS, found.starts, pooled.tokens, strict=True):
        assert starts.dtype == np.int32
        assert len(starts) == tokens + 1
        assert starts[-1] == len(clean(text))


def test_order_of_the_texts_does_not_matter(stream: ResidualStream, sae: SAE) -> None:
    assert_close(encode(stream, sae, TEXTS[::-1]), encode(stream, sae, TEXTS), [3, 2, 1, 0])


def test_progress_rises_to_one(stream: ResidualStream, sae: SAE) -> None:
    seen: list[float] = []
    encode(stream, sae, TEXTS, report=seen.append)
    assert len(seen) > 2
    assert seen == sorted(set(seen))
    assert seen[-1] == pytest.approx(1)


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
def test_unusual_text_counts_its_bytes(stream: ResidualStream, sae: SAE, text: str) -> None:
    found = encode(stream, sae, [text])
    assert found.pooled.tokens.tolist() == [len(clean(text).encode())]
    assert np.isfinite(found.pooled.total).all()
    assert np.isfinite(found.residual_mean).all()


def test_document_of_300000_characters(llm_path: Path, sae: SAE) -> None:
    long = ResidualStream(str(llm_path), "layers.0", window=128, overlap=0, batch_tokens=4096)
    found = encode(long, sae, ["oil gas ba" * 30_000, "bank"])
    assert found.pooled.tokens.tolist() == [300_000, 4]
    assert found.pooled.count[: found.pooled.indptr[1]].max() > 30_000
    assert np.isfinite(found.pooled.total).all()


# Failures


@pytest.mark.parametrize("nothing", ["", "  \n", "\x00\u200b\ufeff"])
def test_an_empty_text_fails_alone(stream: ResidualStream, sae: SAE, nothing: str) -> None:
    found = encode(stream, sae, ["oil", nothing, "gas"])
    assert found.failures == {1: "the text is empty after cleaning"}
    assert found.pooled.tokens.tolist() == [3, 0, 3]
    assert np.diff(found.pooled.indptr)[1] == 0
    assert found.residual_mean[1].tolist() == [0] * 32
    assert found.starts[1].tolist() == [0]
    without = encode(stream, sae, ["oil", "gas"])
    np.testing.assert_array_equal(found.pooled.matrix().toarray()[[0, 2]], without.pooled.matrix().toarray())


def test_nothing_but_empty_texts_is_all_failures(stream: ResidualStream, sae: SAE) -> None:
    found = encode(stream, sae, ["", " "])
    assert set(found.failures) == {0, 1}
    assert found.pooled.matrix().shape == (2, 48)
    assert found.pooled.matrix().nnz == 0


def test_a_text_without_any_token_fails_alone(stream: ResidualStream, sae: SAE) -> None:
    class Mute(Stand):
        def tokenise(self, texts: Sequence[str]) -> Any:
            none = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32))
            found = self.real.tokenise(texts)
            return [none if text == "ᚠᚢᚦ" else one for text, one in zip(texts, found, strict=True)]

    found = encode(Mute(stream), sae, ["oil", "ᚠᚢᚦ"])  # type: ignore[arg-type]
    assert found.failures == {1: "the text gives the language model no token"}
    assert found.starts[1].tolist() == [3]


def test_no_text_at_all_is_refused(stream: ResidualStream, sae: SAE) -> None:
    with pytest.raises(DataError, match="no text to encode"):
        encode(stream, sae, [])


def test_sae_of_another_width_is_refused_with_both_widths(stream: ResidualStream) -> None:
    narrow = SAE(torch.zeros(8, 31), torch.zeros(8), k=2)
    with pytest.raises(WeightsError, match="reads vectors of 31 numbers but the model's are 32 wide"):
        encode(stream, narrow, ["oil"])


# Memory


class Stand:
    """Stands in for a `ResidualStream`."""

    def __init__(self, real: ResidualStream) -> None:
        self.real = real
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


SIGNS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB, max allowed: 9.07 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    MemoryError(),
]


class Small(Stand):
    """A device with memory for `rows` windows at once."""

    def __init__(self, real: ResidualStream, rows: int, error: Exception) -> None:
        super().__init__(real)
        self.rows, self.error = rows, error

    def activations(self, batch: Sequence[Window]) -> Activations:
        self.sizes.append(len(batch))
        if len(batch) > self.rows:
            raise self.error
        return self.real.activations(batch)


@pytest.mark.parametrize("error", SIGNS, ids=["cuda", "mps", "linux", "windows", "numpy"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_without_memory_is_halved(stream: ResidualStream, sae: SAE, error: Exception, rows: int) -> None:
    small = Small(stream, rows, error)
    assert_close(encode(small, sae, TEXTS), encode(stream, sae, TEXTS))  # type: ignore[arg-type]
    assert max(small.sizes) > 3
    assert not encode(small, sae, TEXTS).failures  # type: ignore[arg-type]


def test_memory_that_runs_out_in_the_sae_halves_too(stream: ResidualStream, sae: SAE) -> None:
    class Wide(SAE):
        def encode(self, x: torch.Tensor, budget: int = 0) -> Any:
            if len(x) > 40:
                raise RuntimeError("CUDA out of memory.")
            return super().encode(x)

    wide = Wide(**{name: getattr(sae, name) for name in SAE.__dataclass_fields__})
    assert_close(encode(stream, wide, TEXTS), encode(stream, sae, TEXTS))


def test_a_window_that_never_fits_fails_its_document_alone(stream: ResidualStream, sae: SAE) -> None:
    class Narrow(Stand):
        """No memory for more than 25 tokens in a window; the second document's last window is such a one."""

        def activations(self, batch: Sequence[Window]) -> Activations:
            if any(len(window.tokens) > 25 for window in batch):
                raise RuntimeError("CUDA out of memory.")
            return self.real.activations(batch)

    texts = ["crude oil and natural gas", "b" * 80, "x"]
    found = encode(Narrow(stream), sae, texts)  # type: ignore[arg-type]
    assert list(found.failures) == [1]
    assert "does not fit into the device's memory: lower encoder.window" in found.failures[1]
    assert found.pooled.tokens.tolist() == [25, 0, 1]
    assert np.diff(found.pooled.indptr)[1] == 0  # also what its other windows gave
    assert not found.residual_mean[1].any()
    alone = encode(stream, sae, ["crude oil and natural gas", "x"])
    np.testing.assert_allclose(
        found.pooled.matrix().toarray()[[0, 2]], alone.pooled.matrix().toarray(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: device-side assert triggered"), ValueError("no")])
def test_other_errors_are_not_swallowed(stream: ResidualStream, sae: SAE, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        encode(Small(stream, 0, error), sae, TEXTS)  # type: ignore[arg-type]


# Activations that are not finite


def test_float16_that_overflows_fails_its_document_alone(llm_path: Path, sae: SAE) -> None:
    stream = ResidualStream(
        str(llm_path), "layers.0", window=32, overlap=8, batch_tokens=512, dtype="float16", massive=1e9
    )
    with torch.no_grad():
        stream.network.embed_tokens.weight[BYTES.index("Z")] *= 1e6  # beyond float16's 65504
    texts = ["crude oil", "some Z and more text behind it, for several windows, of which one fails", "gas", "wells"]
    found = encode(stream, sae, texts)
    assert list(found.failures) == [1]
    assert "not finite in float16: use float32 or bfloat16" in found.failures[1]
    assert found.pooled.tokens.tolist()[1] == 0
    assert (found.pooled.tokens[[0, 2, 3]] > 0).all()
    assert np.isfinite(found.pooled.total).all()
    assert np.isfinite(found.residual_mean).all()
    without = encode(stream, sae, [texts[0], *texts[2:]])
    np.testing.assert_allclose(
        found.pooled.matrix().toarray()[[0, 2, 3]], without.pooled.matrix().toarray(), rtol=2e-3, atol=1e-2
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_bad_document_among_many_costs_no_other(stream: ResidualStream, sae: SAE, bad: float) -> None:
    broken = copy.copy(stream)
    forward = stream._forward
    mark = BYTES.index("Q")

    def spoilt(padded: Padded) -> torch.Tensor:
        hidden = forward(padded).clone()
        hidden[padded.ids == mark] = bad
        return hidden

    broken._forward = spoilt  # type: ignore[method-assign]
    texts = [f"company {i} drills wells" for i in range(12)]
    texts[5] = "Q" + texts[5]
    found = encode(broken, sae, texts)
    assert list(found.failures) == [5]
    others = [i for i in range(12) if i != 5]
    clean_ones = encode(stream, sae, [texts[i] for i in others]).pooled.matrix().toarray()
    np.testing.assert_allclose(found.pooled.matrix().toarray()[others], clean_ones, rtol=1e-5, atol=1e-5)
