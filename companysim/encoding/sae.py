"""Sparse autoencoders: dense residual-stream rows in, non-zero latents out.

One class covers the published kinds, since they differ only in which pre-activations survive::

    pre = encoder @ (x - shift) + bias
    topk       the k largest of a token, if positive              (Gao et al. 2024, arXiv 2406.04093)
    groupmax   the largest of each of k groups, if positive       (eai-sparsify)
    relu       all that are positive
    jumprelu   all that exceed their threshold and 0              (Rajamanoharan et al. 2024, arXiv 2407.14435)

What else a format asks for is folded into these tensors when it is read: a fixed scale of the input, decoder norms
that weight the choice, and the gate of a gated SAE (arXiv 2404.16014), whose magnitude is active where
``m > b_mag - exp(r_mag) b_gate``. `companysim.encoding.sae_formats` knows the formats.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from companysim.encoding.device import check_device, check_dtype
from companysim.encoding.sae_formats import CONFIG_FILE, SPARSIFY_FILE, read_layout, sae_lens_layout
from companysim.encoding.sae_layout import Layout, Normalisation
from companysim.encoding.tensor_files import MemoryTensors
from companysim.errors import NotFiniteError, WeightsError
from companysim.workspace import write, write_text

if TYPE_CHECKING:
    import torch

BUDGET = 64 * 2**20
"""Bytes of pre-activations that exist at once."""


class Codes(NamedTuple):
    """Non-zero activations of some tokens, flat.

    Attributes
    ----------
    token : Tensor of int64, shape (n,)
        Row of the encoded x, never falling.
    latent : Tensor of int64, shape (n,)
        Ascending within a token.
    value : Tensor of float32, shape (n,)
        Above 0.
    """

    token: torch.Tensor
    latent: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True, eq=False)
class SAE:
    """Encoder and, if loaded, decoder of a sparse autoencoder, for inference.

    Attributes
    ----------
    encoder : Tensor, shape (latents, d_in)
    bias : Tensor, shape (latents,)
    activation : {"topk", "groupmax", "relu", "jumprelu"}
    k : int or None
        Latents a token may keep (``topk``), or groups (``groupmax``).
    threshold : Tensor of shape (latents,) or (), or None
        What a pre-activation must exceed (``jumprelu``).
    shift : Tensor of shape (d_in,) or None
        Subtracted from the input; b_dec in most formats.
    normalise : {"none", "constant_norm", "layer_norm"}
        What is done to each row of the input first, see `normalised`.
    decoder : Tensor of shape (latents, d_in) or None
        Needed for `decode` only.
    b_dec : Tensor of shape (d_in,) or None
        Added to every reconstruction.
    hook : str or None
        Module of the transformers model whose output the SAE reads, such as ``layers.26``, if known.

    Raises
    ------
    WeightsError
        If the tensors do not fit each other, or the activation lacks its k or threshold.
    """

    encoder: torch.Tensor
    bias: torch.Tensor
    activation: Literal["topk", "groupmax", "relu", "jumprelu"] = "topk"
    k: int | None = None
    threshold: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    normalise: Normalisation = "none"
    decoder: torch.Tensor | None = None
    b_dec: torch.Tensor | None = None
    hook: str | None = None

    def __post_init__(self) -> None:
        latents, width = self.encoder.shape
        expected = {
            "bias": (latents,),
            "shift": (width,),
            "decoder": (latents, width),
            "b_dec": (width,),
            "threshold": (latents,),
        }
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape != shape and not (name == "threshold" and tensor.ndim == 0):
                raise WeightsError(
                    f"{name} of shape {tuple(tensor.shape)} does not fit an encoder of shape {(latents, width)}"
                )
        if self.activation in ("topk", "groupmax") and not (self.k and 1 <= self.k <= latents):
            raise WeightsError(f"{self.activation} over {latents} latents needs a k from 1 to {latents}, not {self.k}")
        if self.activation == "groupmax" and latents % (self.k or 1):
            raise WeightsError(f"{latents} latents do not split into k = {self.k} groups of equal size")
        if self.activation == "jumprelu" and self.threshold is None:
            raise WeightsError("a JumpReLU SAE needs a threshold")

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return int(self.encoder.shape[0])

    @property
    def width(self) -> int:
        """Width d_in of the residual stream the SAE reads."""
        return int(self.encoder.shape[1])

    def encode(self, x: torch.Tensor, budget: int = BUDGET) -> Codes:
        """Encode residual-stream rows.

        Parameters
        ----------
        x : Tensor, shape (tokens, d_in)
            In any floating dtype; converted to the encoder's.
        budget : int
            Bytes a matrix of tokens by latents may take. Rows go through in chunks that respect it, at least one at a
            time. A chunk's size may change the last bit of a value, since matrix products of different heights sum in
            different orders.

        Returns
        -------
        Codes
            Of latents that tie for the k-th place `torch.topk` keeps some; how many, and their values, are defined.
        """
        import torch

        chunk = max(1, budget // (self.n_latents * self.encoder.element_size()))
        with torch.no_grad():
            parts = [self._encode(rows) for rows in x.split(chunk)]
            starts = range(0, max(1, len(x)), chunk)
            return Codes(
                torch.cat([part.token + start for part, start in zip(parts, starts, strict=True)]),
                torch.cat([part.latent for part in parts]),
                torch.cat([part.value for part in parts]),
            )

    def _encode(self, rows: torch.Tensor) -> Codes:
        import torch

        x = self.normalised(rows.to(self.encoder.dtype))
        x = x if self.shift is None else x - self.shift
        pre = torch.nn.functional.linear(x, self.encoder, self.bias)
        if len(x) and not bool(pre.amax().isfinite()):  # a NaN would not pass `pre > 0` and so be lost in silence
            raise NotFiniteError(f"the SAE's activations are not finite in {pre.dtype}: use float32 or bfloat16")
        if self.activation in ("relu", "jumprelu"):
            active = pre > (0 if self.threshold is None else self.threshold.clamp(min=0))
            token, latent = active.nonzero(as_tuple=True)
            return Codes(token, latent, pre[token, latent].float())
        assert self.k is not None
        if self.activation == "topk":
            # No relu: the largest of the positive ones are the largest, and what is not positive is dropped below.
            value, latent = pre.topk(self.k, dim=1, sorted=False)
            latent, order = latent.sort(dim=1)
            value = value.gather(1, order)
        else:
            value, place = pre.unflatten(1, (self.k, -1)).max(dim=2)
            latent = place + torch.arange(0, self.n_latents, self.n_latents // self.k, device=place.device)
        kept = (value > 0).flatten().nonzero().squeeze(1)
        return Codes(kept // self.k, latent.flatten()[kept], value.flatten()[kept].float())

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Rows as the SAE models them: what `decode` reconstructs.

        ``constant_norm`` scales each row to norm sqrt(d_in); ``layer_norm`` is (x - mean) / (std + 1e-5) with the
        unbiased standard deviation of the row. Both as sae-lens does.
        """
        if self.normalise == "constant_norm":
            x = x * (self.width**0.5 / x.norm(dim=-1, keepdim=True))
        elif self.normalise == "layer_norm":
            x = x - x.mean(dim=-1, keepdim=True)
            x = x / (x.std(dim=-1, keepdim=True) + 1e-5)
        return x

    def decode(self, codes: Codes, tokens: int) -> torch.Tensor:
        """Reconstruct rows.

        Parameters
        ----------
        codes : Codes
        tokens : int
            Rows that were encoded.

        Returns
        -------
        Tensor, shape (tokens, d_in)
            In the units of `normalised`, which are those of the residual stream for most SAEs.

        Raises
        ------
        WeightsError
            If the SAE was loaded without its decoder.
        """
        import torch

        if self.decoder is None:
            raise WeightsError("this SAE was loaded without its decoder: load it with decoder=True")
        starts = torch.searchsorted(codes.token, torch.arange(tokens, device=codes.token.device))
        with torch.no_grad():
            summed = torch.nn.functional.embedding_bag(
                codes.latent, self.decoder, starts, mode="sum", per_sample_weights=codes.value.to(self.decoder.dtype)
            )
            return summed if self.b_dec is None else summed.add_(self.b_dec)


