"""How well an SAE reconstructs activations it has not seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from companysim.encoding.sae import SAE

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
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
    density : ndarray, shape (latents,)
        Share of the tokens on which each latent fires.
    """

    tokens: int
    fraction_unexplained: float
    l0: float
    dead_share: float
    density: np.ndarray = field(repr=False)


def measure(sae: SAE, activations: torch.Tensor) -> Quality:
    """Measure `sae`, which must have its decoder, on held-out activations of shape (n, width)."""
    import torch

    unexplained = squares = 0.0
    total = torch.zeros(sae.width, dtype=torch.float64, device=activations.device)
    fires = torch.zeros(sae.n_latents, dtype=torch.int64, device=activations.device)
    for rows in activations.split(4096):
        codes = sae.encode(rows.float())
        x = sae.normalised(rows.float())
        unexplained += float((x - sae.decode(codes, len(x))).pow(2).sum())
        total += x.double().sum(0)
        squares += float(x.double().pow(2).sum())
        fires += torch.bincount(codes.latent, minlength=sae.n_latents)
    n = len(activations)
    density = fires.cpu().numpy() / n
    spread = squares - float(total.pow(2).sum()) / n
    return Quality(n, unexplained / spread, float(density.sum()), float((density == 0).mean()), density)
