"""Baselines an SAE has to beat: sentence embeddings and TF-IDF."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from companysim.encoding.encode import clean, clean_all
from companysim.encoding.llm import quiet, split
from companysim.errors import DataError, WeightsError

_WINDOW = 256
_BATCH = 16


def embed(
    model: str,
    texts: Sequence[str],
    device: str = "cpu",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Mean-pooled, L2-normalised sentence embeddings.

    The mean runs over the last hidden states of all word pieces (Reimers and Gurevych 2019, arXiv 1908.10084).
    Texts longer than 256 word pieces are cut into windows whose embeddings are averaged, weighted by length.

    Parameters
    ----------
    model : str
        Local directory or hub id of an encoder that transformers loads.
    texts : sequence of str

    Returns
    -------
    ndarray, shape (texts, width), float32

    Raises
    ------
    WeightsError
        If the model cannot be loaded or is no encoder.
    DataError
        If there is no text, or one is empty after cleaning.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModel.from_pretrained(model).eval().to(device)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"cannot load the embedding model {model!r} ({str(error).splitlines()[0]})") from error
    begin, end, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    if begin is None or end is None or pad is None:
        raise WeightsError(
            f"the tokenizer of {model!r} has no cls, sep or pad token: give an encoder such as minilm-l6"
        )
    encoded = tokenizer(clean_all(texts), add_special_tokens=False, verbose=False)["input_ids"]
    pieces = [
        (row, [begin, *ids[start:stop], end])
        for row, ids in enumerate(encoded)
        for start, stop, _ in split(len(ids), _WINDOW - 2, 0)
    ]
    pieces.sort(key=lambda piece: -len(piece[1]))
    sums = np.zeros((len(texts), network.config.hidden_size))
    for first in range(0, len(pieces), _BATCH):
        batch = pieces[first : first + _BATCH]
        longest = len(batch[0][1])
        ids = torch.tensor([row + [pad] * (longest - len(row)) for _, row in batch], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for _, row in batch], device=device)
        with torch.inference_mode():
            hidden = network(input_ids=ids, attention_mask=mask).last_hidden_state
        totals = (hidden * mask.unsqueeze(-1)).sum(1).cpu().numpy()
        for (row, _), total in zip(batch, totals, strict=True):
            sums[row] += total
        report(min(first + _BATCH, len(pieces)), len(pieces))
    unit: np.ndarray = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
    return unit


def tfidf(texts: Sequence[str], fit_on: Sequence[str] | None = None) -> sp.csr_array:
    """TF-IDF with sublinear term frequency and English stop words, L2-normalised rows.

    Parameters
    ----------
    texts : sequence of str
        Texts to describe.
    fit_on : sequence of str, optional
        Texts that fix vocabulary and document frequencies; `texts` themselves by default.

    Raises
    ------
    DataError
        If the texts that fix the vocabulary hold no word that counts.
    """
    vectoriser = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    try:
        vectoriser.fit([clean(text) for text in (texts if fit_on is None else fit_on)])
    except ValueError as error:
        raise DataError("the texts hold only English stop words and signs: give texts with content") from error
    return sp.csr_array(vectoriser.transform([clean(text) for text in texts]))
