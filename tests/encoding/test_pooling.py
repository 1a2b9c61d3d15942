"""Pooling against sums, maxima and counts of dense activations, tokens by latents."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.encoding.pooling import Entries, Pooled

POOLS = ("sum", "mean", "max", "count", "log_length")
NAMES = ("latent", "total", "peak", "count", "token")


def entries(rows: list[tuple[int, int, float, int]]) -> Entries:
    """Entries of single tokens from (group, latent, value, token)."""
    group, latent, value, token = (np.array(column) for column in zip(*rows, strict=True))
    return Entries(
        torch.from_numpy(group),
        torch.from_numpy(latent),
        torch.from_numpy(value).double(),
        torch.from_numpy(value).float(),
        torch.from_numpy(token),
        torch.ones(len(rows), dtype=torch.int64),
    )


def as_rows(found: Entries) -> list[tuple[float, ...]]:
    columns = (found.group, found.latent, found.total, found.peak, found.token, found.count)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def pooled_of(dense: list[np.ndarray]) -> Pooled:
    """What `dense` activations, one array of tokens by latents a document, pool to; written without `Entries`."""
    columns: dict[str, list[float]] = {name: [] for name in NAMES}
    indptr = [0]
    for activations in dense:
        for latent in np.flatnonzero((activations > 0).any(axis=0)):
            own = activations[:, latent]
            found = (latent, own.sum(), own.max(), (own > 0).sum(), own.argmax())
            for name, value in zip(NAMES, found, strict=True):
                columns[name].append(value)
        indptr.append(len(columns["latent"]))
    kinds = {"total": np.float32, "peak": np.float32}
    arrays = {name: np.array(columns[name], dtype=kinds.get(name, np.int32)) for name in NAMES}
    tokens = np.array([len(activations) for activations in dense], dtype=np.int64)
    return Pooled(indptr=np.array(indptr), tokens=tokens, n_latents=dense[0].shape[1], **arrays)


# Eighths add up without rounding in any order, so that equality below is exact. Many are equal, so that peaks tie.
activation = st.sampled_from([0.0, 0.0, 0.0, 0.125, 0.5, 0.5, 2.25])


@st.composite
def documents(draw: st.DrawFn, largest: int = 12) -> list[np.ndarray]:
    latents = draw(st.integers(1, 5))
    count = draw(st.integers(1, 4))
    shapes = [draw(st.integers(0, largest)) for _ in range(count)]
    return [
        np.array(draw(st.lists(activation, min_size=n * latents, max_size=n * latents))).reshape(n, latents)
        for n in shapes
    ]


def test_by_hand() -> None:
    found = entries(
        [(1, 2, 0.5, 7), (0, 2, 1.5, 1), (1, 2, 3.0, 9), (1, 0, 2.0, 7), (1, 2, 3.0, 8), (0, 2, 0.25, 0)]
    ).pooled(3)
    #   group, latent, total, peak, token, count; of the two 3.0 the first token counts
    assert as_rows(found) == [(0, 2, 1.75, 1.5, 1, 2), (1, 0, 2.0, 2.0, 7, 1), (1, 2, 6.5, 3.0, 8, 3)]


def test_nothing_pools_to_nothing() -> None:
    nothing = entries([(0, 0, 1.0, 0)])
    nothing = Entries(*(getattr(nothing, name)[:0] for name in Entries.__dataclass_fields__))
    assert as_rows(nothing.pooled(3)) == []


@settings(max_examples=80, deadline=None)
@given(dense=documents(), seed=st.integers(0, 99), data=st.data())
def test_pooling_equals_dense_and_ignores_order_and_split(
    dense: list[np.ndarray], seed: int, data: st.DataObject
) -> None:
    latents = dense[0].shape[1]
    rows = [
        (document, latent, values[token, latent], token)
        for document, values in enumerate(dense)
        for token, latent in np.argwhere(values > 0).tolist()
    ]
    if not rows:
        return
    expected = pooled_of(dense)
    group = np.repeat(np.arange(len(dense)), np.diff(expected.indptr))
    columns = (group, expected.latent, expected.total, expected.peak, expected.token, expected.count)
    wanted = list(zip(*(column.tolist() for column in columns), strict=True))
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    assert as_rows(entries(rows).pooled(latents)) == wanted
    assert as_rows(entries(shuffled).pooled(latents)) == wanted

    # In windows first, each token in any one of them, then by document, as `encode` does.
    window = [data.draw(st.integers(0, 3)) for _ in range(max(len(values) for values in dense))]
    first = entries([(4 * document + window[t], latent, value, t) for document, latent, value, t in shuffled])
    first = first.pooled(latents)
    second = Entries(first.group // 4, first.latent, first.total, first.peak, first.token, first.count)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(second.token)))
    parts = Entries(*(getattr(second, name)[order] for name in Entries.__dataclass_fields__))
    half = len(parts.token) // 2
    halves = [
        Entries(*(getattr(parts, name)[part] for name in Entries.__dataclass_fields__))
        for part in (slice(half), slice(half, None))
    ]
    assert as_rows(Entries.joined(halves).pooled(latents)) == wanted


def test_large_numbers_of_groups_latents_and_tokens_do_not_collide() -> None:
    last = 131_071
    rows = [(63, last, 1.0, 299_999), (63, last - 1, 1.0, 299_999), (62, last, 1.0, 299_999), (63, last, 2.0, 0)]
    assert as_rows(entries(rows).pooled(131_072)) == [
        (62, 131_071, 1.0, 1.0, 299_999, 1),
        (63, 131_070, 1.0, 1.0, 299_999, 1),
        (63, 131_071, 3.0, 2.0, 0, 2),
    ]


@settings(max_examples=60, deadline=None)
@given(dense=documents())
def test_matrices_follow_their_formulas(dense: list[np.ndarray]) -> None:
    pooled = pooled_of(dense)
    for row, activations in enumerate(dense):
        n, total = len(activations), activations.sum(axis=0)
        expected = {
            "sum": total,
            "mean": total / max(n, 1),
            "max": activations.max(axis=0, initial=0),
            "count": (activations > 0).sum(axis=0),
            "log_length": total / max(n, 1) * np.log(1 + n),
        }
        for pool in POOLS:
            matrix = pooled.matrix(pool)  # type: ignore[arg-type]
            assert isinstance(matrix, sp.csr_array)
            assert matrix.shape == (len(dense), dense[0].shape[1])
            assert matrix.dtype == np.float32
            assert matrix.has_canonical_format
            np.testing.assert_allclose(matrix[[row]].toarray()[0], expected[pool], rtol=2e-7)


def test_the_pools_of_one_document_by_hand() -> None:
    pooled = pooled_of([np.array([[0, 1.0], [0, 3.0], [0, 0], [0.5, 0]])])
    found = {pool: pooled.matrix(pool).toarray()[0].tolist() for pool in ("sum", "mean", "max", "count")}  # type: ignore[arg-type]
    assert found == {"sum": [0.5, 4], "mean": [0.125, 1], "max": [0.5, 3], "count": [1, 2]}
    assert pooled.matrix("log_length").toarray()[0] == pytest.approx([0.125 * np.log(5), np.log(5)])
    np.testing.assert_array_equal(pooled.matrix().toarray(), pooled.matrix("sum").toarray())
    assert pooled.token.tolist() == [3, 1]


def same(one: Pooled, other: Pooled) -> None:
    assert one.n_latents == other.n_latents
    for name in ("indptr", "tokens", *NAMES):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


@settings(max_examples=60, deadline=None)
@given(dense=documents(), data=st.data())
def test_rows_and_stacking_follow_scipy(dense: list[np.ndarray], data: st.DataObject) -> None:
    pooled = pooled_of(dense)
    order = np.array(data.draw(st.lists(st.integers(0, len(dense) - 1), max_size=6)), dtype=np.int64)
    taken = pooled.rows(order)
    same(taken, pooled_of([dense[i] for i in order]) if len(order) else pooled.rows(np.zeros(0, dtype=np.int64)))
    assert len(taken.tokens) == len(order)
    stacked = Pooled.stacked([taken, pooled, taken])
    for pool in POOLS:
        parts = [p.matrix(pool).toarray() for p in (taken, pooled, taken)]  # type: ignore[arg-type]
        np.testing.assert_array_equal(stacked.matrix(pool).toarray(), np.vstack(parts))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(dense=documents(), seed=st.integers(0, 99))
def test_what_is_cut_and_put_together_is_the_same(dense: list[np.ndarray], seed: int) -> None:
    pooled = pooled_of(dense)
    same(Pooled.stacked([pooled.rows(np.array([i])) for i in range(len(dense))]), pooled)
    order = np.random.default_rng(seed).permutation(len(dense))
    same(pooled.rows(order).rows(np.argsort(order)), pooled)
