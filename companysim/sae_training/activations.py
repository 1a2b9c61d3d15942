"""Activations to train on, chunk by chunk: each as large as the buffer, none depending on another.

A chunk holds the residual stream of consecutive documents of a shuffled source and is shuffled as a whole before it is
used up. So a place in the stream is three whole numbers, and a stopped run takes it up again by making one chunk anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from companysim.encoding.encode import clean
from companysim.encoding.layers import read_layers
from companysim.encoding.llm import ResidualStream, Window
from companysim.errors import RunError, WeightsError
from companysim.sae_training.checkpoint import fingerprint_of_tensors
from companysim.sae_training.texts import Texts
from companysim.workspace import fingerprint, replacing

if TYPE_CHECKING:
    import numpy as np
    import torch

HELD_OUT = 50
_BLOCK = 64  # documents tokenised at once


class Chunk(NamedTuple):
    """Some of the activations.

    Attributes
    ----------
    rows : Tensor, shape (n, width)
        In any floating dtype.
    after : int or None
        Document at which the next chunk begins; None at the end of the text.
    """

    rows: torch.Tensor
    after: int | None


class Activations(Protocol):
    """Where activations come from."""

    @property
    def width(self) -> int:
        """Width of the residual stream."""

    @property
    def identity(self) -> str:
        """Fingerprint: the same identity gives the same activations."""

    def chunk(self, document: int) -> Chunk:
        """Activations from a document on; the same each time it is asked for."""


class StoredActivations:
    """Activations in memory, as one chunk.

    Parameters
    ----------
    rows : Tensor, shape (n, width)
        On the device to train on.
    """

    def __init__(self, rows: torch.Tensor) -> None:
        self._rows = rows
        self.width = int(rows.shape[1])

    @property
    def identity(self) -> str:
        """Fingerprint of all of them."""
        return fingerprint_of_tensors(self._rows)

    def chunk(self, document: int) -> Chunk:
        """All of them."""
        return Chunk(self._rows, None)


class TextActivations:
    """Activations of a language model over a source of text, in bfloat16, which halves the memory.

    Parameters
    ----------
    stream : ResidualStream
        Cut after the deepest of `hooks`.
    hooks : sequence of str
        Modules to read; the rows of several go into one chunk together, for one SAE of a group of layers.
    texts : Texts
    buffer : int
        Activations a chunk holds; a document is not divided, so the last one may exceed it.
    folder : path, optional
        Where the chunk is kept, as a file mapped into memory; in memory by default.
    held_out : int
        Every so many documents one is left out, see `held_out`; 0 leaves out none.
    process, processes : int
        This process and how many there are: each takes its share of a chunk's windows.
    report : callable
        Receives the number of batches of the language model done and in all, in each chunk.

    Raises
    ------
    WeightsError
        If the model has no module of that name.
    """

    def __init__(
        self,
        stream: ResidualStream,
        hooks: Sequence[str],
        texts: Texts,
        *,
        buffer: int = 500_000,
        folder: Path | None = None,
        held_out: int = HELD_OUT,
        process: int = 0,
        processes: int = 1,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        for hook in hooks:
            try:
                stream.network.get_submodule(hook)
            except AttributeError as error:
                raise WeightsError(f"the model has no module {hook!r}: name blocks, such as layers.12") from error
        self._stream, self._hooks, self._texts = stream, list(hooks), texts
        self._buffer, self._folder, self._every = buffer, folder, held_out
        self._process, self._processes, self._report = process, processes, report
        self._latest: tuple[int, Chunk] | None = None
        self.width = stream.width
        # Some numbers of every parameter: any further training changes nearly all of them.
        sampled = (weights.flatten()[:: weights.numel() // 1024 + 1] for weights in stream.network.parameters())
        self.identity = fingerprint(
            texts.identity, self._hooks, buffer, held_out, processes, stream.window, stream.overlap,
            stream.batch_tokens, stream.dtype, stream.massive, stream.width, fingerprint_of_tensors(*sampled),
        )  # fmt: skip

    def chunk(self, document: int) -> Chunk:
        """Activations of the documents from number `document` on that are not held out.

        Raises
        ------
        RunError
            If the disk is full.
        """
        if self._latest is None or self._latest[0] != document:
            self._latest = None  # frees its memory before the next is made
            windows, after = self._windows(document)
            mine = windows[self._process :: self._processes]
            rows = (
                collect_activations(self._stream, mine, self._hooks, self._report)
                if self._folder is None
                else self._on_disk(mine, document, self._folder)
            )
            self._latest = document, Chunk(rows, after)
        return self._latest[1]

    def held_out(self, limit: int = 100_000) -> torch.Tensor:
        """Activations of documents that are never trained on, about `limit` of them, shape (n, width)."""
        windows: list[Window] = []
        tokens = 0
        for _, ids, apart in self._documents(0) if self._every else ():
            if tokens >= limit:
                break
            if apart:
                windows += self._stream.windows([ids])
                tokens += len(ids) * len(self._hooks)
        return collect_activations(self._stream, windows, self._hooks)

    def _documents(self, start: int) -> Iterator[tuple[int, np.ndarray, bool]]:
        """Yield number, token ids, and whether it is held out, of each document from `start` on."""
        number, reader = start, self._texts.read(start)
        while block := list(islice(reader, _BLOCK)):
            for ids, _ in self._stream.tokenise([clean(text) for text in block]):
                yield number, ids, bool(self._every) and number % self._every == 0
                number += 1

    def _windows(self, start: int) -> tuple[list[Window], int | None]:
        """Windows of one chunk, and the document after it."""
        windows: list[Window] = []
        tokens = 0
        for number, ids, apart in self._documents(start):
            if tokens >= self._buffer:
                return windows, number
            if not apart:
                windows += self._stream.windows([ids])
                tokens += len(ids) * len(self._hooks)
        return windows, None

    def _on_disk(self, windows: Sequence[Window], document: int, folder: Path) -> torch.Tensor:
        """Map the chunk's file, which is written first unless a stopped run has left it."""
        import torch

        path = folder / f"{self.identity[:16]}-{document}.{self._process}.bfloat16"
        if not path.is_file():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                for old in folder.glob(f"*.{self._process}.bfloat16"):
                    old.unlink()
                with replacing(path) as temporary, temporary.open("wb") as file:
                    for part in _parts(self._stream, windows, self._hooks, self._report):
                        file.write(part.view(torch.int16).numpy().tobytes())
            except OSError as error:
                raise RunError(
                    f"cannot write {self._buffer:,} activations to {folder} ({error.strerror}): free some space or "
                    "lower the buffer, and run the same command again"
                ) from error
        count = path.stat().st_size // 2
        if not count:
            return torch.empty((0, self.width), dtype=torch.bfloat16)
        return torch.from_file(str(path), size=count, dtype=torch.bfloat16).view(-1, self.width)


