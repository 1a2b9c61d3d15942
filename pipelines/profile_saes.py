"""Small SAEs trained on the profiles' own tokens, at other depths and of other widths than the sample SAE.

Called by `profile_study.py`; needs the residual stream that `profile_vectors.py` keeps. They have seen no returns, but
they have seen every profile, which the sample SAE has not (it was trained on 10-K filings).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from profile_vectors import Latents, Tokens

from companysim.encoding.sae import save_sae
from companysim.sae_training.activations import StoredActivations
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.trainer import Record, train


@dataclass(frozen=True)
class Own:
    """An SAE to train.

    Attributes
    ----------
    block : int
        Depth, one of `profile_vectors.BLOCKS`.
    latents, k : int
    """

    block: int
    latents: int
    k: int

    def __str__(self) -> str:
        return f"own SAE, block {self.block}, {self.latents:,} latents, k {self.k}"


def own_latents(own: Own, tokens: Tokens, cache: Path, seen: int = 600_000, seed: int = 0) -> Latents:
    """Latents of an SAE trained on `seen` tokens of the profiles, the same ones over and over, or read from `cache`."""
    path = cache / f"sae-{own.block}-{own.latents}-{own.k}"
    if not path.is_dir():
        hidden = tokens.hidden(own.block)
        spec = TrainingSpec(latents=own.latents, k=own.k, tokens=seen, learning_rate=1e-3, seed=seed)

        def report(record: Record) -> None:
            print(f"{own}: {record.tokens:,} of {seen:,} tokens, {record.unexplained:.3f} unexplained", flush=True)

        save_sae(train(StoredActivations(hidden[hidden.any(dim=1)]), spec, report=report), path)
    return tokens.latents(own.block, path, path.with_suffix(".safetensors"))
