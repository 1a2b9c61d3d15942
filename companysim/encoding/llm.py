"""The residual stream of a language model, decoder or encoder, at one depth, and nothing that lies beyond it.

Only the blocks up to the hook run: a forward hook on the chosen block takes its output and ends the pass, the
later blocks are dropped after loading, and no language-model head or list of hidden states ever exists.
``layers.i`` names the output of block i counted from 0 (``hidden_states[i + 1]`` in transformers' terms).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from companysim.encoding.device import check_device, check_dtype
from companysim.errors import ConfigError, NotFiniteError, WeightsError

if TYPE_CHECKING:
    import torch


class _PassEnded(Exception):
    """Raised by the hook with the wanted block's output."""


@dataclass(frozen=True)
class Window:
    """A run of tokens of one document that fits the model's context.

    Attributes
    ----------
    document : int
        Index of the document in the list given to `ResidualStream.tokenise`.
    tokens : ndarray of int64, shape (n,)
        Token ids, without any special token.
    start : int
        Position of the first token in the document.
    skip : int
        The first `skip` tokens are context repeated from the previous window and are not counted again.
    """

    document: int
    tokens: np.ndarray
    start: int
    skip: int


class Activations(NamedTuple):
    """Residual-stream rows of a batch of windows, in the order of the windows and their tokens.

    Attributes
    ----------
    hidden : Tensor, shape (n, width), float32
    window : Tensor of int64, shape (n,)
        Window of each row, as an index into the batch.
    position : Tensor of int64, shape (n,)
        Position of each row's token in its document.
    """

    hidden: torch.Tensor
    window: torch.Tensor
    position: torch.Tensor


