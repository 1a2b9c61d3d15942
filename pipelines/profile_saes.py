"""Small SAEs trained on the profiles' own tokens, at other depths and of other widths than the sample SAE.

Called by `profile_study.py`; needs the residual stream that `profile_vectors.py` keeps. They have seen no returns, but
they have seen every profile, which the sample SAE has not (it was trained on 10-K filings).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from companysim.encoding.training import TrainingSpec, train_topk
from profile_vectors import Latents, Tokens

from companysim.encoding.sae import save_sae


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
        spec = TrainingSpec(latents=own.latents, k=own.k, tokens=seen, seed=seed)

        def report(done: int, loss: float) -> None:
            if done * 10 % seen < 10 * spec.batch:  # ten times or so
                print(f"{own}: {done:,} of {seen:,} tokens, {loss:.3f} of the variance unexplained", flush=True)

        save_sae(train_topk(hidden[hidden.any(dim=1)], spec, report), path)
    return tokens.latents(own.block, path, path.with_suffix(".safetensors"))
