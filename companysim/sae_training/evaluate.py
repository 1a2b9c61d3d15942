"""Is an SAE good enough to stand in for the residual stream? Its reconstruction is patched into the language model.

Beside the reconstruction error on held-out text: how much of the model's prediction survives. With the cross-entropy of
the next token as it is (clean), with the reconstruction in place of the residual stream (patched) and with zeros there
(zero-ablated), the share recovered is ``(zero - patched) / (zero - clean)``, 1 for a perfect reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from companysim.encoding.encode import clean
from companysim.encoding.llm import Padded, ResidualStream, Window
from companysim.encoding.sae import SAE
from companysim.errors import DataError, WeightsError
from companysim.sae_training.quality import Quality, measure

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An SAE on held-out text.

    Attributes
    ----------
    hook : str
    quality : Quality
        Reconstruction error, L0, dead share and density of each latent.
    clean, patched, zero : float
        Cross-entropy of the next token in nats; NaN if the model has no language-model head.
    predictions : int
        Tokens predicted.
    """

    hook: str
    quality: Quality
    clean: float
    patched: float
    zero: float
    predictions: int

    @property
    def recovered(self) -> float:
        """Share of the cross-entropy recovered."""
        return (self.zero - self.patched) / (self.zero - self.clean)

    def histogram(self) -> pd.DataFrame:
        """Latents by the decade of the share of tokens they fire on: columns density and latents, densest last."""
        density = self.quality.density
        decade = np.floor(np.log10(density[density > 0])).astype(int)
        rows: list[dict[str, Any]] = [{"density": "never", "latents": int((density == 0).sum())}]
        for power in range(min(decade, default=0), 0):
            rows.append({"density": f"1e{power} to 1e{power + 1}", "latents": int((decade == power).sum())})
        rows[-1]["latents"] += int((decade == 0).sum())  # those that fire on every token
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON: those that are not numbers are None."""
        figures = {
            "hook": self.hook,
            "tokens": self.quality.tokens,
            "fraction_unexplained": self.quality.fraction_unexplained,
            "l0": self.quality.l0,
            "dead_share": self.quality.dead_share,
            "cross_entropy_clean": self.clean,
            "cross_entropy_patched": self.patched,
            "cross_entropy_zero": self.zero,
            "cross_entropy_recovered": self.recovered,
            "predictions": self.predictions,
        }
        known = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in figures.items()}
        return known | {"density": self.histogram().to_dict("records")}


def evaluate(
    sae: SAE,
    model: str,
    hook: str,
    texts: Sequence[str],
    *,
    revision: str | None = None,
    window: int = 512,
    batch_tokens: int = 2048,
    device: str = "cpu",
    dtype: str = "float32",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure an SAE on text it has not seen.

    Parameters
    ----------
    sae : SAE
        With its decoder.
    model : str
        Local directory or hub id.
    hook : str
        Module the SAE reads, such as ``layers.26``.
    texts : sequence of str
    revision, window, batch_tokens, device, dtype
        Of the language model, see `companysim.encoding.llm.ResidualStream`.
    report : callable
        Receives the number of batches done and in all.

    Returns
    -------
    Evaluation
        Start token and massive activations, which the SAE is not made for, are left as they are in every case.

    Raises
    ------
    DataError
        If the texts give no token.
    WeightsError
        If the SAE has no decoder, normalises each token, or does not fit the model.
    """
    import torch

    if sae.decoder is None or sae.normalise != "none":
        what = "was loaded without its decoder" if sae.decoder is None else "normalises each token"
        raise WeightsError(f"this SAE {what}, so its reconstruction cannot be put into the model: take another")
    stream = ResidualStream(
        model, hook, revision=revision, window=window, overlap=0, batch_tokens=batch_tokens, device=device, dtype=dtype
    )
    if sae.width != stream.width:
        raise WeightsError(f"the SAE reads vectors of {sae.width} numbers but the model's are {stream.width} wide")
    network = _with_head(model, revision, stream)
    batches = stream.batches(stream.windows([ids for ids, _ in stream.tokenise([clean(text) for text in texts])]))
    sums, predictions, rows = np.zeros(3), 0, []
    for done, batch in enumerate(batches, start=1):
        rows.append(stream.activations(batch).hidden.cpu())
        if network is not None:
            losses, count = _losses(network, stream, sae, batch)
            sums, predictions = sums + losses, predictions + count
        report(done, len(batches))
    if not rows or sum(map(len, rows)) < 2:
        raise DataError("the texts hold fewer than two tokens: give more text")
    clean_, patched, zero = (sums / predictions).tolist() if predictions else [float("nan")] * 3
    return Evaluation(hook, measure(sae, torch.cat(rows).to(sae.encoder.device)), clean_, patched, zero, predictions)


def _with_head(model: str, revision: str | None, stream: ResidualStream) -> Any:
    """Load the whole language model; None if its weights hold no head, as after `random_weights`, or none is due."""
    import torch
    from transformers import AutoModelForCausalLM

    if stream.special[1] is not None:  # an encoder predicts no next token
        return None
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        model,
        revision=revision,
        dtype=getattr(torch, stream.dtype),
        trust_remote_code=False,
        output_loading_info=True,
    )
    network, info = loaded
    if info["missing_keys"]:
        return None
    return network.eval().to(stream.device)


def _losses(network: Any, stream: ResidualStream, sae: SAE, batch: Sequence[Window]) -> tuple[np.ndarray, int]:
    """Sum the cross-entropy clean, patched and zero-ablated over the tokens of one batch, and count them."""
    import torch

    padded = stream.padded(batch)
    block = network.base_model.get_submodule(stream.hook)
    # Each token of the text is predicted from the one before it, the first from the start token.
    targets = torch.where(padded.counted, padded.ids, -100)[:, 1:]

    def loss(put: Callable[[torch.Tensor], torch.Tensor] | None) -> float:
        def replace(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = _replaced(hidden, stream, padded, put) if put is not None else hidden
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = block.register_forward_hook(replace)
        try:
            with torch.inference_mode():
                logits = network(input_ids=padded.ids, attention_mask=padded.mask, use_cache=False).logits
        finally:
            handle.remove()
        flat = logits[:, :-1].float().flatten(0, 1)
        return float(torch.nn.functional.cross_entropy(flat, targets.flatten(), ignore_index=-100, reduction="sum"))

    def reconstructed(rows: torch.Tensor) -> torch.Tensor:
        return sae.decode(sae.encode(rows), len(rows))

    return np.array([loss(None), loss(reconstructed), loss(torch.zeros_like)]), int((targets >= 0).sum())


def _replaced(
    hidden: torch.Tensor, stream: ResidualStream, padded: Padded, put: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    kept = stream.kept(hidden, padded)
    changed = hidden.clone()
    changed[kept] = put(hidden[kept]).to(hidden.dtype)
    return changed
