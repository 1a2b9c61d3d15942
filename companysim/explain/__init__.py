"""Why companies are alike: what latents are about, and which ones two companies share."""

from companysim.explain.terms import latent_terms, shared_latents, unit_latents

__all__ = ["latent_terms", "shared_latents", "unit_latents"]
