"""The sparse autoencoder being trained, and its loss.

Rows come scaled to unit root mean square around their mean, x; the loss is the share of their variance left over::

    pre = (x - b_dec) W_enc' + b_enc          x_hat = z W_dec + b_dec        unexplained = mean |x - x_hat|^2 / width

    topk       z = the k largest of a token's relu(pre)                    Gao et al. 2024, arXiv 2406.04093
    batchtopk  z = the k * batch largest of a batch's relu(pre)            Bussmann et al. 2024, arXiv 2412.06410
    jumprelu   z = pre where pre > theta                                   Rajamanoharan et al. 2024, arXiv 2407.14435

TopK and BatchTopK are sparse by construction. JumpReLU adds ``sparsity * (L0 / k - 1)^2``, the penalty towards a wanted
number of active latents that its authors give beside their L0 penalty. In all three, latents silent for long add the
auxiliary loss of Gao et al.: the best of them are asked to explain what the living ones left over.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch

from companysim.sae_training.sparse import (
    jump_relu,
    largest_of_all,
    largest_of_each,
    product,
    sparse_decode,
    sparse_encode,
)
from companysim.sae_training.spec import TrainingSpec


class Start(NamedTuple):
    """Parameters to begin with, in units of scaled rows.

    Attributes
    ----------
    encoder, decoder : Tensor, shape (latents, width)
        Rows of the decoder have norm 1.
    bias : Tensor, shape (latents,)
    b_dec : Tensor, shape (width,)
    threshold : Tensor, shape (latents,), or None
        Of a JumpReLU SAE; by default it is set on the first batch, see `Coder.set_threshold`.
    """

    encoder: torch.Tensor
    bias: torch.Tensor
    decoder: torch.Tensor
    b_dec: torch.Tensor
    threshold: torch.Tensor | None = None


class Step(NamedTuple):
    """What one batch gives.

    Attributes
    ----------
    total : Tensor, shape ()
        To be minimised.
    unexplained : Tensor, shape ()
        Fraction of variance unexplained.
    active : Tensor, shape ()
        Mean number of active latents a token (L0).
    fired : Tensor of bool, shape (latents,)
        Latents that were active on some token.
    least : Tensor, shape ()
        Smallest active value.
    """

    total: torch.Tensor
    unexplained: torch.Tensor
    active: torch.Tensor
    fired: torch.Tensor
    least: torch.Tensor


def random_start(latents: int, centre: torch.Tensor, seed: int) -> Start:
    """Random unit vectors as decoder, its transpose as encoder, the mean of the rows as b_dec (Gao et al., appendix A).

    Parameters
    ----------
    latents : int
    centre : Tensor, shape (width,)
        Mean of the scaled rows.
    seed : int
    """
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.nn.functional.normalize(torch.randn(latents, len(centre), generator=generator), dim=1)
    return Start(decoder.clone(), torch.zeros(latents), decoder, centre.cpu().clone())


class Coder(torch.nn.Module):
    """Parameters of an SAE of the kind `spec` names; called with a batch it returns the loss.

    Parameters
    ----------
    spec : TrainingSpec
    start : Start
    """

    def __init__(self, spec: TrainingSpec, start: Start) -> None:
        super().__init__()
        self.spec = spec
        self.precision = getattr(torch, spec.precision)
        self.encoder = torch.nn.Parameter(start.encoder.clone())
        self.bias = torch.nn.Parameter(start.bias.clone())
        self.decoder = torch.nn.Parameter(start.decoder.clone())
        self.b_dec = torch.nn.Parameter(start.b_dec.clone())
        if spec.kind == "jumprelu":
            threshold = torch.ones_like(start.bias) if start.threshold is None else start.threshold
            self.log_threshold = torch.nn.Parameter(threshold.clamp(min=1e-6).log())

    def forward(self, x: torch.Tensor, dead: torch.Tensor) -> Step:
        """Loss of one batch.

        Parameters
        ----------
        x : Tensor, shape (tokens, width), float32
            Scaled rows.
        dead : Tensor of bool, shape (latents,)
            Latents silent for long.
        """
        width = x.shape[1]
        found, active, fired, least = self._jump(x) if self.spec.kind == "jumprelu" else self._largest(x)
        error = x - self.b_dec - found
        unexplained = error.pow(2).sum(1).mean() / width
        total = unexplained
        if self.spec.kind == "jumprelu":
            total = total + self.spec.sparsity * (active / self.spec.k - 1).pow(2)
        if self.spec.auxiliary and bool(dead.any()):
            leftover = self._from_dead(x, dead) - error.detach()
            total = total + self.spec.auxiliary * leftover.pow(2).sum(1).mean() / width
        return Step(total, unexplained.detach(), active.detach(), fired, least)

    def _largest(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Reconstruction less b_dec, L0, which fired, and the smallest value, of a TopK or BatchTopK SAE."""
        choose = partial(largest_of_each if self.spec.kind == "topk" else largest_of_all, k=self.spec.k)
        value, chosen = sparse_encode(x, self.encoder, self.bias, self.b_dec, choose, self.precision)
        positive = value.detach() > 0
        fired = torch.zeros_like(self.bias, dtype=torch.bool)
        fired[chosen.latent[positive]] = True
        least = torch.where(positive, value.detach(), float("inf")).amin()
        return sparse_decode(value, chosen, self.decoder), positive.sum() / len(x), fired, least

    def _jump(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the same of a JumpReLU SAE."""
        pre = product(x - self.b_dec, self.encoder, self.bias, self.precision)
        value, active = jump_relu(pre, self.log_threshold, self.spec.bandwidth)
        found = product(value, self.decoder.T, torch.zeros_like(x[0]), self.precision)
        return found, active.sum() / len(x), active.detach().any(0), self.log_threshold.detach().exp().amin()

    def _from_dead(self, x: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
        """Return what the best dead latents make of x, half as many as x is wide (Gao et al., appendix A.2)."""
        some = dead.nonzero().squeeze(1)
        pre = torch.nn.functional.linear(x - self.b_dec, self.encoder[some], self.bias[some])
        best = pre.topk(min(max(1, x.shape[1] // 2), len(some)), dim=1, sorted=False)
        return torch.nn.functional.embedding_bag(
            best.indices, self.decoder[some], mode="sum", per_sample_weights=best.values.relu()
        )

    @torch.no_grad()
    def normalise(self) -> None:
        """Bring the decoder's rows back to norm 1."""
        self.decoder.div_(self.decoder.norm(dim=1, keepdim=True).clamp(min=1e-8))

    @torch.no_grad()
    def set_threshold(self, x: torch.Tensor) -> None:
        """Set one threshold for all latents of a JumpReLU SAE at which k are active on average over the rows of x."""
        pre = torch.nn.functional.linear(x - self.b_dec, self.encoder, self.bias)
        least = pre.flatten().topk(self.spec.k * len(x), sorted=True).values[-1]
        self.log_threshold.fill_(least.clamp(min=1e-6).log())
