"""Encoded filings on disk: append-only shards, each with its checksum.

A shard is two files: ``shard-<encoder>-<content>.safetensors`` with the arrays of some filings and a ``.json`` beside
it, written last, with their ids, the fingerprints of their texts and the digest of the first file. The index is what
the ``.json`` files say, so a killed run loses at most the shard it was working on, several processes may write into one
folder, and a damaged shard is noticed and made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load

from companysim.encoding.encode import Encoded, clean
from companysim.encoding.pooling import Pooled
from companysim.errors import RunError
from companysim.matrices import save_arrays
from companysim.workspace import PARTIAL, SHARD_PREFIX, digest, fingerprint, remove_partial, write_text

STORE = "store.json"
SHARD_FILINGS = 64
SHARD_CHARACTERS = 1_000_000
_ENTRIES = ("indptr", "latent", "total", "peak", "count", "token", "tokens")


def _silent(message: str) -> None:
    pass


class Store:
    """Shards of one encoder in a folder.

    Parameters
    ----------
    folder : path
        Folder made by `Store.create`.

    Raises
    ------
    RunError
        If there is no store in `folder`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        encoder = _encoder(self.folder / STORE)
        if encoder is None:
            raise RunError(f"no encoded filings in {folder}: make them with `companysim encode`")
        self.encoder = encoder
        self._stem = f"{SHARD_PREFIX}{self.encoder[:12]}"

    @classmethod
    def create(cls, folder: str | Path, settings: dict[str, Any], *, replace: bool = False) -> Store:
        """Open the store of an encoder, or begin one.

        Parameters
        ----------
        folder : path
            Created when missing.
        settings : dict
            All that decides what a text is encoded to; see `companysim.encoding.models.encoder_settings`.
        replace : bool
            Remove what another encoder wrote, instead of refusing the folder.

        Raises
        ------
        RunError
            If the folder holds other things, cannot be written, or is the store of another encoder.
        """
        place, encoder = Path(folder), fingerprint(settings)
        try:
            found = sorted(path.name for path in place.iterdir()) if place.exists() else []
            found = [name for name in found if not name.startswith(PARTIAL)]  # of a run killed at its very start
            if not replace and found and STORE not in found:
                raise RunError(f"{place} is not empty and holds no encoded filings: choose another --out")
            if not replace and _encoder(place / STORE) not in (None, encoder):  # None: absent or damaged
                raise RunError(f"{place} holds filings encoded with other models or settings: choose another --out")
            place.mkdir(parents=True, exist_ok=True)
            for name in found:
                if name.startswith(SHARD_PREFIX) and not name.startswith(f"{SHARD_PREFIX}{encoder[:12]}-"):
                    (place / name).unlink()
            write_text(place / STORE, json.dumps({"encoder": encoder, **settings}, indent=1) + "\n")
        except OSError as error:
            raise RunError(f"cannot write to {place} ({error.strerror}): choose another --out") from error
        return cls(place)

    def repair(self, say: Callable[[str], None] = _silent) -> None:
        """Remove damaged shards, one line of `say` for each, and what killed processes were writing.

        Not to be called while another process writes into the folder.
        """
        remove_partial(self.folder)
        for mark in sorted(self.folder.glob(f"{self._stem}-*.json")):
            facts = _facts(mark)
            data = mark.with_suffix(".safetensors")
            if facts is None or not data.is_file() or digest(data) != facts["sha256"]:
                mark.unlink()
                data.unlink(missing_ok=True)
                lost = "its filings are" if facts is None else f"its {len(facts['filing_ids'])} filings are"
                say(f"{data.name} is damaged and was removed: {lost} encoded again")

    def index(self) -> pd.DataFrame:
        """One row for each filing of the store, ordered by filing_id.

        Returns
        -------
        DataFrame
            filing_id, text (fingerprint of the cleaned text), shard, row (within the shard), tokens, failure (empty
            where encoding succeeded). A filing that failed first and succeeded later stands once.
        """
        rows = []
        for mark in sorted(self.folder.glob(f"{self._stem}-*.json")):
            facts = _facts(mark)
            if facts is not None:
                columns = (facts["filing_ids"], facts["texts"], facts["tokens"], facts["failures"])
                rows += [(i, t, mark.stem, r, n, f) for r, (i, t, n, f) in enumerate(zip(*columns, strict=True))]
        table = pd.DataFrame(rows, columns=["filing_id", "text", "shard", "row", "tokens", "failure"])
        table["failed"] = table["failure"] != ""
        table = table.sort_values(["filing_id", "text", "failed", "shard"]).drop_duplicates(["filing_id", "text"])
        return table.drop(columns="failed").reset_index(drop=True)

    def missing(self, filings: pd.DataFrame, *, retry: bool = False) -> list[pd.DataFrame]:
        """Cut what is not encoded yet into shards.

        The cuts depend on the filings asked for and on nothing else, neither their order nor what is done already, so
        that every filing meets the same neighbours in its batches whenever it is encoded.

        Parameters
        ----------
        filings : DataFrame
            filing_id and text.
        retry : bool
            Whether filings that failed count as missing.
        """
        wanted = filings[["filing_id", "text"]].sort_values("filing_id", ignore_index=True)
        wanted["print"] = [text_print(text) for text in wanted["text"]]
        number, documents, characters = [], 0, 0
        shard = 0
        for length in wanted["text"].str.len():
            if documents and (documents == SHARD_FILINGS or characters + length > SHARD_CHARACTERS):
                shard, documents, characters = shard + 1, 0, 0
            number.append(shard)
            documents, characters = documents + 1, characters + length
        index = self.index()
        if retry:
            index = index[index["failure"] == ""]
        done = set(zip(index["filing_id"], index["text"], strict=True))
        open_ = [key not in done for key in zip(wanted["filing_id"], wanted["print"], strict=True)]
        return [part for _, part in wanted[open_].groupby(np.array(number)[open_])]

    def write(self, shard: pd.DataFrame, encoded: Encoded) -> None:
        """Add one shard of `missing` and what `encode` made of it."""
        ids, prints = shard["filing_id"].tolist(), shard["print"].tolist()
        failures = [encoded.failures.get(row, "") for row in range(len(ids))]
        tokens = encoded.pooled.tokens.tolist()
        # Failures are part of the name: a shard whose retry succeeds stands beside the one that failed.
        path = self.folder / f"{self._stem}-{_content(ids, prints, tokens, failures)}.safetensors"
        pooled = encoded.pooled
        arrays = {name: getattr(pooled, name) for name in _ENTRIES}
        arrays |= {
            "shape": np.array([len(ids), pooled.n_latents]),
            "residual_mean": encoded.residual_mean,
            "starts": np.concatenate(encoded.starts),
            "starts_indptr": np.cumsum([0, *map(len, encoded.starts)]),
        }
        save_arrays(path, arrays)
        facts = {"filing_ids": ids, "texts": prints, "tokens": tokens, "failures": failures, "sha256": digest(path)}
        write_text(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")

    def found(self, filings: pd.DataFrame) -> pd.DataFrame:
        """Rows of `index` for filings with just these texts, in the order of `filings`; others are absent."""
        prints = [text_print(text) for text in filings["text"]]
        wanted = pd.DataFrame({"filing_id": filings["filing_id"].to_numpy(), "text": prints})
        return wanted.merge(self.index(), on=["filing_id", "text"], how="inner")

    def read(self, filings: pd.DataFrame) -> tuple[pd.DataFrame, Encoded]:
        """Read what is encoded of some filings.

        Parameters
        ----------
        filings : DataFrame
            filing_id and text.

        Returns
        -------
        index : DataFrame
            See `found`.
        encoded : Encoded
            The documents of the index, row by row.

        Raises
        ------
        RunError
            If none of the filings is in the store, or a shard is damaged.
        """
        index = self.found(filings)
        if index.empty:
            raise RunError(f"none of the filings is encoded in {self.folder}: run `companysim encode` first")
        order, parts = [], []
        for rows, part in self.parts(index):
            order.append(rows)
            parts.append(part)
        back = np.argsort(np.concatenate(order))
        starts = [start for part in parts for start in part.starts]
        failures = {row: reason for row, reason in enumerate(index["failure"]) if reason}
        return index, Encoded(
            Pooled.stacked([part.pooled for part in parts]).rows(back),
            np.concatenate([part.residual_mean for part in parts])[back],
            [starts[row] for row in back],
            failures,
        )

    def parts(self, index: pd.DataFrame) -> Iterator[tuple[np.ndarray, Encoded]]:
        """Read filings shard by shard, for work that need not hold them all.

        Yields
        ------
        rows : ndarray of int
            Rows of `index`, which is `Store.index` or a part of it.
        encoded : Encoded
            Their documents, in that order.
        """
        for shard, found in index.reset_index(drop=True).groupby("shard", sort=True):
            arrays = self._load(str(shard))
            own = found["row"].to_numpy()
            entries = {name: arrays[name] for name in _ENTRIES}
            bounds = arrays["starts_indptr"]
            failures = {row: reason for row, reason in enumerate(found["failure"]) if reason}
            yield (
                found.index.to_numpy(),
                Encoded(
                    Pooled(n_latents=int(arrays["shape"][1]), **entries).rows(own),
                    arrays["residual_mean"][own],
                    [arrays["starts"][bounds[row] : bounds[row + 1]] for row in own],
                    failures,
                ),
            )

    def _load(self, shard: str) -> dict[str, np.ndarray]:
        path = self.folder / f"{shard}.safetensors"
        facts = _facts(path.with_suffix(".json"))
        try:
            content = path.read_bytes()
            if facts is None or hashlib.sha256(content).hexdigest() != facts["sha256"]:
                raise RunError(f"{path} is damaged: encode again, which makes it anew")
            return load(content)
        except (OSError, SafetensorError) as error:
            raise RunError(f"cannot read {path} ({error}): encode again, which makes it anew") from error


def text_print(text: str) -> str:
    """Fingerprint of a text as it is encoded."""
    return fingerprint(clean(text))[:16]


def _content(ids: list[str], prints: list[str], tokens: list[int], failures: list[str]) -> str:
    """Part of a shard's name that is its ``.json``'s checksum too."""
    return fingerprint(ids, prints, tokens, failures)[:12]


def _encoder(path: Path) -> str | None:
    """Read off a ``store.json`` which encoder it names; None if it is absent or damaged."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["encoder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _facts(mark: Path) -> dict[str, Any] | None:
    """Content of a shard's ``.json``, or None if it is damaged."""
    try:
        facts = json.loads(mark.read_text(encoding="utf-8"))
        columns = [facts[name] for name in ("filing_ids", "texts", "tokens", "failures")]
        fits = mark.stem.endswith(f"-{_content(*columns)}") and isinstance(facts["sha256"], str)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts if fits else None
