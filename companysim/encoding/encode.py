"""From texts to pooled vectors: residual stream -> SAE latents -> one sparse row per document.

Pooling sums each latent over the tokens of a document (the published choice); the plain mean of the same
residual stream is kept beside it, since whether the SAE is needed at all is a question the benchmark answers.
Documents go through in fixed blocks, each written to disk when done, so a killed run loses at most one block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import TopKSAE
from companysim.errors import DataError, RunError, WeightsError
from companysim.matrices import csr_arrays, csr_from, load_arrays, save_arrays
from companysim.workspace import BLOCK_PREFIX

BLOCK = 32
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\ufeff\ud800-\udfff]+")


@dataclass(frozen=True)
class Encoded:
    """Pooled vectors of documents.

    Attributes
    ----------
    latents : csr_array, shape (documents, latents), float32
        Sum of each latent's activation over the document's tokens.
    residual_mean : ndarray, shape (documents, d_in), float32
        Mean of the residual stream over the same tokens.
    tokens : ndarray of int64, shape (documents,)
        Tokens pooled.
    """

    latents: sp.csr_array
    residual_mean: np.ndarray
    tokens: np.ndarray


def clean(text: str) -> str:
    """Replace runs of white space, control and zero-width characters and lone surrogates by single spaces."""
    return _UNPRINTABLE.sub(" ", text).strip()


def clean_all(texts: Sequence[str]) -> list[str]:
    """Clean `texts`; raises `DataError` if there are none or one is empty afterwards."""
    cleaned = [clean(text) for text in texts]
    if not cleaned:
        raise DataError("there is no text to encode: give at least one")
    for number, text in enumerate(cleaned, start=1):
        if not text:
            raise DataError(f"text {number} of {len(cleaned)} is empty after cleaning: remove it or give its text")
    return cleaned


def encode(stream: ResidualStream, sae: TopKSAE, texts: Sequence[str]) -> Encoded:
    """Encode and pool documents.

    Parameters
    ----------
    stream : ResidualStream
    sae : TopKSAE
        Must read residual streams of the stream's width.
    texts : sequence of str

    Raises
    ------
    DataError
        If there is no text, or one is empty after cleaning or gives no tokens.
    WeightsError
        If the SAE does not fit the model.
    """
    if sae.width != stream.width:
        raise WeightsError(f"the SAE reads vectors of {sae.width} numbers but the model's are {stream.width} wide")
    cleaned = clean_all(texts)
    latents = np.zeros((len(cleaned), sae.n_latents))
    residual = np.zeros((len(cleaned), stream.width))
    tokens = np.zeros(len(cleaned), dtype=np.int64)
    for batch in stream.batches(stream.windows(cleaned)):
        for window, hidden in stream.activations(batch):
            values, indices = sae.encode(hidden)
            row = window.document
            # Sums in float64, so that the order of the windows cannot be seen in the float32 result.
            weights = values.cpu().numpy().astype(np.float64).ravel()
            latents[row] += np.bincount(indices.cpu().numpy().ravel(), weights, minlength=sae.n_latents)
            residual[row] += hidden.double().sum(0).cpu().numpy()
            tokens[row] += len(hidden)
    if not tokens.all():
        text = cleaned[int(tokens.argmin())]
        raise DataError(f"the text that begins {text[:40]!r} gives the language model no token: remove it")
    pooled = sp.csr_array(latents.astype(np.float32))
    return Encoded(pooled, (residual / tokens[:, None]).astype(np.float32), tokens)


def encode_in_blocks(
    load: Callable[[], tuple[ResidualStream, TopKSAE]],
    texts: Sequence[str],
    folder: Path,
    fingerprint: str,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Encoded:
    """Encode documents in fixed blocks, keeping each finished block in `folder`.

    Parameters
    ----------
    load : callable
        Returns the models; called only if a block is still missing.
    texts : sequence of str
        In the order of their ids, so that the composition of batches does not depend on arrival.
    folder : path
        Where blocks are kept. Blocks of another `fingerprint` are ignored and removed.
    fingerprint : str
        Identifies texts, models and code.
    report : callable
        Receives the number of documents done and in all.

    Raises
    ------
    DataError, WeightsError
        As `encode` does; empty texts are refused before the first block.
    """
    clean_all(texts)
    for stale in folder.glob(f"{BLOCK_PREFIX}*"):
        if not stale.name.startswith(f"{BLOCK_PREFIX}{fingerprint[:16]}-"):
            stale.unlink()
    blocks = []
    models = None
    for start in range(0, len(texts), BLOCK):
        path = folder / f"{BLOCK_PREFIX}{fingerprint[:16]}-{start:06d}.safetensors"
        try:
            arrays = load_arrays(path)
        except RunError:
            models = models or load()
            part = encode(*models, texts[start : start + BLOCK])
            arrays = {"residual_mean": part.residual_mean, "tokens": part.tokens, **csr_arrays(part.latents)}
            save_arrays(path, arrays)
        blocks.append(arrays)
        report(min(start + BLOCK, len(texts)), len(texts))
    return Encoded(
        sp.csr_array(sp.vstack([csr_from(block) for block in blocks])),
        np.concatenate([block["residual_mean"] for block in blocks]),
        np.concatenate([block["tokens"] for block in blocks]),
    )
