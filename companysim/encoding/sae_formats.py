"""Published SAE checkpoints: one function per format that says which tensor is what.

A layout is read from the configuration and the headers alone, so inspecting a checkpoint costs nothing and a damaged
or foreign one is refused before gigabytes move. `companysim.encoding.sae.load_sae` reads the tensors a layout names.

Formats, recognised by the file that holds the tensors:

======================  ==============================================  ===========================================
format                  files                                           encode
======================  ==============================================  ===========================================
sparsify                cfg.json, sae.safetensors                       TopK or GroupMax of relu(W (x - b_dec) + b)
Gemma Scope             params.npz                                      JumpReLU of W x + b
Gemma Scope 2           params.safetensors, config.json (if any)        JumpReLU of W x + b
Llama Scope             hyperparams.json, checkpoints/final.safetensors  JumpReLU of s W x + b, s = sqrt(d) / mean norm
sae-lens                cfg.json, sae_weights.safetensors               as its architecture says
======================  ==============================================  ===========================================
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from companysim.encoding.sae_layout import Layout, Normalisation
from companysim.encoding.tensor_files import NpzTensors, SafetensorsTensors, TensorSource
from companysim.errors import WeightsError

CONFIG_FILE = "cfg.json"
SPARSIFY_FILE = "sae.safetensors"
SAE_LENS_FILE = "sae_weights.safetensors"
_ANY_DEPTH = ("*", "*/*", "*/*/*")


def sparsify(folder: Path) -> Layout:
    """EleutherAI sparsify (eai-sparsify up to 1.3.3): ``cfg.json`` and ``sae.safetensors``, named after its hook."""
    config = read_config(folder / CONFIG_FILE)
    tensors = SafetensorsTensors(folder / SPARSIFY_FILE)
    refused = [key for key in ("signed", "transcode", "skip_connection") if config.get(key)]
    refused += ["W_skip"] if "W_skip" in tensors.entries else []
    if refused:
        raise WeightsError(
            f"it uses {', '.join(refused)}, which makes it no autoencoder of non-negative latents: take another SAE"
        )
    layout = Layout(
        "sparsify",
        tensors,
        _one_of(config.get("activation", "topk"), "activation", ("topk", "groupmax")),
        k=_whole(config, "k"),
        encoder="encoder.weight",
        bias="encoder.bias",
        encoder_rows=True,
        shifted=True,
        hook=_hook_of_folder(folder),
    )
    width, stated, factor = (config.get(key) or 0 for key in ("d_in", "num_latents", "expansion_factor"))
    if not all(isinstance(number, int) for number in (width, stated, factor)):
        raise WeightsError(f"d_in, num_latents or expansion_factor in {CONFIG_FILE} is no whole number: restore it")
    width = width or layout.width
    # 0 latents means d_in times the expansion factor; files older than the key mean the same.
    latents = stated or width * factor or layout.latents
    if (latents, width) != (layout.latents, layout.width):
        raise WeightsError(
            f"{CONFIG_FILE} states {latents} latents of width {width}, the tensors hold {layout.latents} of "
            f"{layout.width}: the two files are not of one SAE"
        )
    return layout


def gemma_scope(folder: Path) -> Layout:
    """Gemma Scope for Gemma 2 (``params.npz``). b_dec is not subtracted from the input."""
    return Layout(
        "Gemma Scope",
        NpzTensors(folder / "params.npz"),
        "jumprelu",
        threshold="threshold",
        **_of_gemma_folder(folder),
    )


def gemma_scope_2(folder: Path) -> Layout:
    """Gemma Scope 2 for Gemma 3 (``params.safetensors``, perhaps ``config.json``). b_dec is not subtracted."""
    config = read_config(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config.get("hf_hook_point_out", config.get("hf_hook_point_in")) != config.get("hf_hook_point_in"):
        raise WeightsError("it is a transcoder, which reconstructs another place than it reads: take an SAE")
    _one_of(config.get("architecture", "jump_relu"), "architecture", ("jump_relu",))
    place = _of_gemma_folder(folder)
    if isinstance(name := config.get("hf_hook_point_in"), str):
        place["hook"] = hook_of(name.removesuffix(".output"))
    return Layout(
        "Gemma Scope 2",
        SafetensorsTensors(folder / "params.safetensors"),
        "jumprelu",
        encoder="w_enc",
        decoder="w_dec",
        threshold="threshold",
        **place | {"model": config.get("model_name", place["model"])},
    )


def llama_scope(folder: Path) -> Layout:
    """Llama Scope: ``hyperparams.json`` and ``checkpoints/final.safetensors``.

    The SAE was trained on activations scaled to a mean norm of sqrt(d), ``s = sqrt(d) / norm`` with the file's
    ``dataset_average_activation_norm``; its threshold is stated in the units of raw activations and so is multiplied
    by s, as sae-lens's loader (contributed by the authors) does.
    """
    config = read_config(folder / "hyperparams.json")
    tensors = SafetensorsTensors(folder / "checkpoints" / "final.safetensors")
    if config.get("hook_point_out", config.get("hook_point_in")) != config.get("hook_point_in"):
        raise WeightsError("it is a transcoder, which reconstructs another place than it reads: take an SAE")
    refused = [key for key in ("use_glu_encoder", "apply_decoder_bias_to_pre_encoder") if config.get(key)]
    if refused:
        raise WeightsError(f"it uses {', '.join(refused)}, which no published Llama Scope SAE does: take another SAE")
    _one_of(config.get("act_fn", "jumprelu"), "act_fn", ("jumprelu",))
    _one_of(config.get("norm_activation", "dataset-wise"), "norm_activation", ("dataset-wise",))
    norms = config.get("dataset_average_activation_norm")
    norm = _positive(norms if isinstance(norms, dict) else {}, "in", "dataset_average_activation_norm")
    width = _whole(config, "d_model")
    scale = math.sqrt(width) / norm
    hook = config.get("hook_point_in")
    layout = Layout(
        "Llama Scope",
        tensors,
        "jumprelu",
        encoder="encoder.weight",
        bias="encoder.bias",
        decoder="decoder.weight",
        b_dec="decoder.bias",
        encoder_rows=True,
        decoder_rows=False,
        threshold=_positive(config, "jump_relu_threshold") * scale,
        scale=scale,
        hook=hook_of(hook) if isinstance(hook, str) else None,
        model="meta-llama/Llama-3.1-8B" if folder.resolve().name.startswith("Llama3_1-8B") else None,
    )
    if width != layout.width:
        raise WeightsError(
            f"hyperparams.json states a width of {width}, the tensors have {layout.width}: the two files are not of "
            "one SAE"
        )
    return layout


def sae_lens(folder: Path) -> Layout:
    """sae-lens's own format: ``cfg.json`` and ``sae_weights.safetensors``."""
    return sae_lens_layout(read_config(folder / CONFIG_FILE), SafetensorsTensors(folder / SAE_LENS_FILE))