def load_sae(path: str | Path, *, decoder: bool = False, device: str = "cpu", dtype: str = "float32") -> SAE:
    """Read an SAE of any format `companysim.encoding.sae_formats` knows, recognised by its files.

    Parameters
    ----------
    path : path
        Directory of one SAE.
    decoder : bool
        Whether to read the decoder; encoding does not need it.
    device : str
    dtype : str
        What the tensors become: ``float32``, ``bfloat16`` or ``float16``.

    Raises
    ------
    ConfigError
        If device or dtype are unknown or not to be had here.
    WeightsError
        If there is no SAE, its files are damaged or do not fit each other, its tensors are not finite in `dtype`, or
        it is of a kind that cannot be encoded exactly (signed latents, transcoders, attention heads, ...).

    Notes
    -----
    On the CPU a tensor already of `dtype` stays in the file and is paged in as it is used; no second copy of the
    encoder is ever made.
    """
    check_device(device)
    check_dtype(dtype)
    layout = read_layout(path)
    try:
        return _assemble(layout, decoder, device, dtype)
    except WeightsError as error:
        raise WeightsError(f"cannot use the SAE in {path}: {error}") from error


def from_sae_lens(sae: Any) -> SAE:
    """Copy a live sae-lens object, decoder included, in its dtype and on its device.

    Parameters
    ----------
    sae : sae_lens.SAE
        As `sae_lens.SAE.from_pretrained` returns it; releases this package has no reader for come this way.

    Raises
    ------
    WeightsError
        If its architecture cannot be encoded exactly.
    """
    layout = sae_lens_layout(sae.cfg.to_dict(), MemoryTensors(sae.state_dict()))
    return _assemble(layout, True, str(sae.W_enc.device), str(sae.W_enc.dtype).removeprefix("torch."))


