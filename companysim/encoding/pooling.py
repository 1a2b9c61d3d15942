"""Pooling: from latents that fire on tokens to one sparse row a document.

Sum, maximum and count of active tokens are kept together, so that a change of pool needs no second pass through the
language model, and beside each entry the position of the token on which the latent fires most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from companysim.config import Pool

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Entries:
    """Latents pooled within groups (windows, then documents): one entry for each group and latent that fires in it.

    Entries are ordered by group, then latent. All are tensors of one length.

    Attributes
    ----------
    group, latent : int64
    total : float64
        Sum of the activations.
    peak : float32
        Largest activation.
    token : int64
        Position in the document of the first token with the largest activation.
    count : int64
        Tokens on which the latent fires.
    """

    group: torch.Tensor
    latent: torch.Tensor
    total: torch.Tensor
    peak: torch.Tensor
    token: torch.Tensor
    count: torch.Tensor

    def pooled(self, latents: int) -> Entries:
        """Merge entries of the same group and latent. The result does not depend on the order of the entries."""
        import torch

        if not len(self.token):
            return self
        key = self.group * latents + self.latent
        # Tokens in order too, so that float64 sums are always taken the same way.
        order = torch.argsort(key * (self.token.max() + 1) + self.token)
        key, lengths = torch.unique_consecutive(key[order], return_counts=True)
        peaks = self.peak[order]
        peak = torch.segment_reduce(peaks, "max", lengths=lengths)
        at_peak = peaks == torch.repeat_interleave(peak, lengths)
        token = self.token[order].double().masked_fill(~at_peak, float("inf"))
        return Entries(
            group=key // latents,
            latent=key % latents,
            total=torch.segment_reduce(self.total[order], "sum", lengths=lengths),
            peak=peak,
            token=torch.segment_reduce(token, "min", lengths=lengths).long(),
            count=torch.segment_reduce(self.count[order].double(), "sum", lengths=lengths).long(),
        )

    def moved(self, device: str | torch.device) -> Entries:
        """Return the same entries on another device."""
        return Entries(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: list[Entries]) -> Entries:
        """Concatenate entries."""
        import torch

        return Entries(*(torch.cat([getattr(p, name) for p in parts]) for name in Entries.__dataclass_fields__))


@dataclass(frozen=True)
class Pooled:
    """Pooled latents of documents as the arrays of one CSR structure.

    Attributes
    ----------
    indptr : ndarray of int64, shape (documents + 1,)
    latent : ndarray of int32, shape (entries,)
        Column of each entry, ascending within a document.
    total, peak : ndarray of float32, shape (entries,)
        Sum and maximum of the latent's activation over the document's tokens.
    count, token : ndarray of int32, shape (entries,)
        Tokens on which the latent fires; position of the first one where it is largest.
    tokens : ndarray of int64, shape (documents,)
        Tokens pooled.
    n_latents : int
    """

    indptr: np.ndarray
    latent: np.ndarray
    total: np.ndarray
    peak: np.ndarray
    count: np.ndarray
    token: np.ndarray
    tokens: np.ndarray
    n_latents: int

    def matrix(self, pool: Pool = "sum") -> sp.csr_array:
        """One row a document.

        With activations ``a_t`` of a latent on the n tokens of a document:

        ========== =================================================
        sum        sum_t a_t, the published choice
        mean       sum_t a_t / n
        max        max_t a_t
        count      number of t with a_t > 0
        log_length sum_t a_t / n * log(1 + n), a sum that grows with the logarithm of the length only
        ========== =================================================

        Returns
        -------
        csr_array, shape (documents, n_latents), float32
        """
        values = {"max": self.peak, "count": self.count}.get(pool, self.total).astype(np.float32)
        if pool in ("mean", "log_length"):
            length = np.maximum(self.tokens, 1)  # a document that failed has no entries
            scale = (1 if pool == "mean" else np.log1p(length)) / length
            values = (values * np.repeat(scale, np.diff(self.indptr))).astype(np.float32)
        return sp.csr_array((values, self.latent, self.indptr), shape=(len(self.tokens), self.n_latents))

    def rows(self, order: np.ndarray) -> Pooled:
        """Documents in another order."""
        lengths = np.diff(self.indptr)[order]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        take = np.repeat(self.indptr[order] - indptr[:-1], lengths) + np.arange(indptr[-1])
        entries = {name: getattr(self, name)[take] for name in ("latent", "total", "peak", "count", "token")}
        return replace(self, indptr=indptr, tokens=self.tokens[order], **entries)

    @staticmethod
    def stacked(parts: list[Pooled]) -> Pooled:
        """Documents of several parts below each other."""
        offsets = np.cumsum([0, *(part.indptr[-1] for part in parts)])
        indptr = [np.zeros(1, dtype=np.int64), *(p.indptr[1:] + o for p, o in zip(parts, offsets, strict=False))]
        names = ("latent", "total", "peak", "count", "token", "tokens")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return Pooled(indptr=np.concatenate(indptr), n_latents=parts[0].n_latents, **joined)