def sae_lens_layout(config: Mapping[str, Any], tensors: TensorSource) -> Layout:
    """Layout of sae-lens tensors under a sae-lens configuration of any version since 2.

    Before version 6 the model and the hook stand beside the other keys, since then under ``metadata``; a TopK of old
    is a "standard" SAE whose activation function is ``topk``. BatchTopK SAEs are saved as JumpReLU.
    """
    metadata = config.get("metadata")
    where: Mapping[str, Any] = metadata if isinstance(metadata, dict) else config
    architecture = config.get("architecture", "standard")
    function = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    counts: Any = config
    if function == "topk":
        architecture, function, counts = "topk", "relu", config.get("activation_fn_kwargs") or config
    _one_of(function, "activation_fn", ("relu",))
    chosen = _one_of(architecture, "architecture", ("standard", "topk", "jumprelu", "gated"))
    if config.get("finetuning_scaling_factor") or config.get("reshape_activations", "none") not in ("none", None):
        what = "finetuning_scaling_factor" if config.get("finetuning_scaling_factor") else "reshape_activations"
        raise WeightsError(f"it uses {what}, which is not supported: take an SAE of the residual stream")
    model, hook = where.get("model_name"), where.get("hook_name", where.get("hook_point"))
    return Layout(
        "sae-lens",
        tensors,
        "relu" if chosen == "standard" else chosen,
        k=_whole(counts, "k") if chosen == "topk" else None,
        threshold="threshold" if chosen == "jumprelu" else None,
        shifted=bool(config.get("apply_b_dec_to_input", True)),
        norm_weighted=bool(config.get("rescale_acts_by_decoder_norm")),
        normalise=_normalisation(config.get("normalize_activations")),
        hook=hook_of(hook, model) if isinstance(hook, str) else None,
        model=model if isinstance(model, str) else None,
    )


FORMATS: dict[str, Callable[[Path], Layout]] = {
    SPARSIFY_FILE: sparsify,
    "params.npz": gemma_scope,
    "params.safetensors": gemma_scope_2,
    "checkpoints/final.safetensors": llama_scope,
    SAE_LENS_FILE: sae_lens,
}
"""Readers of the known formats, by the file that only this format has."""


def read_layout(path: str | Path) -> Layout:
    """Recognise the checkpoint in a directory and read its configuration and headers.

    Parameters
    ----------
    path : path
        Directory of one SAE.

    Raises
    ------
    WeightsError
        If there is no checkpoint, there are several in its subdirectories, or it is damaged or of a kind that cannot be
        encoded exactly.
    """
    folder = Path(path)
    found = [name for name in FORMATS if (folder / name).is_file()]
    if not found:
        raise WeightsError(_nothing_in(folder))
    try:
        return FORMATS[found[0]](folder)
    except WeightsError as error:
        raise WeightsError(f"cannot use the SAE in {folder}: {error}") from error


