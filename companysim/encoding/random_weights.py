"""A language model that has learned nothing: the control of what its sparse autoencoder finds.

SAEs find features that look interpretable in transformers of random weights too (Heap et al. 2025, arXiv 2501.17727).
If the latents of such a model group companies nearly as well, the grouping owes little to what the model understands.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from companysim.encoding.llm import quiet
from companysim.errors import WeightsError
from companysim.workspace import PARTIAL


def random_weights(model: str | Path, out: str | Path, seed: int = 0, *, revision: str | None = None) -> Path:
    """Write a model directory with the configuration and the tokenizer of `model` and freshly initialised weights.

    Weights are drawn by the architecture's own initialiser in transformers, the state before the first step of
    training: in Llama and most others every linear and embedding weight is N(0, ``initializer_range``^2) with the
    range of ``config.json``, biases are 0 and norms 1. (A GGUF file states no range, so models made from one have
    transformers' default, 0.02.) They are float32, without a language-model head.

    Parameters
    ----------
    model : path
        Local directory or hub id of any model that `companysim.encoding.llm.ResidualStream` reads.
    out : path
        Where the directory is written; it may exist if it is empty.
    seed : int
        The same seed gives the same bytes; torch's global random state is left alone.
    revision : str, optional
        Commit or tag of a hub id.

    Returns
    -------
    Path
        `out`, which can be given as ``encoder.model``.

    Raises
    ------
    WeightsError
        If `model` cannot be read, or `out` is not empty or cannot be written.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    quiet()
    final = Path(out)
    try:
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise WeightsError(f"{final} is not empty: choose another directory for the model of random weights")
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=final.parent) as scratch:
            config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
            ready = Path(scratch) / "ready"
            network.save_pretrained(ready)
            tokenizer.save_pretrained(ready)
            with contextlib.suppress(FileNotFoundError):
                final.rmdir()
            ready.rename(final)
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"cannot give {str(model)!r} random weights in {final} ({reason})") from error
    return final
