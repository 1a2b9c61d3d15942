"""Vectors to similarities: estimators with ``fit`` and ``transform``."""

from companysim.config import SimilarityConfig
from companysim.similarity.base import Similarity, fitted_arrays, restore
from companysim.similarity.cosine import Cosine, Jaccard, LogIdfCosine, SaturatedCosine
from companysim.similarity.pca import PcaCosine, StandardisedCosine
from companysim.similarity.supervised import SupervisedCosine
from companysim.similarity.tnic import read_tnic, tnic_similarity

__all__ = [
    "Cosine",
    "Jaccard",
    "LogIdfCosine",
    "PcaCosine",
    "SaturatedCosine",
    "Similarity",
    "StandardisedCosine",
    "SupervisedCosine",
    "fitted_arrays",
    "read_tnic",
    "restore",
    "sae_similarity",
    "tnic_similarity",
]


def sae_similarity(config: SimilarityConfig) -> Cosine | LogIdfCosine | PcaCosine:
    """Return the estimator a configuration chooses for SAE latents, not yet fitted."""
    kinds: dict[str, Cosine | LogIdfCosine | PcaCosine] = {
        "pca_cosine": PcaCosine(config.pca_variance),
        "log_idf_cosine": LogIdfCosine(),
        "cosine": Cosine(),
    }
    return kinds[config.sae]
