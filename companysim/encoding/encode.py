"""From texts to pooled vectors: residual stream -> SAE latents -> one sparse row per document.

The plain mean of the same residual stream is kept beside the latents, since whether the SAE is needed at all is a
question the benchmark answers. Nothing of size tokens x latents lives longer than one chunk: each batch of windows is
pooled at once, window by window, and windows are merged into documents.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from companysim.encoding.llm import ResidualStream, Window
from companysim.encoding.pooling import Entries, Pooled
from companysim.encoding.sae import BUDGET, SAE
from companysim.errors import DataError, NotFiniteError, WeightsError

_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\ufeff\ud800-\udfff]+")
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Encoded:
    """Documents after one pass through the language model and the SAE.

    Attributes
    ----------
    pooled : Pooled
        Latents; a document that failed has no entries and 0 tokens.
    residual_mean : ndarray, shape (documents, d_in), float32
        Mean of the residual stream over the pooled tokens.
    starts : list of ndarray of int32, shape (tokens + 1,)
        Character of the cleaned text at which each token of a document begins; the last is the text's length.
    failures : dict of int to str
        Documents that could not be encoded, with the reason.
    """

    pooled: Pooled
    residual_mean: np.ndarray
    starts: list[np.ndarray]
    failures: dict[int, str]


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


def encode(
    stream: ResidualStream,
    sae: SAE,
    texts: Sequence[str],
    *,
    latent_budget: int = BUDGET,
    report: Callable[[float], None] = lambda share: None,
) -> Encoded:
    """Encode and pool documents.

    A batch the device has no memory for is halved and tried again. A document that cannot be encoded (nothing in it
    but white space, activations that are not finite, a single window too large for the device) is recorded in
    `failures`; the others go on.

    Parameters
    ----------
    stream : ResidualStream
    sae : SAE
        Must read residual streams of the stream's width.
    texts : sequence of str
    latent_budget : int
        Bytes a block of tokens x latents may take while it is encoded; see `SAE.encode`.
    report : callable
        Receives the share of the tokens that is done, after each batch.

    Raises
    ------
    DataError
        If there is no text.
    WeightsError
        If the SAE does not fit the model.
    """
    if not texts:
        raise DataError("there is no text to encode: give at least one")
    if sae.width != stream.width:
        raise WeightsError(f"the SAE reads vectors of {sae.width} numbers but the model's are {stream.width} wide")
    cleaned = [clean(text) for text in texts]
    tokenised = stream.tokenise(cleaned)
    failures = {
        row: "the text gives the language model no token" if cleaned[row] else "the text is empty after cleaning"
        for row, (ids, _) in enumerate(tokenised)
        if not len(ids)
    }
    entries: list[Entries] = []
    residuals: list[tuple[int, int, int, np.ndarray]] = []
    queue = deque(stream.batches(stream.windows([ids for ids, _ in tokenised])))
    whole, done = sum(len(w.tokens) for batch in queue for w in batch), 0
    while queue:
        batch = queue.popleft()
        try:
            found, sums, tokens = _encode_batch(stream, sae, batch, latent_budget)
        except (NotFiniteError, MemoryError, RuntimeError) as error:
            reason = _reason(error)
            if reason is None:
                raise
            if len(batch) == 1:
                failures[batch[0].document] = reason
                done += len(batch[0].tokens)
            else:
                queue.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
            continue
        entries.append(found)
        residuals += [(w.document, w.start, n, s) for w, n, s in zip(batch, tokens, sums, strict=True)]
        done += sum(len(w.tokens) for w in batch)
        report(done / whole)
    pooled = _pooled(entries, len(texts), sae.n_latents, residuals, failures)
    residual = np.zeros((len(texts), stream.width))
    for document, _, _, total in sorted(residuals, key=lambda part: part[:2]):
        if document not in failures:
            residual[document] += total
    residual /= np.maximum(pooled.tokens, 1)[:, None]
    starts = [np.append(start, len(t)).astype(np.int32) for (_, start), t in zip(tokenised, cleaned, strict=True)]
    return Encoded(pooled, residual.astype(np.float32), starts, failures)


def _encode_batch(
    stream: ResidualStream, sae: SAE, batch: list[Window], budget: int
) -> tuple[Entries, np.ndarray, np.ndarray]:
    """Entries of one batch by document, and each window's summed residual stream and number of tokens."""
    import torch

    hidden, window, position = stream.activations(batch)
    token, latent, value = sae.encode(hidden, budget)
    if hidden.device.type == "mps":  # which has no float64
        hidden, window, position, token, latent, value = (
            t.cpu() for t in (hidden, window, position, token, latent, value)
        )
    ones = torch.ones_like(token)
    found = Entries(window[token], latent, value.double(), value, position[token], ones).pooled(sae.n_latents)
    tokens = torch.bincount(window, minlength=len(batch))
    sums = torch.segment_reduce(hidden.double(), "sum", lengths=tokens, axis=0, initial=0)
    document = torch.tensor([w.document for w in batch], device=window.device)
    found = Entries(document[found.group], found.latent, found.total, found.peak, found.token, found.count)
    return found, sums.cpu().numpy(), tokens.cpu().numpy()


def _pooled(
    entries: list[Entries],
    documents: int,
    latents: int,
    residuals: list[tuple[int, int, int, np.ndarray]],
    failures: dict[int, str],
) -> Pooled:
    """Merge the windows of each document and leave out the documents that failed."""
    tokens = np.zeros(documents, dtype=np.int64)
    for document, _, counted, _ in residuals:
        tokens[document] += counted
    failed = np.isin(np.arange(documents), list(failures))
    tokens[failed] = 0
    if not entries:
        real, whole = np.zeros(0, np.float32), np.zeros(0, np.int32)
        return Pooled(np.zeros(documents + 1, np.int64), whole, real, real, whole, whole, tokens, latents)
    merged = Entries.joined(entries).pooled(latents).moved("cpu")
    group = merged.group.numpy()
    kept = ~failed[group]
    return Pooled(
        indptr=np.concatenate([[0], np.cumsum(np.bincount(group[kept], minlength=documents))]),
        latent=merged.latent.numpy()[kept].astype(np.int32),
        total=merged.total.numpy()[kept].astype(np.float32),
        peak=merged.peak.numpy()[kept],
        count=merged.count.numpy()[kept].astype(np.int32),
        token=merged.token.numpy()[kept].astype(np.int32),
        tokens=tokens,
        n_latents=latents,
    )


def _reason(error: Exception) -> str | None:
    """Why a document fails, or None for an error that has nothing to do with the document."""
    import torch

    if isinstance(error, NotFiniteError):
        return str(error)
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return "one window does not fit into the device's memory: lower encoder.window"
    return None
