"""Top snippets against a brute force over all documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.encoding.encode import Encoded, clean, encode
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import SAE
from companysim.encoding.snippets import CONTEXT, TopSnippets, top_snippets
from companysim.encoding.store import Store
from tests.encoding.test_pooling import pooled_of

COLUMNS = ["latent", "rank", "filing_id", "value", "start", "end", "peak_start", "peak_end"]


def made(dense: list[np.ndarray], rng: np.random.Generator) -> Encoded:
    """Documents with these activations whose tokens are one to four characters long."""
    starts = [np.concatenate([[0], np.cumsum(rng.integers(1, 5, len(d)))]).astype(np.int32) for d in dense]
    return Encoded(pooled_of(dense), np.zeros((len(dense), 2), dtype=np.float32), starts, {})


def part(encoded: Encoded, rows: np.ndarray) -> Encoded:
    starts = [encoded.starts[row] for row in rows]
    return Encoded(encoded.pooled.rows(rows), encoded.residual_mean[rows], starts, {})


def brute_force(dense: list[np.ndarray], starts: list[np.ndarray], size: int) -> pd.DataFrame:
    rows = []
    for latent in range(dense[0].shape[1]):
        found = []
        for number, activations in enumerate(dense):
            values = activations[:, latent].tolist()
            if max(values, default=0) > 0:
                found.append((-max(values), number, values.index(max(values))))
        for rank, (value, number, token) in enumerate(sorted(found)[:size], start=1):
            edge = starts[number].tolist()
            first, last = max(0, token - CONTEXT), min(len(edge) - 1, token + CONTEXT + 1)
            spans = (edge[first], edge[last], edge[token], edge[token + 1])
            rows.append((latent, rank, f"filing {number}", -value, *spans))
    return pd.DataFrame(rows, columns=COLUMNS)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=9),
    latents=st.integers(1, 4),
    size=st.integers(1, 5),
    seed=st.integers(0, 999),
    cuts=st.lists(st.integers(0, 9), max_size=4),
)
def test_any_order_of_any_parts_gives_the_strongest_documents(
    lengths: list[int], latents: int, size: int, seed: int, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    # Few different values, so that documents and tokens tie.
    dense = [rng.choice([0, 0, 0, 1, 2, 3], (n, latents)).astype(float) for n in lengths]
    encoded = made(dense, rng)
    names = np.array([f"filing {i}" for i in range(len(dense))])
    expected = brute_force(dense, encoded.starts, size)
    top = TopSnippets(latents, size)
    for rows in np.split(rng.permutation(len(dense)), sorted(min(cut, len(dense)) for cut in cuts)):
        assert top.add(part(encoded, rows), rows) is top
    found = top.to_frame(names)
    assert found.columns.tolist() == COLUMNS
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_by_hand() -> None:
    # One latent fires on the third token of a text of four: "oil", " and", " gas", " wells".
    activations = np.array([[0.0], [0.0], [2.5], [0.0]])
    encoded = Encoded(pooled_of([activations]), np.zeros((1, 2)), [np.array([0, 3, 7, 11, 17], dtype=np.int32)], {})
    found = TopSnippets(1, 3).add(encoded, np.array([0])).to_frame(np.array(["A"]))
    assert found.iloc[0].tolist() == [0, 1, "A", 2.5, 0, 17, 7, 11]
    assert len(found) == 1


def test_a_passage_has_its_context_on_either_side_and_ends_with_the_text() -> None:
    for token, first, last in ((0, 0, 17), (20, 4, 37), (39, 23, 40)):
        activations = np.zeros((40, 1))
        activations[token] = 1
        encoded = Encoded(pooled_of([activations]), np.zeros((1, 2)), [np.arange(41, dtype=np.int32)], {})
        found = TopSnippets(1).add(encoded, np.array([0])).to_frame(np.array(["A"])).iloc[0]
        assert (found.start, found.end, found.peak_start, found.peak_end) == (first, last, token, token + 1)


TEXTS = {
    "a": "Crude oil and natural gas from offshore wells; the Company sells refined products worldwide.",
    "b": "A bank that takes deposits\n\n\tand makes loans to retail customers.",
    "c": "天然ガスと石油 🛢️ drilling",
    "d": " ",
}


@pytest.fixture(scope="module")
def store(stream: ResidualStream, sae: SAE, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two shards of two filings."""
    made = Store.create(tmp_path_factory.mktemp("store") / "s", {"any": "thing"})
    for names in ("cd", "ab"):
        shard = pd.DataFrame({"filing_id": list(names), "text": [TEXTS[name] for name in names]})
        [ready] = made.missing(shard)
        made.write(ready, encode(stream, sae, ready["text"].tolist()))
    return made


def test_spans_lie_in_the_text_and_values_are_the_largest_peaks(store: Store) -> None:
    index = store.index()
    found = top_snippets(store, index, size=3)
    assert set(found["filing_id"]) == {"a", "b", "c"}
    assert len(found) > 48
    for row in found.itertuples():
        text = clean(TEXTS[row.filing_id])
        assert 0 <= row.start <= row.peak_start < row.peak_end <= row.end <= len(text)
        # One token a byte here: the token of the peak is one character, or a part of it.
        assert row.peak_end == row.peak_start + 1
    # The values are the peaks of the pooled matrix, strongest first.
    peaks = store.read(pd.DataFrame({"filing_id": index["filing_id"], "text": index["filing_id"].map(TEXTS)}))[1]
    dense = peaks.pooled.matrix("max").toarray()
    for latent, rows in found.groupby("latent"):
        assert rows["value"].tolist() == sorted((v for v in dense[:, latent].tolist() if v > 0), reverse=True)[:3]
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))


def test_the_latent_fires_on_the_character_shown(store: Store, stream: ResidualStream, sae: SAE) -> None:
    found = top_snippets(store, store.index(), size=1)
    [(ids, starts)] = stream.tokenise([clean(TEXTS["b"])])
    shown = found[found["filing_id"] == "b"]
    assert len(shown) > 3
    best: dict[int, tuple[float, int]] = {}
    for window in stream.windows([ids]):
        hidden, _, position = stream.activations([window])
        token, latent, value = sae.encode(hidden)
        for t, which, v in zip(token.tolist(), latent.tolist(), value.tolist(), strict=True):
            best[which] = max(best.get(which, (0.0, 0)), (v, int(position[t])))
    for row in shown.itertuples():
        assert row.peak_start == starts[best[row.latent][1]]
        assert row.value == pytest.approx(best[row.latent][0], rel=1e-5)


def test_two_stores_with_other_shards_give_the_same_snippets(
    store: Store, stream: ResidualStream, sae: SAE, tmp_path: Path
) -> None:
    filings = pd.DataFrame({"filing_id": list(TEXTS), "text": list(TEXTS.values())})
    one = Store.create(tmp_path / "one", {"any": "thing"})
    [shard] = one.missing(filings)
    one.write(shard, encode(stream, sae, shard["text"].tolist()))
    found, other = top_snippets(one, one.index()), top_snippets(store, store.index())
    pd.testing.assert_frame_equal(found.drop(columns="value"), other.drop(columns="value"))
    np.testing.assert_allclose(found["value"], other["value"], rtol=1e-5)
