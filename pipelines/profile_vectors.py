"""The company profiles through the language model, once: the residual stream of every token at a few depths.

Usage: ``python pipelines/profile_vectors.py --data ../shared/data --cache DIR`` (about ten minutes of one core with
bfloat16 instructions, 2.5 GB of disk; a stopped run goes on where it was). `pipelines/profile_study.py` calls it.

With the tokens themselves on disk any SAE at any of the depths, any pooling and any weighting of tokens can be tried
without a second pass: means and latents are made from them in a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    import torch

    from companysim.encoding.llm import ResidualStream

BLOCKS = (8, 12, 16, 20, 23, 26, 28)
PART = 128  # profiles saved at once
SHARED = 5  # profiles a shared token is in, at least: rarer ones are mostly the company's own name
WEIGHTINGS = ("plain", "idf", "shared idf", "shared idf squared", "shared idf cubed")


@dataclass(frozen=True)
class Tokens:
    """Tokens of all profiles, in the order of the texts.

    Attributes
    ----------
    document, ids : ndarray of int64, shape (tokens,)
        Profile and token id.
    profiles : int
    files : tuple of path
        Parts with the residual stream.
    weights : ndarray, shape (weightings, tokens)
        Of each token, in the order of `WEIGHTINGS`.
    """

    document: np.ndarray
    ids: np.ndarray
    profiles: int
    files: tuple[Path, ...]
    weights: np.ndarray

    def hidden(self, block: int) -> torch.Tensor:
        """Residual stream after `block`, bfloat16, shape (tokens, width); massive activations are rows of zeros."""
        import torch
        from safetensors import safe_open

        parts = []
        for file in self.files:
            with safe_open(file, framework="pt") as part:
                parts.append(part.get_tensor(f"block {block}"))
        return torch.cat(parts)

    def means(self, hidden: torch.Tensor) -> np.ndarray:
        """Weighted means of each profile's rows of `hidden`, massive activations left out.

        Returns
        -------
        ndarray, shape (weightings, profiles, width)
        """
        rows = hidden.float().numpy()
        counts = rows.any(axis=1)
        found = []
        for weight in self.weights * counts:
            total = np.maximum(np.bincount(self.document, weight, self.profiles), 1e-12)  # no shared word: zeros
            average = sp.csc_array((weight / total[self.document], (self.document, np.arange(len(rows)))))
            found.append(average @ rows)
        return np.stack(found)

    def latents(self, block: int, sae: Path, store: Path) -> Latents:
        """Encode the residual stream after `block` but for massive activations, or read what `store` has of it."""
        from safetensors.numpy import load_file, save_file

        from companysim.encoding.sae import load_sae

        if not store.is_file():
            hidden, encoder = self.hidden(block), load_sae(sae)
            kept = hidden.any(dim=1)
            found = encoder.encode(hidden[kept].float())._asdict()
            arrays = {name: part.numpy() for name, part in found.items()}
            arrays |= {"kept": kept.numpy(), "n_latents": np.array([encoder.n_latents])}
            save_file(arrays, store)
        arrays = load_file(store)
        kept = arrays.pop("kept")
        size = int(arrays.pop("n_latents")[0])
        return Latents(self.document[kept], self.weights[:, kept], **arrays, profiles=self.profiles, n_latents=size)


@dataclass(frozen=True)
class Latents:
    """Latents of an SAE, token by token.

    Attributes
    ----------
    document : ndarray of int64, shape (tokens,)
        Profile of each token that counts.
    weights : ndarray, shape (weightings, tokens)
    token, latent : ndarray of int64, shape (active,)
        Token and latent of every activation above 0.
    value : ndarray of float32, shape (active,)
    profiles, n_latents : int
    made : dict of csr_array
        What `pooled` has made so far: many trials begin with the same.
    """

    document: np.ndarray
    weights: np.ndarray
    token: np.ndarray
    latent: np.ndarray
    value: np.ndarray
    profiles: int
    n_latents: int
    made: dict[tuple[str, str], sp.csr_array] = field(default_factory=dict)

    def pooled(self, pool: str, weighting: str = "plain") -> sp.csr_array:
        """Latents of each profile, shape (profiles, latents).

        With activations a_t of a latent on the n tokens: ``sum`` of a_t, ``mean`` (sum / n), ``max``, ``count`` of
        a_t > 0, ``log_length`` (mean times log(1 + n)) and ``log_sum`` of log(1 + a_t), which lets no single token
        dominate. In all but ``max`` each token counts by its weight.
        """
        if (pool, weighting) not in self.made:
            self.made[pool, weighting] = self._pooled(pool, weighting)
        return self.made[pool, weighting]

    def _pooled(self, pool: str, weighting: str) -> sp.csr_array:
        shape = (self.profiles, self.n_latents)
        rows = self.document[self.token]
        if pool == "max":
            order = np.lexsort((self.value, self.latent, rows))
            key = rows[order] * self.n_latents + self.latent[order]
            kept = order[np.append(key[1:] != key[:-1], True)]
            return sp.csr_array((self.value[kept].astype(float), (rows[kept], self.latent[kept])), shape)
        values = self.value.astype(float)
        if pool in ("count", "log_sum"):
            values = np.ones(len(values)) if pool == "count" else np.log1p(values)
        weight = self.weights[WEIGHTINGS.index(weighting)]
        matrix = sp.csr_array(sp.coo_array((values * weight[self.token], (rows, self.latent)), shape))
        matrix.sum_duplicates()
        if pool in ("mean", "log_length"):
            length = np.bincount(self.document, weight, self.profiles)
            matrix = sp.csr_array(sp.diags_array((1.0 if pool == "mean" else np.log1p(length)) / length) @ matrix)
        return matrix


def token_weights(documents: Sequence[np.ndarray], vocabulary: int) -> np.ndarray:
    """Weight of each token in the order of `WEIGHTINGS`, shape (weightings, vocabulary).

    1; ``idf = log(N / n)`` where n of the N documents hold the token; the same, but 0 for tokens of fewer than five
    documents (names, mostly); and the square and the cube of that. Tokens in no document have weight 0, but for the
    first.
    """
    number = np.bincount(np.concatenate([np.unique(document) for document in documents]), minlength=vocabulary)
    idf = np.where(number > 0, np.log(len(documents) / np.maximum(number, 1)), 0.0)
    shared = np.where(number >= SHARED, idf, 0.0)
    return np.stack([np.ones(vocabulary), idf, shared, shared**2, shared**3])


def read(texts: Sequence[str], cache: Path, dtype: str = "bfloat16") -> Tokens:
    """Run `texts` through the model, or read what an earlier call with the same cache has of them.

    Parameters
    ----------
    texts : sequence of str
    cache : path
        Holds one file for each 128 texts; a directory of its own for each list of texts.
    dtype : str
        Of the language model.
    """
    from safetensors import safe_open

    cache.mkdir(parents=True, exist_ok=True)
    files = tuple(cache / f"part-{start // PART:03}.safetensors" for start in range(0, len(texts), PART))
    if not all(file.is_file() for file in files):
        _run(texts, files, dtype)
    document, ids = [], []
    for number, file in enumerate(files):
        with safe_open(file, framework="numpy") as part:
            document.append(part.get_tensor("document") + number * PART)
            ids.append(part.get_tensor("ids"))
    return tokens_of(np.concatenate(document), np.concatenate(ids), len(texts), files)


def tokens_of(document: np.ndarray, ids: np.ndarray, profiles: int, files: tuple[Path, ...]) -> Tokens:
    """`Tokens` with their weights; `document` in rising order, each with a token or more."""
    weights = token_weights(np.split(ids, np.flatnonzero(np.diff(document)) + 1), int(ids.max()) + 1)
    return Tokens(document, ids, profiles, files, weights[:, ids])


def _run(texts: Sequence[str], files: Sequence[Path], dtype: str) -> None:
    """Write the parts that are missing."""
    from safetensors.torch import save_file

    from companysim.encoding.encode import clean
    from companysim.encoding.llm import ResidualStream
    from companysim.encoding.weights import resolve

    model = resolve("smollm2-135m", print)
    stream = ResidualStream(model, f"layers.{BLOCKS[-1]}", window=512, batch_tokens=8192, dtype=dtype)
    ids = [found for found, _ in stream.tokenise([clean(text) for text in texts])]
    for number, file in enumerate(files):
        if not file.is_file():
            temporary = file.with_suffix(".partial")
            save_file(one_pass(stream, ids[number * PART : (number + 1) * PART], BLOCKS), temporary)
            temporary.replace(file)
            print(f"{min((number + 1) * PART, len(texts))} of {len(texts)} profiles", flush=True)


def one_pass(stream: ResidualStream, ids: Sequence[np.ndarray], blocks: Sequence[int]) -> dict[str, torch.Tensor]:
    """Profile (counted from 0) and id of every token, and its residual stream after each of `blocks`, in order."""
    import torch

    first = np.cumsum([0, *(len(own) for own in ids)])
    rows = {block: torch.zeros((first[-1], stream.width), dtype=torch.bfloat16) for block in blocks}
    layers: Any = stream.network.get_submodule("layers")
    outputs: dict[int, Any] = {}

    def keep(block: int) -> Any:
        def hook(module: object, inputs: object, output: Any) -> None:
            outputs[block] = output[0] if isinstance(output, tuple) else output

        return layers[block].register_forward_hook(hook)

    handles = [keep(block) for block in blocks]
    try:
        for batch in stream.batches(stream.windows(ids)):
            padded = stream.padded(batch)
            stream.run(padded)
            start = torch.from_numpy(first[[window.document for window in batch]])[:, None]
            for block in blocks:
                hidden = stream.checked(outputs[block], f"layers.{block}")
                kept = stream.kept(hidden, padded)  # massive activations are those of the block itself
                rows[block][(start + padded.position)[kept]] = hidden[kept].to(torch.bfloat16)
    finally:
        for handle in handles:
            handle.remove()
    document = np.repeat(np.arange(len(ids)), np.diff(first))
    found = {"document": torch.from_numpy(document), "ids": torch.from_numpy(np.concatenate(ids))}
    return found | {f"block {block}": hidden for block, hidden in rows.items()}


def main() -> None:
    """Run the shared profiles through the model."""
    from profile_yardsticks import load_profiles

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, required=True)
    arguments = parser.parse_args()
    tokens = read(load_profiles(arguments.data).companies["text"].tolist(), arguments.cache)
    print(f"{tokens.profiles:,} profiles, {len(tokens.ids):,} tokens")


if __name__ == "__main__":
    main()
