"""TopK sparse autoencoders in the layout EleutherAI's sparsify reads and writes.

One directory holds ``cfg.json`` and ``sae.safetensors`` with ``encoder.weight`` (latents, d_in), ``encoder.bias``
(latents,), ``W_dec`` (latents, d_in) and ``b_dec`` (d_in,). Encoding a residual-stream row x is::

    pre = relu((x - b_dec) @ encoder.weight.T + encoder.bias),   keep the k largest, drop those that are 0

which equals ``sparsify.SparseCoder.encode`` (eai-sparsify 1.3.3; Gao et al. 2024, arXiv 2406.04093).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from companysim.errors import WeightsError
from companysim.workspace import write, write_text

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "cfg.json"
TENSOR_FILE = "sae.safetensors"


@dataclass(frozen=True)
class TopKSAE:
    """Encoder (and, if loaded, decoder) of a TopK sparse autoencoder.

    Attributes
    ----------
    encoder : Tensor, shape (latents, d_in)
    bias : Tensor, shape (latents,)
    b_dec : Tensor, shape (d_in,)
    k : int
        Latents kept per token.
    decoder : Tensor of shape (latents, d_in) or None
        Needed for `decode` only.
    """

    encoder: torch.Tensor
    bias: torch.Tensor
    b_dec: torch.Tensor
    k: int
    decoder: torch.Tensor | None = None

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return int(self.encoder.shape[0])

    @property
    def width(self) -> int:
        """Width d_in of the residual stream the SAE reads."""
        return int(self.encoder.shape[1])

    def encode(self, x: torch.Tensor, chunk: int = 1024) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode residual-stream rows.

        Parameters
        ----------
        x : Tensor, shape (tokens, d_in)
        chunk : int
            Tokens encoded at once, so that at most ``chunk * latents`` pre-activations exist.

        Returns
        -------
        values, indices : Tensor, shape (tokens, k)
            Activations in falling order and their latents. Entries with value 0 are not active; their index has
            no meaning.
        """
        import torch

        parts = [self._encode(rows) for rows in x.to(self.encoder.dtype).split(chunk)]
        if not parts:
            return x.new_zeros(0, self.k), torch.zeros(0, self.k, dtype=torch.int64)
        return torch.cat([v for v, _ in parts]), torch.cat([i for _, i in parts])

    def _encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        pre = torch.nn.functional.linear(x - self.b_dec, self.encoder, self.bias).relu_()
        values, indices = pre.topk(self.k, dim=-1)
        return values, indices

    def decode(self, values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Reconstruct the residual stream, shape (tokens, d_in), from `encode`'s output."""
        if self.decoder is None:
            raise WeightsError("this SAE was loaded without its decoder: load it with decoder=True")
        import torch

        summed = torch.nn.functional.embedding_bag(indices, self.decoder, per_sample_weights=values, mode="sum")
        return summed + self.b_dec


def load_sae(path: str | Path, *, decoder: bool = False, device: str = "cpu") -> TopKSAE:
    """Read an SAE directory in sparsify's layout; fp16 and bf16 tensors become fp32.

    Parameters
    ----------
    path : path
        Directory with ``cfg.json`` and ``sae.safetensors``.
    decoder : bool
        Whether to read the decoder; encoding does not need it.

    Raises
    ------
    WeightsError
        If a file is missing or damaged, a shape or k does not fit, or the configuration asks for another activation
        than ``topk`` (``signed`` and transcoder checkpoints included: encoding them as TopK would be silently wrong).
    """
    import torch
    from safetensors import SafetensorError, safe_open

    folder = Path(path)
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        with safe_open(folder / TENSOR_FILE, framework="pt", device=device) as tensors:
            names = ["encoder.weight", "encoder.bias", "b_dec", *(["W_dec"] if decoder else [])]
            read = {name: tensors.get_tensor(name).to(torch.float32) for name in names}
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"cannot read an SAE from {folder} ({error}): it needs {CONFIG_FILE} and {TENSOR_FILE} as EleutherAI's "
            "sparsify writes them"
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("k"), int):
        raise WeightsError(f"{folder / CONFIG_FILE} states no k: it needs the keys that sparsify writes")
    unsupported = [key for key in ("signed", "transcode", "skip_connection") if config.get(key)]
    if config.get("activation", "topk") != "topk" or unsupported:
        what = ", ".join(unsupported) or f"activation {config['activation']}"
        raise WeightsError(f"the SAE in {folder} uses {what}: only plain TopK SAEs can be encoded")
    weight = read["encoder.weight"]
    if (
        weight.ndim != 2
        or read["encoder.bias"].shape != weight.shape[:1]
        or read["b_dec"].shape != weight.shape[1:]
        or read.get("W_dec", weight).shape != weight.shape
    ):
        raise WeightsError(f"the tensors of the SAE in {folder} do not fit each other: the file is damaged")
    if not 1 <= config["k"] <= len(weight):
        raise WeightsError(
            f"the SAE in {folder} has {len(weight)} latents but k is {config['k']}: {CONFIG_FILE} is wrong"
        )
    return TopKSAE(weight, read["encoder.bias"], read["b_dec"], config["k"], read.get("W_dec"))


def save_sae(sae: TopKSAE, path: str | Path, *, dtype: str = "float16") -> None:
    """Write `sae` as sparsify does, with all tensors in `dtype`."""
    import torch
    from safetensors.torch import save_file

    if sae.decoder is None:
        raise WeightsError("an SAE without its decoder cannot be saved: sparsify's layout holds both")
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    kind = getattr(torch, dtype)
    tensors = {
        "encoder.weight": sae.encoder,
        "encoder.bias": sae.bias,
        "W_dec": sae.decoder,
        "b_dec": sae.b_dec,
    }
    config = {
        "activation": "topk",
        "expansion_factor": 1,
        "normalize_decoder": True,
        "num_latents": sae.n_latents,
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.width,
    }
    ready = {name: tensor.to(kind).contiguous().cpu() for name, tensor in tensors.items()}
    write(folder / TENSOR_FILE, lambda temporary: save_file(ready, temporary))
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=1) + "\n")
