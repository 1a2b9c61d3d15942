"""An SAE checkpoint at a glance, without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companysim.encoding.sae_formats import read_layout


@dataclass(frozen=True)
class SAEInfo:
    """A checkpoint at a glance.

    Attributes
    ----------
    format : str
    latents, width : int
    activation : str
        ``topk``, ``groupmax``, ``relu``, ``jumprelu`` or ``gated``.
    k : int or None
    threshold : (float, float) or None
        Smallest and largest threshold of a JumpReLU SAE, in the units its latents have here.
    input : str
        What is encoded, in terms of the residual stream x.
    hook, model : str or None
        Where the SAE reads, if the checkpoint says so.
    dtype : str
        Of the encoder on disk.
    tensors : dict of str to tuple of int
        Shapes.
    bytes : int
        Size of all tensors.
    decoder : bool
        Whether the checkpoint holds the decoder.
    """

    format: str
    latents: int
    width: int
    activation: str
    k: int | None
    threshold: tuple[float, float] | None
    input: str
    hook: str | None
    model: str | None
    dtype: str
    tensors: dict[str, tuple[int, ...]]
    bytes: int
    decoder: bool


def inspect_sae(path: str | Path) -> SAEInfo:
    """Describe the SAE in a directory from its configuration and headers; only thresholds are read.

    Raises
    ------
    WeightsError
        As `load_sae` does.
    """
    layout = read_layout(path)
    threshold: Any = layout.threshold
    if isinstance(threshold, str):
        values = layout.tensors.read(threshold).float()
        threshold = float(values.min()), float(values.max())
    elif threshold is not None:
        threshold = threshold, threshold
    x = {"none": "x", "constant_norm": "sqrt(d) x / |x|", "layer_norm": "(x - mean) / std"}[layout.normalise]
    x = f"{layout.scale:.4g} {x}" if layout.scale != 1 else x
    entries = layout.tensors.entries
    return SAEInfo(
        format=layout.format,
        latents=layout.latents,
        width=layout.width,
        activation=layout.architecture,
        k=layout.k,
        threshold=threshold,
        input=f"{x} - b_dec" if layout.shifted else x,
        hook=layout.hook,
        model=layout.model,
        dtype=entries[layout.encoder].dtype,
        tensors={name: entry.shape for name, entry in entries.items()},
        bytes=sum(entry.bytes for entry in entries.values()),
        decoder=layout.decoder in entries,
    )
