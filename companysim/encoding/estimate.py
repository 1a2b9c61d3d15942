"""How long a long run will take and how much it will write, measured on a few of its documents."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from companysim.encoding.encode import encode
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import BUDGET, SAE
from companysim.errors import DataError

_FIRST_CHARACTERS = 20_000
_GROWTH = 4
_LEAST = 8  # filings, so that one odd length does not decide


@dataclass(frozen=True)
class Estimate:
    """Size of an encoding run on one device.

    Attributes
    ----------
    filings : int
    tokens : int
        Tokens of all filings, from the measured ones' tokens per character.
    tokens_per_second : float
    hours : float
    gigabytes : float
        Disk the shards will take.
    measured_filings, measured_tokens : int
        What the figures rest on.
    """

    filings: int
    tokens: int
    tokens_per_second: float
    hours: float
    gigabytes: float
    measured_filings: int
    measured_tokens: int

    def summary(self) -> str:
        """Two lines for a terminal."""
        plural = "s" * (self.measured_filings != 1)
        time_ = f"{self.hours:.1f} hours" if self.hours >= 1 else f"{self.hours * 60:.1f} minutes"
        return (
            f"{self.filings:,} filings, about {self.tokens:,} tokens: {time_} on this device at "
            f"{self.tokens_per_second:,.0f} tokens/s, {self.gigabytes:.2f} GB on disk\n"
            f"(measured on {self.measured_filings} filing{plural} with {self.measured_tokens:,} tokens)"
        )


def estimate(
    stream: ResidualStream,
    sae: SAE,
    texts: Sequence[str],
    *,
    latent_budget: int = BUDGET,
    seconds: float = 5.0,
) -> Estimate:
    """Encode a few documents spread evenly over the lengths, more of them until it takes `seconds`.

    The first round also warms the device up; only the last one counts.

    Raises
    ------
    DataError, WeightsError
        As `encode`.
    """
    if not texts:
        raise DataError("there is no text to encode: give at least one")
    lengths = np.array([len(text) for text in texts])
    by_length = np.argsort(lengths, kind="stable")
    characters = _FIRST_CHARACTERS
    while True:
        count = int(np.clip(characters / max(lengths.mean(), 1), 1, len(texts)))
        rows = by_length[((np.arange(count) + 0.5) / count * len(texts)).astype(int)]
        started = time.perf_counter()
        encoded = encode(stream, sae, [texts[row] for row in rows], latent_budget=latent_budget)
        taken = time.perf_counter() - started
        if count == len(texts) or (taken >= seconds and count >= _LEAST):
            break
        characters *= _GROWTH
    pooled = encoded.pooled
    measured = int(pooled.tokens.sum())
    share = lengths[rows].sum() / max(lengths.sum(), 1)
    bytes_ = sum(getattr(pooled, name).nbytes for name in ("indptr", "latent", "total", "peak", "count", "token"))
    bytes_ += encoded.residual_mean.nbytes + sum(start.nbytes for start in encoded.starts)
    tokens = round(measured / share) if share else 0
    rate = measured / taken
    return Estimate(
        filings=len(texts),
        tokens=tokens,
        tokens_per_second=rate,
        hours=tokens / rate / 3600 if rate else 0.0,
        gigabytes=bytes_ / count * len(texts) / 1e9,
        measured_filings=count,
        measured_tokens=measured,
    )
