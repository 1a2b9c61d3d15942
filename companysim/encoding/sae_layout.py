"""What the tensors of an SAE checkpoint mean, checked against the headers before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from companysim.encoding.tensor_files import TensorSource
from companysim.errors import WeightsError

Architecture = Literal["topk", "groupmax", "relu", "jumprelu", "gated"]
Normalisation = Literal["none", "constant_norm", "layer_norm"]
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Layout:
    """What the tensors of one checkpoint mean.

    Attributes
    ----------
    format : str
        Name of the format.
    tensors : TensorSource
        Where they lie.
    architecture : str
        Activation function.
    k : int or None
        Latents a token keeps, for ``topk`` and ``groupmax``.
    encoder, bias, decoder, b_dec : str
        Names of the tensors; a gated SAE has ``b_gate``, ``b_mag`` and ``r_mag`` in place of the bias.
    encoder_rows, decoder_rows : bool
        Whether a row of the matrix is a latent, or a column.
    threshold : str, float or None
        Tensor or number a pre-activation must exceed (``jumprelu``), in the units of a scaled input.
    shifted : bool
        Whether b_dec is subtracted from the input.
    scale : float
        Factor of the input, to be folded into the weights.
    norm_weighted : bool
        Whether pre-activations are multiplied by the norms of the decoder's rows before the largest are chosen.
    normalise : str
        What is done to each token's vector first.
    hook, model : str or None
        Module of the transformers model the SAE reads, and the model, where the checkpoint says so.
    """

    format: str
    tensors: TensorSource
    architecture: Architecture
    k: int | None = None
    encoder: str = "W_enc"
    bias: str = "b_enc"
    decoder: str = "W_dec"
    b_dec: str = "b_dec"
    encoder_rows: bool = False
    decoder_rows: bool = True
    threshold: str | float | None = None
    shifted: bool = False
    scale: float = 1.0
    norm_weighted: bool = False
    normalise: Normalisation = "none"
    hook: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        """Check names, shapes and k by the header.

        Raises
        ------
        WeightsError
            If a tensor is missing, does not fit the others or holds no numbers, or k is impossible.
        """
        entries = self.tensors.entries
        missing = [name for name in self.needed if name not in entries]
        if missing:
            raise WeightsError(
                f"it has no tensor {missing[0]}, only {', '.join(entries) or 'none'}: the file is damaged or no "
                f"{self.format} checkpoint"
            )
        shape = entries[self.encoder].shape
        if len(shape) != 2 or 0 in shape:
            raise WeightsError(f"tensor {self.encoder} has shape {shape}, not latents by width: the file is damaged")
        expected = self._shapes()
        for name in (name for name in expected if name in entries):
            entry = entries[name]
            if entry.shape != expected[name] or entry.dtype not in _FLOATS:
                raise WeightsError(
                    f"tensor {name} is {entry.dtype} of shape {entry.shape} where {self.encoder} asks for floating "
                    f"point of shape {expected[name]}: the tensors do not fit each other"
                )
        if self.k is not None and not 1 <= self.k <= self.latents:
            raise WeightsError(f"it has {self.latents} latents but k is {self.k}: the configuration is wrong")
        if self.architecture == "groupmax" and self.latents % (self.k or 1):
            raise WeightsError(f"its {self.latents} latents do not split into k = {self.k} groups of equal size")

    @property
    def needed(self) -> list[str]:
        """Names of the tensors that encoding reads."""
        gate = ["b_gate", "b_mag", "r_mag"] if self.architecture == "gated" else [self.bias]
        threshold = [self.threshold] if isinstance(self.threshold, str) else []
        return [
            self.encoder,
            *gate,
            *threshold,
            *([self.b_dec] if self.shifted else []),
            *([self.decoder] if self.norm_weighted else []),
        ]

    @property
    def latents(self) -> int:
        """Number of latents."""
        return self.tensors.entries[self.encoder].shape[0 if self.encoder_rows else 1]

    @property
    def width(self) -> int:
        """Width d_in of the residual stream the SAE reads."""
        return self.tensors.entries[self.encoder].shape[1 if self.encoder_rows else 0]

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        latents, width = self.latents, self.width
        shapes: dict[str, tuple[int, ...]] = {
            self.encoder: (latents, width) if self.encoder_rows else (width, latents),
            self.decoder: (latents, width) if self.decoder_rows else (width, latents),
            self.b_dec: (width,),
        }
        vectors = [name for name in self.needed if name not in shapes]
        return shapes | {name: (latents,) for name in vectors}
