"""Vectors to similarities: estimators with ``fit`` and ``transform``."""

from companysim.config import SimilarityConfig
from companysim.similarity.cosine import Cosine, LogIdfCosine, PcaCosine, StandardisedCosine, fitted_arrays, restore

__all__ = [
    "Cosine",
    "LogIdfCosine",
    "PcaCosine",
    "StandardisedCosine",
    "fitted_arrays",
    "restore",
    "sae_similarity",
]


def sae_similarity(config: SimilarityConfig) -> Cosine | LogIdfCosine | PcaCosine:
    """Return the estimator a configuration chooses for SAE latents, not yet fitted."""
    kinds: dict[str, Cosine | LogIdfCosine | PcaCosine] = {
        "pca_cosine": PcaCosine(config.pca_variance),
        "log_idf_cosine": LogIdfCosine(),
        "cosine": Cosine(),
    }
    return kinds[config.sae]
