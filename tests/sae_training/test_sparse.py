"""Gradients of the activation functions against autograd's, and against the formulas by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.sae_training.sparse import (
    Choose,
    jump_relu,
    largest_of_all,
    largest_of_each,
    sparse_decode,
    sparse_encode,
)


def parameters(seed: int, latents: int = 12, width: int = 5) -> list[torch.Tensor]:
    """Encoder, bias, decoder, b_dec in double precision."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(latents, width), (latents,), (latents, width), (width,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def dense(x: torch.Tensor, parameters: list[torch.Tensor], k: int, of_batch: bool) -> torch.Tensor:
    """Reconstruction as the papers write it: a dense mask, and autograd through all of it."""
    encoder, bias, decoder, b_dec = parameters
    pre = ((x - b_dec) @ encoder.T + bias).relu()
    flat = pre.flatten() if of_batch else pre
    least = flat.topk(k * len(x) if of_batch else k, dim=-1).values[..., -1:]
    return (pre * (pre >= least)) @ decoder + b_dec


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.booleans())
def test_sparse_gradients_equal_those_of_a_dense_mask(seed: int, k: int, of_batch: bool) -> None:
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    target = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed + 2), dtype=torch.float64)
    ours, theirs = parameters(seed), parameters(seed)
    choose: Choose = partial(largest_of_all if of_batch else largest_of_each, k=k)
    value, chosen = sparse_encode(x, ours[0], ours[1], ours[3], choose, torch.float64)
    found = sparse_decode(value, chosen, ours[2]) + ours[3]
    expected = dense(x, theirs, k, of_batch)
    torch.testing.assert_close(found, expected)
    (found - target).pow(2).sum().backward()
    (expected - target).pow(2).sum().backward()
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, reference.grad)


def test_batch_topk_spends_the_budget_where_it_is_needed() -> None:
    pre = torch.tensor([[5.0, 4.0, 3.0], [1.0, 0.5, -1.0], [2.0, 0.1, 0.2]])
    chosen = largest_of_all(pre, 1)
    assert chosen.starts.tolist() == [0, 3, 3]  # all three of the first token, none of the others
    assert chosen.latent.tolist() == [0, 1, 2]
    each = largest_of_each(pre, 1)
    assert each.starts.tolist() == [0, 1, 2]
    assert each.latent.tolist() == [0, 0, 0]


def test_jump_relu_by_hand() -> None:
    # Threshold 2, kernel of width 0.5 * 2 = 1 around it: 1.6 and 2.4 are near, 1.4 and 3 are not.
    pre = torch.tensor([[1.4], [1.6], [2.4], [3.0]], requires_grad=True)
    log_threshold = torch.tensor([2.0]).log().requires_grad_()
    value, active = jump_relu(pre, log_threshold, 0.5)
    assert value.flatten().tolist() == pytest.approx([0, 0, 2.4, 3.0])
    assert active.flatten().tolist() == [0, 0, 1, 1]
    weights = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])
    (value * weights).sum().backward(retain_graph=True)
    # d value / d theta = -theta / eps = -2 each, and d theta / d t = theta = 2.
    assert log_threshold.grad is not None
    assert log_threshold.grad.tolist() == pytest.approx([-(10 + 100) * 2 * 2.0])
    assert pre.grad is not None
    assert pre.grad.flatten().tolist() == [0, 0, 100, 1000]
    log_threshold.grad = None
    (active * weights).sum().backward()
    # d active / d theta = -1 / eps = -1 each, and d theta / d t = 2.
    assert log_threshold.grad is not None
    assert log_threshold.grad.tolist() == pytest.approx([-(10 + 100) * 2.0])


def test_bfloat16_products_are_close_to_float32() -> None:
    encoder, bias, _, b_dec = (p.detach().float() for p in parameters(3, 64, 32))
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(4))
    choose: Choose = partial(largest_of_each, k=64)
    full, places = sparse_encode(x, encoder, bias, b_dec, choose)
    half, other = sparse_encode(x, encoder, bias, b_dec, choose, torch.bfloat16)
    assert half.dtype == torch.float32
    dense_full, dense_half = (
        torch.zeros(50, 64).scatter_(1, c.latent.reshape(50, 64), v.reshape(50, 64))
        for v, c in ((full, places), (half, other))
    )
    assert 0 < float((dense_full - dense_half).abs().max()) < 0.3
