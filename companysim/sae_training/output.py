"""What training leaves behind: an SAE others can load, its configuration, its figures and a card.

TopK goes out in the layout of EleutherAI's sparsify, which has no thresholds; BatchTopK and JumpReLU SAEs go out in
that of sae-lens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from companysim.encoding.sae import SAE, save_sae
from companysim.encoding.sae_formats import CONFIG_FILE, SAE_LENS_FILE
from companysim.errors import RunError, WeightsError
from companysim.sae_training.checkpoint import reason
from companysim.sae_training.log import LOSS_CURVE
from companysim.workspace import write, write_text

FIGURES = "training.json"
CARD = "README.md"


def save_trained(sae: SAE, folder: Path, *, model: str, hooks: list[str], dtype: str = "float32") -> None:
    """Write an SAE.

    Parameters
    ----------
    sae : SAE
        As `companysim.sae_training.train` returns it.
    folder : path
    model : str
        Language model, as its configuration shall name it.
    hooks : list of str
        Modules it was trained on.
    dtype : str
        Of the tensors on disk; float32 keeps every bit.

    Raises
    ------
    RunError
        If it cannot be written.
    WeightsError
        If `dtype` cannot hold its values.
    """
    from safetensors import SafetensorError

    try:
        if sae.activation == "topk":
            save_sae(sae, folder, dtype=dtype)
        else:
            _save_as_sae_lens(sae, folder, model, hooks, dtype)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"cannot write the SAE to {folder} ({reason(error)}): free some space and run the same command again, "
            "which goes on from the checkpoint"
        ) from error


def _save_as_sae_lens(sae: SAE, folder: Path, model: str, hooks: list[str], dtype: str) -> None:
    import torch
    from safetensors.torch import save_file

    if sae.activation != "jumprelu" or sae.decoder is None or sae.b_dec is None or sae.threshold is None:
        raise WeightsError(f"a {sae.activation} SAE without decoder or threshold cannot be saved in sae-lens's layout")
    kind = getattr(torch, dtype)
    tensors = {
        "W_enc": sae.encoder.T,
        "b_enc": sae.bias,
        "W_dec": sae.decoder,
        "b_dec": sae.b_dec,
        "threshold": sae.threshold,
    }
    ready = {name: tensor.to(kind).contiguous().cpu() for name, tensor in tensors.items()}
    for name, tensor in ready.items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"{name} holds values that {dtype} cannot: save with float32")
    config = {
        "architecture": "jumprelu",
        "d_in": sae.width,
        "d_sae": sae.n_latents,
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.0.0",  # of the layout; without it sae-lens takes the keys for older ones
            "model_name": model,
            "hook_name": _lens_name(hooks),
            "prepend_bos": True,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / SAE_LENS_FILE, lambda temporary: save_file(ready, temporary))
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=1) + "\n")


def _lens_name(hooks: list[str]) -> str | None:
    """TransformerLens's name of a block's output; None for a group of layers or another module."""
    parent, _, index = hooks[0].rpartition(".")
    if len(hooks) > 1 or parent not in ("layers", "h") or not index.isdigit():
        return None
    return f"blocks.{index}.hook_resid_post"


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """Write the figures as ``training.json`` and, for people, ``README.md`` with the loss curve of ``loss.csv``.

    Parameters
    ----------
    folder : path
    facts : dict
        Flat: name to figure; ``spec`` may be a dict of its own.

    Raises
    ------
    RunError
        If they cannot be written.
    """
    try:
        write_text(folder / CARD, _card(folder, facts))
        write_text(folder / FIGURES, json.dumps(facts, indent=1) + "\n")  # last: it is what marks a finished run
    except OSError as error:
        raise RunError(
            f"cannot write the card to {folder} ({reason(error)}): free some space and run the same command again"
        ) from error


def _card(folder: Path, facts: dict[str, Any]) -> str:
    spec = facts.get("spec", {})
    shown = {name.replace("_", " "): value for name, value in facts.items() if name != "spec"}
    lines = [f"# Sparse autoencoder on {facts['model']}, {', '.join(facts['hooks'])}", ""]
    lines += ["| what | |", "|---|---|"]
    lines += [f"| {name} | {_shown(value)} |" for name, value in shown.items()]
    lines += ["", "Trained by `companysim sae train` with", "", "| setting | |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in spec.items()]
    curve = pd.read_csv(folder / LOSS_CURVE)
    lines += [
        "",
        "## Loss",
        "Mean fraction of variance unexplained in training, over the steps since the line before:",
        "",
    ]
    lines += ["| tokens | unexplained | L0 | dead |", "|---|---|---|---|"]
    for row in curve.iloc[:: max(1, len(curve) // 20)].itertuples():
        lines.append(f"| {row.tokens:,} | {row.unexplained:.4f} | {row.l0:.1f} | {row.dead_share:.2%} |")
    lines += [
        "",
        "The start token and massive activations (norms above five times their window's median) were left out of "
        "training: leave them out when encoding. The held-out figures are of documents of the same source.",
        "",
    ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | list):
        return "none" if value is None else str(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