def save_sae(sae: SAE, path: str | Path, *, dtype: str = "float16") -> None:
    """Write `sae` as sparsify does, with all tensors in `dtype`.

    Raises
    ------
    WeightsError
        If sparsify's layout cannot hold the SAE, or `dtype` cannot hold its values.
    """
    import torch
    from safetensors.torch import save_file

    if sae.decoder is None or sae.b_dec is None:
        raise WeightsError("an SAE without its decoder cannot be saved: sparsify's layout holds both")
    shifted = sae.shift is not None and torch.equal(sae.shift, sae.b_dec)
    if sae.activation not in ("topk", "groupmax") or sae.normalise != "none" or not shifted:
        raise WeightsError(
            f"a {sae.activation} SAE cannot be saved as it encodes: sparsify's layout holds TopK and GroupMax SAEs "
            "that subtract b_dec from their input"
        )
    kind = getattr(torch, dtype)
    tensors = {"encoder.weight": sae.encoder, "encoder.bias": sae.bias, "W_dec": sae.decoder, "b_dec": sae.b_dec}
    ready = {name: tensor.to(kind).contiguous().cpu() for name, tensor in tensors.items()}
    for name, tensor in ready.items():
        if not _finite(tensor):
            raise WeightsError(
                f"{name} reaches {float(tensors[name].abs().max()):.4g}, which {dtype} cannot hold (limit "
                f"{torch.finfo(kind).max:.4g}): save with dtype='float32'"
            )
    config = {
        "activation": sae.activation,
        "expansion_factor": 1,
        "normalize_decoder": True,
        "num_latents": sae.n_latents,
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.width,
    }
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / SPARSIFY_FILE, lambda temporary: save_file(ready, temporary))
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=1) + "\n")


def _assemble(layout: Layout, decoder: bool, device: str, dtype: str) -> SAE:
    """Read the tensors a layout names and fold into them what the encoding need not know."""
    import torch

    kind = getattr(torch, dtype)

    def read(name: str) -> torch.Tensor:
        tensor = layout.tensors.read(name, device).to(kind)
        if not _finite(tensor):
            raise WeightsError(
                f"tensor {name} is not finite in {dtype}: the file is damaged, or its values need float32"
            )
        return tensor

    missing = [name for name in (layout.decoder, layout.b_dec) if decoder and name not in layout.tensors.entries]
    if missing:
        raise WeightsError(f"it has no tensor {missing[0]}: it can be encoded with, but not decoded")
    encoder = read(layout.encoder)
    encoder = encoder if layout.encoder_rows else encoder.T  # a view; a matrix product reads either as fast
    rows = read(layout.decoder) if decoder or layout.norm_weighted else None
    if rows is not None and not layout.decoder_rows:
        rows = rows.T.contiguous()
    b_dec = read(layout.b_dec) if decoder or layout.shifted else None
    shift = b_dec if layout.shifted else None
    threshold: torch.Tensor | None = None
    if isinstance(layout.threshold, str):
        threshold = read(layout.threshold)
    elif layout.threshold is not None:
        threshold = torch.tensor(layout.threshold, dtype=kind, device=device)
    if layout.architecture == "gated":
        grown = read("r_mag").exp()
        bias = read("b_mag")
        threshold = bias - grown * read("b_gate")
        encoder.mul_(grown[:, None])
    else:
        bias = read(layout.bias)
    if layout.norm_weighted:
        assert rows is not None
        norms = rows.norm(dim=1)
        encoder.mul_(norms[:, None])
        bias = bias * norms
        rows.div_(norms.clamp(min=1e-8)[:, None])
    if layout.scale != 1:
        encoder.mul_(layout.scale)
        rows = None if rows is None else rows.div_(layout.scale)
        b_dec = None if b_dec is None else b_dec / layout.scale
    return SAE(
        encoder,
        bias,
        "jumprelu" if layout.architecture == "gated" else layout.architecture,
        k=layout.k,
        threshold=threshold,
        shift=shift,
        normalise=layout.normalise,
        decoder=rows if decoder else None,
        b_dec=b_dec if decoder else None,
        hook=layout.hook,
    )


def _finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite, without a matrix of flags."""
    import torch

    return bool(tensor.sum(dtype=torch.float32 if tensor.dtype != torch.float64 else tensor.dtype).isfinite())
