"""Where training text comes from: a table, a folder, or a data set on the hub.

A source is read in an order of its own, from any document on. Tables and folders are shuffled by a hash of seed and
content, so that neither the order of rows nor the names of files matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from companysim.errors import DataError
from companysim.workspace import fingerprint, fingerprint_of_path

FOLDER_SUFFIXES = (".txt", ".md")
HUB_SHUFFLE = 10_000


class Texts(Protocol):
    """Documents in a fixed order."""

    @property
    def identity(self) -> str:
        """Fingerprint: the same identity gives the same documents."""

    def read(self, start: int) -> Iterator[str]:
        """Documents from number `start` on."""


class StoredTexts:
    """Texts in memory, shuffled by hash.

    Parameters
    ----------
    texts : list of str
        Empty ones are dropped.
    seed : int

    Raises
    ------
    DataError
        If there is no text.
    """

    def __init__(self, texts: list[str], seed: int) -> None:
        hashed = [(hashlib.sha256(f"{seed} {text}".encode(errors="replace")).digest(), text) for text in texts if text]
        if not hashed:
            raise DataError("there is no text to train on: give a source with at least one document")
        ordered = sorted(hashed, key=lambda pair: pair[0])
        self._texts = [text for _, text in ordered]
        self.identity = hashlib.sha256(b"".join(digest for digest, _ in ordered)).hexdigest()

    def read(self, start: int) -> Iterator[str]:
        """Documents from number `start` on."""
        return iter(self._texts[start:])


class FolderTexts:
    """Text files of a folder and its subfolders, shuffled by a hash of their content; one file is read at a time.

    Parameters
    ----------
    folder : path
    seed : int

    Raises
    ------
    DataError
        If there is no text file, or one is not UTF-8.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        files = [path for path in folder.rglob("*") if path.suffix in FOLDER_SUFFIXES and path.is_file()]
        if not files:
            kinds = " or ".join(FOLDER_SUFFIXES)
            raise DataError(f"{folder} holds no {kinds} file: give a folder of text, a parquet file or a hub id")
        prints = sorted((fingerprint(seed, fingerprint_of_path(path)), str(path)) for path in files)
        self._files = [Path(path) for _, path in prints]
        self.identity = fingerprint([digest for digest, _ in prints])

    def read(self, start: int) -> Iterator[str]:
        """Documents from number `start` on."""
        for path in self._files[start:]:
            try:
                yield path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"cannot read {path} ({error}): make it UTF-8 text or remove it") from error


class HubTexts:
    """A data set on the hub, streamed, shuffled within a window of 10,000 documents.

    Parameters
    ----------
    name : str
        Such as ``HuggingFaceFW/fineweb``.
    column : str
    revision : str, optional
        Commit or tag, so that a run can be repeated.
    split : str
    seed : int

    Raises
    ------
    DataError
        If the package ``datasets`` is missing, the hub does not give the data set, or it has no such column.
    """

    def __init__(self, name: str, column: str, revision: str | None, split: str, seed: int) -> None:
        try:
            from datasets import load_dataset  # type: ignore[import-untyped]
        except ImportError as error:
            raise DataError("reading from the hub needs the package datasets: pip install datasets") from error
        self.identity = fingerprint(name, column, revision, split, seed)
        self._name, self._column = name, column
        try:
            stream: Any = load_dataset(name, split=split, revision=revision, streaming=True)
            first: dict[str, Any] = next(iter(stream), {})
        except Exception as error:  # datasets raises many kinds
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"cannot read the data set {name!r} ({reason}): check its name and revision") from error
        if column not in first:
            raise DataError(f"data set {name!r} has no column {column!r}, only {', '.join(first)}: give --column")
        self._stream = stream.shuffle(seed=seed, buffer_size=HUB_SHUFFLE)

    def read(self, start: int) -> Iterator[str]:
        """Documents from number `start` on; those before are skipped one by one."""
        for row in islice(self._stream, start, None):
            yield row[self._column] or ""


def open_texts(
    source: str, column: str = "text", revision: str | None = None, split: str = "train", seed: int = 0
) -> Texts:
    """Open a source of text.

    Parameters
    ----------
    source : str
        A parquet or CSV file, a folder of text files, or the id of a data set on the hub.
    column : str
        Of a table or data set.
    revision, split : str
        Of a data set on the hub.
    seed : int
        Decides the order.

    Raises
    ------
    DataError
        If there is no such source, or it holds no text.
    """
    path = Path(source)
    if path.is_dir():
        return FolderTexts(path, seed)
    if path.is_file():
        return StoredTexts(_column(path, column), seed)
    if path.suffix or source.count("/") != 1 or path.is_absolute():
        raise DataError(f"no text at {source}: give a parquet or CSV file, a folder of text files or a hub id")
    return HubTexts(source, column, revision, split, seed)


def _column(path: Path, column: str) -> list[str]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            columns = pq.read_schema(path).names
            table = pd.read_parquet(path, columns=[column] if column in columns else [])
        elif path.suffixes[-1:] == [".csv"] or path.suffixes[-2:] == [".csv", ".gz"]:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            columns = list(table.columns)
        else:
            raise DataError(f"{path} is no parquet or CSV file: give one, a folder of text files or a hub id")
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise DataError(f"cannot read {path} ({' '.join(str(error).split())[:200]}): restore the file") from error
    if column not in columns:
        raise DataError(f"{path} has no column {column!r}, only {', '.join(columns)}: give --column")
    return [text for text in table[column].tolist() if isinstance(text, str)]
