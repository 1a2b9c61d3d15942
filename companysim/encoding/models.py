"""The language model and the SAE a configuration names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from companysim.config import SAMPLE, EncoderConfig
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import TopKSAE, load_sae
from companysim.encoding.weights import resolve
from companysim.universe import bundled


def sae_path(config: EncoderConfig) -> Path:
    """Directory of the SAE a configuration names."""
    return bundled("sae") if config.sae == SAMPLE else Path(config.sae)


def load_models(
    config: EncoderConfig, say: Callable[[str], None] = lambda message: None
) -> tuple[ResidualStream, TopKSAE]:
    """Load the language model up to the hook, and the SAE's encoder.

    Parameters
    ----------
    config : EncoderConfig
    say : callable
        Receives one line before a download starts.
    """
    sae = load_sae(sae_path(config), device=config.device)
    stream = ResidualStream(
        resolve(config.model, say),
        config.hook,
        window=config.window,
        overlap=config.overlap,
        batch_tokens=config.batch_tokens,
        device=config.device,
        dtype=config.dtype,
    )
    return stream, sae
