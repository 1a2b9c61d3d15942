"""The residual stream of a language model at one depth, and nothing that lies beyond it.

Only the blocks up to the hook run: a forward hook on the chosen block takes its output and ends the pass, the
later blocks are dropped after loading, and no language-model head or list of hidden states ever exists.
``layers.i`` names the output of block i counted from 0 (``hidden_states[i + 1]`` in transformers' terms).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from companysim.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch


class _PassEnded(Exception):
    """Raised by the hook once the wanted block has produced its output."""


@dataclass(frozen=True)
class Window:
    """A run of tokens of one document that fits the model's context.

    Attributes
    ----------
    document : int
        Index of the document in the list given to `ResidualStream.windows`.
    tokens : ndarray of int64, shape (n,)
        Token ids, without any special token.
    skip : int
        The first `skip` tokens are context repeated from the previous window and are not counted again.
    """

    document: int
    tokens: np.ndarray
    skip: int


class ResidualStream:
    """Reads the residual stream of a decoder after one block.

    Parameters
    ----------
    model : str
        Local directory or hub id (see `companysim.encoding.weights.resolve`).
    hook : str
        Module whose output is read, such as ``layers.26``.
    window : int
        Tokens a window holds, the start token included.
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
    WeightsError
        If the model cannot be loaded, has no such module, or the module's output is no residual stream.
    """

    def __init__(
        self,
        model: str,
        hook: str,
        *,
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
        if not 0 <= overlap < window - 1:
            raise ConfigError(f"overlap {overlap} must be at least 0 and below window - 1 = {window - 1}")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model)
            network = AutoModel.from_pretrained(model, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        except (OSError, ValueError, SafetensorError) as error:
            raise WeightsError(
                f"cannot load the language model {model!r} ({str(error).splitlines()[0]}): give a local directory "
                "in Hugging Face layout or a name listed by `companysim run --help`"
            ) from error
        self.window, self.overlap, self.batch_tokens = window, overlap, batch_tokens
        self.massive, self.dtype = massive, dtype
        self.device = torch.device(device)
        start = self.tokenizer.bos_token_id
        self.start_token = start if start is not None else self.tokenizer.eos_token_id
        if self.start_token is None:
            raise WeightsError(f"the tokenizer of {model!r} has neither a start nor an end token: set its bos_token")
        self.hook = hook
        self.width: int = network.config.hidden_size
        self._network = network.eval().to(self.device)
        self._block = _cut_after(self._network, hook, model)

    def windows(self, texts: Sequence[str]) -> list[Window]:
        """Tokenise `texts` and split each into windows; a text without tokens yields none."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)[
            "input_ids"
        ]  # a text that spells a special token means its characters
        room = self.window - 1  # one place goes to the start token
        result = []
        for document, ids in enumerate(encoded):
            tokens = np.asarray(ids, dtype=np.int64)
            for start, stop, skip in split(len(tokens), room, self.overlap):
                result.append(Window(document, tokens[start:stop], skip))
        return result

    def batches(self, windows: Sequence[Window]) -> list[list[Window]]:
        """Group windows of similar length so that no batch exceeds the token budget. Order is deterministic."""
        ordered = sorted(windows, key=lambda w: -len(w.tokens))
        groups: list[list[Window]] = []
        for window in ordered:
            longest = len(groups[-1][0].tokens) + 1 if groups else 0
            if groups and (len(groups[-1]) + 1) * longest <= self.batch_tokens:
                groups[-1].append(window)
            else:
                groups.append([window])
        return groups

    def activations(self, batch: Sequence[Window]) -> Iterator[tuple[Window, torch.Tensor]]:
        """Run one batch and yield, for each window, the residual stream of its counted tokens.

        Yields
        ------
        (Window, Tensor of shape (at most n - skip, width), float32)
            The start token (always an attention sink), other massive activations, padding and repeated context
            are left out.

        Raises
        ------
        WeightsError
            If an activation is not finite, as float16 may overflow.
        """
        import torch

        longest = max(len(w.tokens) for w in batch) + 1
        ids = np.full((len(batch), longest), self.start_token, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, window in enumerate(batch):
            ids[row, 1 : len(window.tokens) + 1] = window.tokens
            mask[row, : len(window.tokens) + 1] = 1
        hidden = self._forward(torch.from_numpy(ids), torch.from_numpy(mask))
        for row, window in enumerate(batch):
            counted = hidden[row, 1 + window.skip : 1 + len(window.tokens)].float()
            norms = counted.norm(dim=1)
            if not bool(norms.isfinite().all()):
                raise WeightsError(
                    f"the model's activations are not finite in {self.dtype}: use float32 or bfloat16, or other weights"
                )
            yield window, counted[norms <= self.massive * norms.median()]

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        import torch

        caught: list[Any] = []

        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            caught.append(output[0] if isinstance(output, tuple) else output)
            raise _PassEnded

        handle = self._block.register_forward_hook(hook)
        # Right padding never reaches a counted token of a causal model, so a mask matters only when rows differ.
        attention = None if bool(mask.all()) else mask.to(self.device)
        try:
            with torch.inference_mode():
                self._network(input_ids=ids.to(self.device), attention_mask=attention, use_cache=False)
        except _PassEnded:
            pass
        finally:
            handle.remove()
        hidden = caught[0] if caught else None
        if not isinstance(hidden, torch.Tensor) or hidden.shape != (*ids.shape, self.width):
            raise WeightsError(
                f"module {self.hook!r} does not put out one vector of {self.width} numbers for each token: "
                "name a block, such as layers.26"
            )
        return hidden


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
