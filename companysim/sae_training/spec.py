"""Choices of one training run."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

from companysim.encoding.device import check_choice
from companysim.errors import ConfigError

Kind = Literal["topk", "batchtopk", "jumprelu"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainingSpec:
    """Choices of one training run.

    Attributes
    ----------
    kind : {"topk", "batchtopk", "jumprelu"}
        Which latents survive, see `companysim.sae_training.coder`.
    latents, k : int
        Width of the SAE, and latents kept per token: of every token (``topk``), on average over a batch
        (``batchtopk``), or as the target of the sparsity penalty (``jumprelu``).
    tokens : int
        Activations seen in all; the text is passed over as often as that needs.
    batch : int
        Activations a step, over all processes.
    learning_rate : float
        Peak of Adam's rate.
    warmup, decay : float
        Share of the steps over which the rate rises from 0, and share at the end over which it falls to 0, linearly.
    clip : float
        Norm to which the gradient is clipped.
    dead_after : int
        A latent that has not fired for this many activations counts as dead and takes part in the auxiliary loss.
    auxiliary : float
        Weight of the auxiliary loss (1/32 in Gao et al. 2024).
    sparsity : float
        Weight of the sparsity penalty (``jumprelu`` only).
    bandwidth : float
        Width of the kernel that estimates the threshold's gradient, as a share of the threshold (``jumprelu`` only).
    precision : {"float32", "bfloat16"}
        Of the matrix products with the encoder, and with a JumpReLU's decoder; all else stays in float32.
    seed : int

    Raises
    ------
    ConfigError
        If a choice is impossible.
    """

    kind: Kind = "topk"
    latents: int = 4096
    k: int = 32
    tokens: int = 4_000_000
    batch: int = 2048
    learning_rate: float = 3e-3
    warmup: float = 0.05
    decay: float = 1 / 3
    clip: float = 1.0
    dead_after: int = 200_000
    auxiliary: float = 1 / 32
    sparsity: float = 1.0
    bandwidth: float = 0.5
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(Kind))
        check_choice("precision", self.precision, get_args(Precision))
        if not 1 <= self.k <= self.latents:
            raise ConfigError(f"k is {self.k} of {self.latents} latents: choose a k from 1 to the number of latents")
        for name in ("tokens", "batch", "dead_after"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("learning_rate", "clip", "bandwidth"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be a positive number")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}: it must be 0 or a positive whole number")
        for name in ("auxiliary", "sparsity"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be 0 or a positive number")
        if not (0 <= self.warmup and 0 <= self.decay and self.warmup + self.decay <= 1):
            raise ConfigError(
                f"warmup {self.warmup} and decay {self.decay} must be shares of the steps that add up to at most 1"
            )

    @property
    def steps(self) -> int:
        """Number of steps."""
        return max(1, self.tokens // self.batch)

    def rate(self, step: int) -> float:
        """Learning rate at `step`, counted from 0: linear rise, plateau, linear fall to 0."""
        up = (step + 1) / max(1.0, self.warmup * self.steps)
        down = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, up, down)
