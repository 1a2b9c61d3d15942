"""The language model and the SAE a configuration names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from companysim.config import SAMPLE, EncoderConfig
from companysim.encoding.llm import ResidualStream, quiet
from companysim.encoding.sae import SAE, load_sae
from companysim.encoding.weights import REGISTRY, resolve
from companysim.errors import WeightsError
from companysim.universe import bundled
from companysim.workspace import fingerprint, fingerprint_of_path

FORMAT = 2
"""Raised when a change of code changes what is encoded; what older code wrote is then encoded again."""
_NOT_PART = {"embedding", "embedding_revision"}


def sae_path(config: EncoderConfig, say: Callable[[str], None] = lambda message: None) -> Path:
    """Directory of the SAE a configuration names; one on the hub is fetched once into the hub's own cache.

    Raises
    ------
    WeightsError
        If there is no such directory and the hub does not give it.
    """
    if config.sae == SAMPLE:
        return bundled("sae")
    path = Path(config.sae)
    repository = config.sae.split("/")
    if path.exists() or len(repository) < 2 or path.is_absolute():
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    quiet()
    name, inner = "/".join(repository[:2]), "/".join(repository[2:])
    say(f"fetching the SAE {config.sae} from the hub unless it is there already")
    try:
        root = snapshot_download(name, revision=config.sae_revision, allow_patterns=[f"{inner}/*"] if inner else None)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise WeightsError(
            f"no SAE {config.sae!r}: it is no directory here, and the hub does not give it "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    return Path(root) / inner


def load_models(
    config: EncoderConfig, say: Callable[[str], None] = lambda message: None
) -> tuple[ResidualStream, SAE]:
    """Load the language model up to the hook, and the SAE's encoder.

    Parameters
    ----------
    config : EncoderConfig
    say : callable
        Receives one line before a download starts.
    """
    sae = load_sae(sae_path(config, say), device=config.device, dtype=config.sae_dtype)
    stream = ResidualStream(
        resolve(config.model, say),
        config.hook,
        revision=config.revision,
        window=config.window,
        overlap=config.overlap,
        batch_tokens=config.batch_tokens,
        device=config.device,
        dtype=config.dtype,
    )
    return stream, sae


def encoder_settings(config: EncoderConfig) -> dict[str, Any]:
    """All that decides what a text is encoded to: settings, identity of the weights, version of the format."""
    model = REGISTRY[config.model] if config.model in REGISTRY else fingerprint_of_path(config.model)
    sae = fingerprint_of_path(bundled("sae") if config.sae == SAMPLE else config.sae)
    return {
        "format": FORMAT,
        "settings": config.model_dump(mode="json", exclude=_NOT_PART),
        "weights": fingerprint(model, sae),
    }
