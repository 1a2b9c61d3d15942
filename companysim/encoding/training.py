"""Training of a TopK sparse autoencoder on residual-stream activations.

The recipe of Gao et al. 2024 (arXiv 2406.04093): decoder rows of unit norm, encoder initialised as the decoder's
transpose, mean squared error, and an auxiliary loss in which latents that have been silent for long reconstruct
what the live ones leave over. Inputs are scaled to unit root mean square; the scale is folded back into the
weights afterwards, so that the result reads raw activations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from companysim.encoding.llm import ResidualStream, Window
from companysim.encoding.sae import SAE
from companysim.errors import DataError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainingSpec:
    """Choices of one training run.

    Attributes
    ----------
    latents, k : int
        Width of the SAE and latents kept per token.
    tokens : int
        Activations seen in all; the stored ones are reshuffled and passed over as often as that needs.
    batch : int
        Tokens a step.
    learning_rate : float
        Peak of Adam's rate: linear warm-up over 5 % of the steps, linear decay to 0 over the last third.
    dead_after : int
        A latent that has not fired for this many tokens counts as dead and takes part in the auxiliary loss.
    auxiliary : float
        Weight of the auxiliary loss (1/32 in the paper).
    seed : int
    """

    latents: int = 4096
    k: int = 32
    tokens: int = 4_000_000
    batch: int = 2048
    learning_rate: float = 1e-3
    dead_after: int = 200_000
    auxiliary: float = 1 / 32
    seed: int = 0


@dataclass(frozen=True)
class Quality:
    """How well an SAE reconstructs held-out activations.

    Attributes
    ----------
    tokens : int
    fraction_unexplained : float
        ``sum |x - x_hat|^2 / sum |x - mean(x)|^2`` (FVU).
    l0 : float
        Mean number of active latents per token.
    dead_share : float
        Share of latents that fire on none of the tokens.
    """

    tokens: int
    fraction_unexplained: float
    l0: float
    dead_share: float


def collect_activations(
    stream: ResidualStream,
    windows: Sequence[Window],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Residual-stream rows of all counted tokens of `windows`, shape (tokens, d_in), bfloat16 to halve the memory."""
    import torch

    batches = stream.batches(windows)
    rows: list[torch.Tensor] = []
    for done, batch in enumerate(batches, start=1):
        rows.append(stream.activations(batch).hidden.to(torch.bfloat16).cpu())
        report(done, len(batches))
    return torch.cat(rows)


def train_topk(
    activations: torch.Tensor,
    spec: TrainingSpec,
    report: Callable[[int, float], None] = lambda tokens, loss: None,
) -> SAE:
    """Train a TopK SAE.

    Parameters
    ----------
    activations : Tensor, shape (n, d_in)
        Residual-stream rows, on any device and in any floating dtype; batches are converted to float32.
    spec : TrainingSpec
    report : callable
        Called about 100 times with the tokens seen and the mean fraction of variance unexplained since the last call.

    Raises
    ------
    DataError
        If there are fewer rows than one batch, they are all the same or not finite, or the loss stops being finite.
    """
    import torch

    n, width = activations.shape
    if n < spec.batch:
        raise DataError(f"{n} activations are fewer than one batch of {spec.batch}: give more text")
    device = activations.device
    generator = torch.Generator().manual_seed(spec.seed)
    probe = activations[torch.randperm(n, generator=generator)[:100_000].to(device)].float()
    centre = probe.mean(0)
    scale = float((probe - centre).pow(2).mean().sqrt())
    if not (isfinite(scale) and scale > 0):
        raise DataError(f"the activations spread by {scale}: they must be finite and not all the same")
    variance = float(((probe - centre) / scale).pow(2).sum(1).mean())

    decoder = torch.randn(spec.latents, width, generator=generator).to(device)
    decoder /= decoder.norm(dim=1, keepdim=True)
    encoder = decoder.clone().requires_grad_()
    decoder.requires_grad_()
    bias = torch.zeros(spec.latents, device=device, requires_grad=True)
    b_dec = (centre / scale).clone().requires_grad_()
    optimiser = torch.optim.Adam([encoder, decoder, bias, b_dec], lr=spec.learning_rate, betas=(0.9, 0.999))
    steps = max(1, spec.tokens // spec.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _rate(s, steps))
    silent = torch.zeros(spec.latents, dtype=torch.int64, device=device)  # tokens since the latent last fired
    half = min(width // 2, spec.latents)

    order = torch.empty(0, dtype=torch.int64)
    losses: list[float] = []
    for step in range(steps):
        if len(order) < spec.batch:
            order = torch.randperm(n, generator=generator)
        rows, order = order[: spec.batch].to(device), order[spec.batch :]
        x = activations[rows].float() / scale
        pre = torch.nn.functional.linear(x - b_dec, encoder, bias).relu()
        values, indices = pre.topk(spec.k, dim=-1, sorted=False)
        error = x - b_dec - _decode(values, indices, decoder)
        loss = error.pow(2).sum(1).mean() / variance
        fired = torch.zeros_like(silent, dtype=torch.bool)
        fired[indices[values > 0]] = True
        silent = torch.where(fired, 0, silent + spec.batch)
        dead = silent > spec.dead_after
        total = loss
        if bool(dead.any()):
            # The best silent latents explain what the live ones left over.
            candidates = pre.masked_fill(~dead, -1.0).topk(min(half, int(dead.sum())), dim=-1, sorted=False)
            leftover = _decode(candidates.values.clamp(min=0), candidates.indices, decoder)
            total = loss + spec.auxiliary * (leftover - error.detach()).pow(2).sum(1).mean() / variance
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_([encoder, decoder, bias, b_dec], 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            decoder /= decoder.norm(dim=1, keepdim=True)
        losses.append(float(loss.detach()))
        if not isfinite(losses[-1]):
            raise DataError(f"the loss is not finite after {step * spec.batch} tokens: lower the learning rate")
        if (step + 1) % max(1, steps // 100) == 0:
            report((step + 1) * spec.batch, sum(losses) / len(losses))
            losses.clear()
    # Fold the scale: relu((x/s - b) @ W.T + c) * s = relu((x - s b) @ W.T + s c).
    shift = b_dec.detach() * scale
    return SAE(
        encoder.detach(), bias.detach() * scale, k=spec.k, shift=shift, decoder=decoder.detach(), b_dec=shift
    )


def quality(sae: SAE, activations: torch.Tensor) -> Quality:
    """Measure `sae` on held-out activations of shape (n, d_in)."""
    import torch

    centre = activations.float().mean(0)
    unexplained = total = active = 0.0
    fired = torch.zeros(sae.n_latents, dtype=torch.bool, device=activations.device)
    for x in activations.split(4096):
        codes = sae.encode(x.float())
        unexplained += float((x.float() - sae.decode(codes, len(x))).pow(2).sum())
        total += float((x.float() - centre).pow(2).sum())
        active += len(codes.value)
        fired[codes.latent] = True
    n = len(activations)
    return Quality(n, unexplained / total, active / n, 1 - float(fired.float().mean()))


def _decode(values: torch.Tensor, indices: torch.Tensor, decoder: torch.Tensor) -> torch.Tensor:
    """Sum of the chosen decoder rows, shape (tokens, d_in)."""
    import torch

    return torch.nn.functional.embedding_bag(indices, decoder, per_sample_weights=values, mode="sum")


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate at `step`."""
    warm = max(1, steps // 20)
    return min(1.0, (step + 1) / warm, 3 * (steps - step) / steps)
