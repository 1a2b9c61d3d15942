"""Activation functions of a sparse autoencoder in training, with the gradients they need.

Where few latents survive, only they are visited on the way back: with k of M latents kept, the gradient of the encoder
costs k / M of the dense product. Where a threshold is learned, its gradient is estimated by a kernel, since a step has
none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable


class Chosen(NamedTuple):
    """Places of the latents that survive, flat, row by row.

    Attributes
    ----------
    latent : Tensor of int64, shape (n,)
    starts : Tensor of int64, shape (tokens,)
        Where each token's places begin.
    """

    latent: torch.Tensor
    starts: torch.Tensor


Choose = Callable[[torch.Tensor], Chosen]


def largest_of_each(pre: torch.Tensor, k: int) -> Chosen:
    """Choose the k largest of every token (TopK)."""
    latent = pre.topk(k, dim=1, sorted=False).indices
    return Chosen(latent.flatten(), torch.arange(len(pre), device=pre.device) * k)


def largest_of_all(pre: torch.Tensor, k: int) -> Chosen:
    """Choose the largest of the whole batch, k a token on average (BatchTopK)."""
    place = pre.flatten().topk(k * len(pre), sorted=False).indices.sort().values
    starts = torch.searchsorted(place, torch.arange(len(pre), device=pre.device) * pre.shape[1])
    return Chosen(place % pre.shape[1], starts)


def product(x: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """``x @ matrix.T + bias`` with the product in `precision` and the sum in x's own.

    Parameters
    ----------
    x : Tensor, shape (n, width)
    matrix : Tensor, shape (m, width)
    bias : Tensor, shape (m,)
    precision : torch.dtype
    """
    if precision == x.dtype:
        return torch.nn.functional.linear(x, matrix, bias)
    return torch.nn.functional.linear(x.to(precision), matrix.to(precision)).to(x.dtype).add_(bias)


class _SparseEncode(torch.autograd.Function):
    """``relu((x - b_dec) @ encoder.T + bias)`` at chosen places; x gets no gradient, the parameters do."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        encoder: torch.Tensor,
        bias: torch.Tensor,
        b_dec: torch.Tensor,
        choose: Choose,
        precision: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = x - b_dec
        pre = product(rows, encoder, bias, precision)
        latent, starts = choose(pre)
        counts = torch.diff(starts, append=starts.new_tensor([len(latent)]))
        token = torch.repeat_interleave(torch.arange(len(x), device=x.device), counts, output_size=len(latent))
        value = pre[token, latent].relu_()
        ctx.save_for_backward(rows, encoder, token, latent, value > 0)
        ctx.mark_non_differentiable(latent, starts)
        return value, latent, starts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, *unused: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, encoder, token, latent, positive = ctx.saved_tensors
        grad = grad * positive
        # Sorted by latent, the encoder's gradient is a weighted sum of a bag of rows for each latent.
        ordered, order = latent.sort(stable=True)
        starts = torch.searchsorted(ordered, torch.arange(len(encoder), device=latent.device))
        of_encoder = torch.nn.functional.embedding_bag(
            token[order], rows, starts, mode="sum", per_sample_weights=grad[order]
        )
        of_bias = torch.zeros_like(encoder[:, 0]).index_add_(0, latent, grad)
        return None, of_encoder, of_bias, -torch.mv(encoder.T, of_bias), None, None


def sparse_encode(
    x: torch.Tensor,
    encoder: torch.Tensor,
    bias: torch.Tensor,
    b_dec: torch.Tensor,
    choose: Choose,
    precision: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, Chosen]:
    """Encode rows and keep what `choose` picks from the pre-activations.

    Parameters
    ----------
    x : Tensor, shape (tokens, width)
    encoder : Tensor, shape (latents, width)
    bias : Tensor, shape (latents,)
    b_dec : Tensor, shape (width,)
    choose : callable
        Pre-activations of shape (tokens, latents) -> `Chosen`.
    precision : torch.dtype
        Of the matrix product.

    Returns
    -------
    value : Tensor, shape (n,)
        ``relu`` of the chosen pre-activations; gradients flow to encoder, bias and b_dec.
    chosen : Chosen
    """
    value, latent, starts = _SparseEncode.apply(x, encoder, bias, b_dec, choose, precision)  # type: ignore[no-untyped-call]
    return value, Chosen(latent, starts)


def sparse_decode(value: torch.Tensor, chosen: Chosen, decoder: torch.Tensor) -> torch.Tensor:
    """Weighted sum of the chosen rows of the decoder, shape (tokens, width)."""
    return torch.nn.functional.embedding_bag(
        chosen.latent, decoder, chosen.starts, mode="sum", per_sample_weights=value
    )


class _JumpReLU(torch.autograd.Function):
    """Values and activity of pre-activations above a threshold exp(t), with pseudo-gradients for t."""

    @staticmethod
    def forward(
        ctx: Any, pre: torch.Tensor, log_threshold: torch.Tensor, bandwidth: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        threshold = log_threshold.exp()
        active = pre > threshold
        ctx.save_for_backward(pre, threshold, active)
        ctx.bandwidth = bandwidth
        return pre * active, active.to(pre.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_value: torch.Tensor, of_active: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        pre, threshold, active = ctx.saved_tensors
        near = (pre - threshold).abs() < ctx.bandwidth / 2 * threshold
        of_threshold = -((of_value * threshold + of_active) * near).sum(0) / ctx.bandwidth
        return of_value * active, of_threshold, None


def jump_relu(pre: torch.Tensor, log_threshold: torch.Tensor, bandwidth: float) -> tuple[torch.Tensor, torch.Tensor]:
    """JumpReLU with straight-through estimates (Rajamanoharan et al. 2024, arXiv 2407.14435, equations 11 and 12).

    With theta = exp(t) and a rectangle kernel of width eps: ``d value / d theta = -(theta / eps) K((pre - theta) /
    eps)`` and ``d active / d theta = -(1 / eps) K(...)``. Here ``eps = bandwidth * theta``, so that the estimate for t
    has no unit: ``-(theta / bandwidth) K`` and ``-(1 / bandwidth) K``.

    Parameters
    ----------
    pre : Tensor, shape (tokens, latents)
    log_threshold : Tensor, shape (latents,)
    bandwidth : float
        Width of the kernel as a share of the threshold.

    Returns
    -------
    value, active : Tensor, shape (tokens, latents)
        ``pre`` where it exceeds the threshold and 0 elsewhere; 1 there and 0 elsewhere.
    """
    value, active = _JumpReLU.apply(pre, log_threshold, bandwidth)  # type: ignore[no-untyped-call]
    return value, active