class Padded(NamedTuple):
    """A batch of windows as the model takes it, all of shape (windows, tokens).

    Attributes
    ----------
    ids, mask : Tensor of int64
        Token ids, and 1 where there is a token rather than padding.
    counted : Tensor of bool
        Tokens of the documents, each once: no special tokens, no padding, no repeated context.
    position : Tensor of int64
        Position of each token in its document.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    counted: torch.Tensor
    position: torch.Tensor


class ResidualStream:
    """Reads the residual stream of a decoder or an encoder after one block.

    Each window begins with the tokenizer's start token; an encoder's window also ends with its separator. Neither is
    ever counted.

    Parameters
    ----------
    model : str
        Local directory or hub id (see `companysim.encoding.weights.resolve`).
    hook : str
        Module whose output is read, such as ``layers.26``.
    revision : str, optional
        Commit or tag of a hub id, so that a run can be repeated.
    window : int
        Tokens a window holds, special tokens included.
    overlap : int
        Tokens of left context a window repeats from the one before it.
    batch_tokens : int
        Upper limit of tokens, padding included, in one forward pass.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    dtype : str
        ``float32``, ``bfloat16`` or ``float16``.
    massive : float
        Tokens whose residual norm exceeds this multiple of their window's median are left out. A few tokens in ten
        thousand act as attention sinks with norms 15 to 50 times the median ("massive activations", Sun et al. 2024,
        arXiv 2402.17762); a sum over tokens would be theirs alone.

    Raises
    ------
    ConfigError
        If the overlap does not fit the window, the window exceeds the model's positions, or device or dtype are
        unknown or not to be had here.
    WeightsError
        If the model cannot be loaded, is an encoder-decoder, has no such module, or the module's output is no residual
        stream.
    """

    def __init__(
        self,
        model: str,
        hook: str,
        *,
        revision: str | None = None,
        window: int = 512,
        overlap: int = 64,
        batch_tokens: int = 2048,
        device: str = "cpu",
        dtype: str = "float32",
        massive: float = 5.0,
    ) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        quiet()
        check_device(device)
        check_dtype(dtype)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
            network = AutoModel.from_pretrained(
                model,
                revision=revision,
                dtype=getattr(torch, dtype),
                trust_remote_code=False,
            )
        except (OSError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(
                f"cannot load the language model {model!r} ({reason}): give a local directory in Hugging Face layout "
                "or a name listed by `companysim run --help`"
            ) from error
        if network.config.is_encoder_decoder or not self.tokenizer.is_fast:
            what = "is an encoder-decoder" if self.tokenizer.is_fast else "has no fast tokenizer"
            raise WeightsError(f"the language model {model!r} {what}: give a decoder or an encoder with tokenizer.json")
        self.window, self.overlap, self.batch_tokens = window, overlap, batch_tokens
        self.massive, self.dtype = massive, dtype
        self.device = torch.device(device)
        self.special = _special_tokens(self.tokenizer, model)
        self.room = window - sum(token is not None for token in self.special)
        if not 0 <= overlap < self.room:
            raise ConfigError(f"overlap {overlap} must be at least 0 and below the window's {self.room} tokens of text")
        if window > (limit := positions(network)):
            raise ConfigError(f"window {window} exceeds the {limit} positions of {model!r}: lower encoder.window")
        self.hook = hook
        self.width: int = network.config.get_text_config().hidden_size
        self._block = _cut_after(network, hook, model)
        self.network = network.eval().to(self.device)  # what was cut off never gets there

    def tokenise(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Token ids and the character at which each token begins, of each text; no special tokens.

        Returns
        -------
        list of (ids, starts)
            Two arrays of int64 and int32, shape (tokens,), for each text; empty for a text without tokens.
        """
        if not texts:
            return []
        # A text that spells a special token means its characters.
        encoded = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        ).encodings
        return [
            (np.array(e.ids, dtype=np.int64), np.array(e.offsets, dtype=np.int32).reshape(-1, 2)[:, 0]) for e in encoded
        ]

    def windows(self, tokens: Sequence[np.ndarray]) -> list[Window]:
        """Split the token ids of each document into windows; a document without tokens yields none."""
        return [
            Window(document, ids[start:stop], start, skip)
            for document, ids in enumerate(tokens)
            for start, stop, skip in split(len(ids), self.room, self.overlap)
        ]

    def batches(self, windows: Sequence[Window]) -> list[list[Window]]:
        """Group windows of similar length so that no batch exceeds the token budget. Order is deterministic."""
        ordered = sorted(windows, key=lambda w: -len(w.tokens))
        groups: list[list[Window]] = []
        extra = self.window - self.room
        for window in ordered:
            longest = len(groups[-1][0].tokens) + extra if groups else 0
            if groups and (len(groups[-1]) + 1) * longest <= self.batch_tokens:
                groups[-1].append(window)
            else:
                groups.append([window])
        return groups

    def activations(self, batch: Sequence[Window]) -> Activations:
        """Run one batch and return the residual stream of its counted tokens.

        Special tokens (the first is always an attention sink), other massive activations, padding and repeated
        context are left out.

        Raises
        ------
        NotFiniteError
            If an activation is not finite, as float16 may overflow.
        """
        padded = self.padded(batch)
        hidden = self._forward(padded)
        kept = self.kept(hidden, padded)
        return Activations(hidden[kept].float(), kept.nonzero()[:, 0], padded.position[kept])

    def padded(self, batch: Sequence[Window]) -> Padded:
        """Lay the windows of a batch side by side, with their special tokens."""
        import torch

        begin, end = self.special
        longest = max(len(w.tokens) for w in batch) + self.window - self.room
        ids = np.full((len(batch), longest), begin, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        counted = np.zeros((len(batch), longest), dtype=bool)
        position = np.arange(longest) - 1 + np.array([[w.start] for w in batch])
        for row, window in enumerate(batch):
            stop = len(window.tokens) + 1
            ids[row, 1:stop] = window.tokens
            counted[row, 1 + window.skip : stop] = True
            if end is not None:
                ids[row, stop] = end
                stop += 1
            mask[row, :stop] = 1
        return Padded(*(torch.from_numpy(array).to(self.device) for array in (ids, mask, counted, position)))

    def kept(self, hidden: torch.Tensor, padded: Padded) -> torch.Tensor:
        """Which activations count, shape (windows, tokens): those of counted tokens that are not massive.

        Raises
        ------
        NotFiniteError
            If an activation is not finite, as float16 may overflow.
        """
        # The norm of a left-out token may be anything; NaN keeps it out of the median.
        norms = hidden.float().norm(dim=2).masked_fill(~padded.counted, float("nan"))
        if not bool(norms[padded.counted].isfinite().all()):
            raise NotFiniteError(
                f"the model's activations are not finite in {self.dtype}: use float32 or bfloat16, or other weights"
            )
        kept: torch.Tensor = norms <= self.massive * norms.nanmedian(dim=1, keepdim=True).values
        return kept

    def _forward(self, padded: Padded) -> torch.Tensor:
        def end_pass(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            raise _PassEnded(output[0] if isinstance(output, tuple) else output)

        handle = self._block.register_forward_hook(end_pass)
        output = None
        try:
            self.run(padded)
        except _PassEnded as end:
            output = end.args[0]
        finally:
            handle.remove()
        return self.checked(output, self.hook)

    def run(self, padded: Padded) -> None:
        """Run the model, for the sake of the hooks on its modules."""
        import torch

        # Right padding never reaches a counted token of a causal model, so a mask matters only when rows differ.
        attention = None if bool(padded.mask.all()) else padded.mask
        with torch.inference_mode():
            self.network(input_ids=padded.ids, attention_mask=attention, use_cache=False)

    def checked(self, output: Any, hook: str) -> torch.Tensor:
        """Return the output of a module if it is a residual stream, shape (windows, tokens, width)."""
        import torch

        if not isinstance(output, torch.Tensor) or output.ndim != 3 or output.shape[2] != self.width:
            raise WeightsError(
                f"module {hook!r} does not put out one vector of {self.width} numbers for each token: "
                "name a block, such as layers.26"
            )
        hidden: torch.Tensor = output
        return hidden


def _special_tokens(tokenizer: Any, model: str) -> tuple[int, int | None]:
    """Token that begins a window and, for an encoder, the one that ends it."""
    if tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None:
        return tokenizer.cls_token_id, tokenizer.sep_token_id
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if begin is None:
        raise WeightsError(f"the tokenizer of {model!r} has neither a start nor an end token: set its bos_token")
    return begin, None


def positions(network: torch.nn.Module) -> int:
    """Length of the longest window the model has positions for, special tokens included.

    RoBERTa and its kin count theirs from behind the padding index; a model without such a limit gets 2^31.
    """
    config: Any = network.config
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if limit is None or limit < 1:
        return 2**31
    return int(limit) - (padding + 1 if padding is not None else 0)


def quiet() -> None:
    """Silence transformers' own progress bars and advice; our stages have their own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def split(length: int, room: int, overlap: int) -> list[tuple[int, int, int]]:
    """Cut `length` tokens into windows of at most `room` tokens.

    Returns
    -------
    list of (start, stop, skip)
        Window `[start, stop)` whose first `skip` tokens were counted in the window before. Every token is counted
        exactly once.
    """
    spans = []
    done = 0
    while done < length:
        start = max(0, done - overlap) if done else 0
        stop = min(length, start + room)
        spans.append((start, stop, done - start))
        done = stop
    return spans


def _cut_after(network: torch.nn.Module, hook: str, model: str) -> torch.nn.Module:
    """Return the module named `hook` and drop the blocks behind it."""
    try:
        block = network.get_submodule(hook)
    except AttributeError as error:
        blocks = [name for name, _ in network.named_children()]
        raise WeightsError(
            f"model {model!r} has no module {hook!r}: its top-level modules are {', '.join(blocks)}, "
            "and hooks look like layers.26"
        ) from error
    parent, _, index = hook.rpartition(".")
    if index.isdigit():
        siblings: Any = network.get_submodule(parent)
        del siblings[int(index) + 1 :]
    return block
