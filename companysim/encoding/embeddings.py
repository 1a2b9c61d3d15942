"""Baselines an SAE has to beat, behind one interface: sentence embeddings and TF-IDF.

An encoder of documents is a small object with one method, ``encode(texts, report) -> matrix``, one row a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from companysim.encoding.encode import clean, clean_all
from companysim.encoding.llm import positions, quiet, split
from companysim.encoding.sentence_config import SentenceConfig, read_sentence_config
from companysim.errors import ConfigError, DataError, NotFiniteError, WeightsError

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls"]
Report = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Report nothing."""


class DocumentEncoder(Protocol):
    """What turns texts into vectors without an SAE."""

    def encode(self, texts: Sequence[str], report: Report = _silent) -> np.ndarray | sp.csr_array:
        """One row a text; `report` is called with what is done and the total, in units of the encoder's own."""
        ...


class _Piece(NamedTuple):
    """A window of a text: the row it belongs to and its token ids, special tokens included."""

    row: int
    ids: list[int]


@dataclass(frozen=True)
class SentenceEmbedding:
    """Pooled last hidden states of an encoder, as sentence-transformers pools them.

    With last hidden states h_t of the n tokens of a text, the special tokens its tokenizer adds included:

    ==== ==========================================================================
    mean sum_t h_t / n (Reimers and Gurevych 2019, arXiv 1908.10084)
    cls  h_1, the state of the special token in front
    ==== ==========================================================================

    A directory of sentence-transformers says itself which one it was trained for, how long an input may be and whether
    the vector is scaled to unit length; any other model gets the mean, as long as it has positions, and unit length.
    Nothing is truncated: a text longer than the window is cut into windows without overlap, each with its special
    tokens. Its vector is the mean of the windows' vectors weighted by their tokens, scaled to unit length afterwards;
    with mean pooling this is the mean over all its tokens.

    Parameters
    ----------
    model : str
        Local directory or hub id of a model that transformers loads without code of its own.
    pooling : {"mean", "cls"}, optional
        Overrides what the model says.
    window : int, optional
        Tokens of a window, special tokens included; the model's own maximum by default, and never more positions
        than it has.
    batch_tokens : int
        Upper limit of tokens, padding included, in one forward pass of more than one window.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    dtype : str
        ``float32``, ``bfloat16`` or ``float16``; pooling is in float32 at least.
    revision : str, optional
        Commit or tag of a hub id, so that a run can be repeated.
    """

    model: str
    pooling: Pooling | None = None
    window: int | None = None
    batch_tokens: int = 8192
    device: str = "cpu"
    dtype: str = "float32"
    revision: str | None = None

    def encode(self, texts: Sequence[str], report: Report = _silent) -> np.ndarray:
        """Embed `texts`; `report` counts windows.

        Returns
        -------
        ndarray, shape (texts, width), float32

        Raises
        ------
        WeightsError
            If the model cannot be loaded, or needs more than this class can do.
        ConfigError
            If the window holds special tokens only.
        DataError
            If there is no text, one is empty after cleaning, or the tokenizer finds no token in one.
        NotFiniteError
            If a vector is not finite, as float16 may overflow.
        """
        cleaned = clean_all(texts)
        tokenizer, network, config = self._load()
        pooling = self.pooling or config.pooling
        if pooling not in get_args(Pooling):
            raise WeightsError(
                f"the embedding model {self.model!r} pools by {pooling}, which is not implemented: choose a model that "
                "pools by mean or cls, or set pooling to one of them"
            )
        pieces = self._pieces(cleaned, tokenizer, network, config, pooling)
        sums = np.zeros((len(texts), network.config.get_text_config().hidden_size))
        tokens = np.zeros((len(texts), 1))
        pad = tokenizer.pad_token_id or 0
        done = 0
        for batch in _batches(pieces, self.batch_tokens):
            for (row, ids), total in zip(batch, self._forward(network, batch, pad, pooling), strict=True):
                sums[row] += total
                tokens[row] += len(ids)
            done += len(batch)
            report(done, len(pieces))
        vectors: np.ndarray = sums / tokens
        if config.normalise:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    def _load(self) -> tuple[Any, Any, SentenceConfig]:
        """Tokenizer, network and what the directory says about their use."""
        import torch
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        quiet()
        # Unless it is refused outright, transformers asks at a terminal whether to run a model's own code.
        settings: dict[str, Any] = {"revision": self.revision, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, **settings)
            network = AutoModel.from_pretrained(self.model, dtype=getattr(torch, self.dtype), **settings)
            folder = Path(self.model)
            if not folder.is_dir():
                folder = Path(snapshot_download(self.model, revision=self.revision, allow_patterns=["*.json"]))
        except (OSError, ValueError, HfHubHTTPError, SafetensorError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise WeightsError(f"cannot load the embedding model {self.model!r} ({reason})") from error
        if network.config.is_encoder_decoder:
            raise WeightsError(f"the embedding model {self.model!r} is an encoder-decoder: give an encoder")
        network.config.use_cache = False
        return tokenizer, network.eval().to(self.device), read_sentence_config(folder)

    def _pieces(
        self, texts: list[str], tokenizer: Any, network: Any, config: SentenceConfig, pooling: str
    ) -> list[_Piece]:
        """Windows of all texts, longest first."""
        if config.lower_case:
            texts = [text.lower() for text in texts]
        # A text that spells a special token means its characters.
        settings = {"split_special_tokens": True, "verbose": False}
        encoded = tokenizer(texts, add_special_tokens=False, **settings)["input_ids"]
        for number, ids in enumerate(encoded, start=1):
            if not ids:
                raise DataError(f"text {number} of {len(texts)} gives the embedding model no token: remove it")
        prefix, suffix = _surroundings(encoded[0], tokenizer(texts[0], **settings)["input_ids"])
        if pooling == "cls" and not prefix:
            raise WeightsError(
                f"the tokenizer of {self.model!r} puts no special token in front of a text, so none can be pooled by "
                "cls: use mean"
            )
        longest = self.window if self.window is not None else config.max_length or tokenizer.model_max_length
        window = min(longest, positions(network))
        room = window - len(prefix) - len(suffix)
        if room < 1:
            raise ConfigError(f"a window of {window} tokens holds no text beside the special tokens: raise it")
        pieces = [
            _Piece(row, [*prefix, *ids[start:stop], *suffix])
            for row, ids in enumerate(encoded)
            for start, stop, _ in split(len(ids), room, 0)
        ]
        # Among windows of one length the tokens decide, not the order of the texts.
        return sorted(pieces, key=lambda piece: (-len(piece.ids), piece.ids))

    def _forward(self, network: Any, batch: list[_Piece], pad: int, pooling: str) -> np.ndarray:
        """Pooled state of each window times its number of tokens, shape (windows, width)."""
        import torch

        longest = len(batch[0].ids)
        ids = torch.tensor([piece.ids + [pad] * (longest - len(piece.ids)) for piece in batch], device=self.device)
        lengths = torch.tensor([len(piece.ids) for piece in batch], device=self.device)
        mask = (torch.arange(longest, device=self.device) < lengths[:, None]).long()
        with torch.inference_mode():
            hidden: torch.Tensor = network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        totals = hidden[:, 0] * lengths[:, None] if pooling == "cls" else (hidden * mask.unsqueeze(-1)).sum(1)
        pooled: np.ndarray = totals.cpu().numpy()
        if not np.isfinite(pooled).all():
            raise NotFiniteError(
                f"the states of {self.model!r} are not finite in {self.dtype}: use float32, bfloat16 or other weights"
            )
        return pooled


@dataclass(frozen=True)
class Tfidf:
    """TF-IDF with sublinear term frequency and English stop words, L2-normalised rows (scikit-learn's formulas).

    Parameters
    ----------
    fit_on : sequence of str, optional
        Texts that fix vocabulary and document frequencies; the texts to encode themselves by default.
    """

    fit_on: Sequence[str] | None = None

    def encode(self, texts: Sequence[str], report: Report = _silent) -> sp.csr_array:
        """Describe `texts` by their words.

        Returns
        -------
        csr_array, shape (texts, words), float64

        Raises
        ------
        DataError
            If the texts that fix the vocabulary hold no word that counts.
        """
        vectoriser = TfidfVectorizer(sublinear_tf=True, stop_words="english")
        try:
            vectoriser.fit([clean(text) for text in (texts if self.fit_on is None else self.fit_on)])
        except ValueError as error:
            raise DataError("the texts hold only English stop words and signs: give texts with content") from error
        matrix = sp.csr_array(vectoriser.transform([clean(text) for text in texts]))
        report(len(texts), len(texts))
        return matrix


def _surroundings(bare: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer adds in front of a text's tokens and behind them."""
    at = next(start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
    return whole[:at], whole[at + len(bare) :]


def _batches(pieces: list[_Piece], budget: int) -> list[list[_Piece]]:
    """Group windows, given longest first, so that no batch of several exceeds the token budget."""
    batches: list[list[_Piece]] = []
    for piece in pieces:
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0].ids) <= budget:
            batches[-1].append(piece)
        else:
            batches.append([piece])
    return batches