def hook_of(name: str, model: str | None = None) -> str | None:
    """Translate where an SAE reads into the transformers module that puts it out.

    Parameters
    ----------
    name : str
        TransformerLens's name, such as ``blocks.12.hook_resid_post``, or a module name.
    model : str, optional
        Name of the language model: GPT-2 calls its blocks ``h``.

    Returns
    -------
    str or None
        Such as ``layers.12``; the input of block L is the output of block L - 1. None for a place that is no module's
        output in every architecture (attention and MLP outputs of TransformerLens).

    Examples
    --------
    >>> hook_of("blocks.12.hook_resid_post"), hook_of("blocks.12.hook_resid_pre"), hook_of("blocks.12.hook_mlp_out")
    ('layers.12', 'layers.11', None)
    """
    gpt2 = model is not None and "gpt2" in model.lower()
    if match := re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", name):
        block = int(match[1]) - (match[2] == "pre")
        if block >= 0:
            return f"{'h' if gpt2 else 'layers'}.{block}"
        return None if gpt2 else "embed_tokens"  # GPT-2's first block reads embeddings plus positions
    if name == "hook_embed":
        return "wte" if gpt2 else "embed_tokens"
    match = re.fullmatch(r"(?:model\.|transformer\.)?((?:layers|h)\.\d+(?:\.\w+)*|embed_tokens|wte)", name)
    return match[1] if match else None


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `WeightsError`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read {path.name} ({error}): restore it") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path.name} holds no JSON object: restore it")
    return config


def _hook_of_folder(folder: Path) -> str | None:
    """Read the hook off the folder's name, or off its parent's where seeds have folders of their own."""
    place = folder.resolve()
    return hook_of(place.name) or (hook_of(place.parent.name) if place.name.startswith("seed") else None)


def _of_gemma_folder(folder: Path) -> dict[str, Any]:
    """Read hook and model off Gemma Scope's folders (``gemma-scope-2b-pt-res/.../layer_20/width_16k/...``)."""
    parts = folder.resolve().parts[-6:]
    if "embedding" in parts:
        raise WeightsError("it reads Gemma's embeddings at another scale than the model puts out: take another layer")
    path = "/".join(parts).lower()
    if re.search(r"transcoder|/clt", path):
        raise WeightsError("it is a transcoder, which reconstructs another place than it reads: take an SAE")
    layers = re.findall(r"layer_(\d+)", path)
    residual = not re.search(r"-att|-mlp|attn_out|mlp_out", path)
    size = re.search(r"gemma-scope-(\d+b)-(pt|it)", path)
    return {
        "hook": f"layers.{layers[-1]}" if layers and residual else None,
        "model": f"google/gemma-2-{size[1]}{'-it' if size[2] == 'it' else ''}" if size else None,
    }


def _normalisation(value: object) -> Normalisation:
    """sae-lens's ``normalize_activations``, of any version."""
    if value in (None, False, "none"):
        return "none"
    if value == "constant_norm_rescale":
        return "constant_norm"
    if value == "layer_norm":
        return "layer_norm"
    raise WeightsError(
        f"its normalize_activations is {value!r} and the checkpoint does not hold the factors: fold them with sae-lens "
        "(fold_activation_norm_scaling_factor or fold_activation_whitening) and save it again"
    )


def _one_of(value: object, key: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise WeightsError(f"its {key} is {value!r}: only {', '.join(known)} can be encoded")
    return value


def _whole(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key) if isinstance(config, Mapping) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise WeightsError(f"its configuration states no whole number {key}: restore the file")
    return value


def _positive(config: Mapping[str, Any], key: str, name: str | None = None) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise WeightsError(f"its configuration states no positive number {name or key}: restore the file")
    return float(value)


def _nothing_in(folder: Path) -> str:
    """Say what a folder without a checkpoint of its own holds instead."""
    known = ", ".join(FORMATS)
    if not folder.exists():
        return f"no folder {folder}: give the directory of an SAE, which holds one of {known}"
    nested: set[str] = set()
    for pattern in _ANY_DEPTH:
        nested |= {
            str(place.relative_to(folder))
            for place in folder.glob(pattern)
            if any((place / name).is_file() for name in FORMATS)
        }
    if nested:
        names = sorted(nested, key=lambda name: [int(n) for n in re.findall(r"\d+", name)] or [-1])
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        return f"{folder} holds {len(names)} SAE{'s' * (len(names) > 1)} in subfolders ({shown}): give one of them"
    return f"{folder} holds no SAE: give a directory with one of {known}"