def collect_activations(
    stream: ResidualStream,
    windows: Sequence[Window],
    hooks: Sequence[str] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Residual-stream rows of all counted tokens of `windows`, shape (n, width), bfloat16, in memory.

    Parameters
    ----------
    stream : ResidualStream
    windows : sequence of Window
    hooks : sequence of str, optional
        Modules to read, none deeper than the stream's own hook; only that one by default.
    report : callable
        Receives the number of batches done and in all.
    """
    import torch

    names = hooks or [stream.hook]
    counted = sum(len(window.tokens) - window.skip for window in windows) * len(names)
    rows = torch.empty((counted, stream.width), dtype=torch.bfloat16)
    filled = 0
    for part in _parts(stream, windows, names, report):
        rows[filled : filled + len(part)] = part
        filled += len(part)
    return rows[:filled]


def _parts(
    stream: ResidualStream, windows: Sequence[Window], hooks: Sequence[str], report: Callable[[int, int], None]
) -> Iterator[torch.Tensor]:
    """Rows of one batch and hook after the other, bfloat16, on the CPU."""
    import torch

    batches = stream.batches(windows)
    for done, batch in enumerate(batches, start=1):
        outputs, padded = read_layers(stream, hooks, batch)
        for hidden in outputs.values():
            yield hidden[stream.kept(hidden, padded)].to(torch.bfloat16).cpu()
        report(done, len(batches))
