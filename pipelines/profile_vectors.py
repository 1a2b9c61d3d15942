"""The company profiles through the language model once: a mean at every depth, and the sample SAE's latents by token.

Usage: ``python pipelines/profile_vectors.py --data ../shared/data --cache DIR`` (seven minutes of one core with
bfloat16 instructions, thrice that without; a stopped run goes on where it was). `pipelines/profile_study.py` calls it.

Latents are kept token by token, so that any pooling can be tried without a second pass, and so are the token ids. Of
the residual stream after each block only means over a profile's tokens are kept, one for each way of `WEIGHTINGS` to
weigh a token, since 30 x 300,000 rows of it are many.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import load_file, save_file

if TYPE_CHECKING:
    from companysim.encoding.llm import ResidualStream, Window
    from companysim.encoding.sae import SAE

SAE_BLOCK = 26
PART = 128  # profiles saved at once
SHARED = 5  # profiles a shared token is in, at least: rarer ones are mostly the company's own name
WEIGHTINGS = ("plain", "idf", "shared idf", "shared idf squared")


@dataclass(frozen=True)
class Tokens:
    """Profiles after the pass.

    Attributes
    ----------
    document, ids : ndarray of int64, shape (tokens,)
        Profile and id of each token that counts, in the order of the texts.
    token, latent : ndarray of int64, shape (active,)
        Token and latent of every activation above 0, in order.
    value : ndarray of float32, shape (active,)
    means : ndarray of float32, shape (weightings, blocks, profiles, width)
        Weighted mean of the residual stream after each block.
    n_latents : int
    """

    document: np.ndarray
    ids: np.ndarray
    token: np.ndarray
    latent: np.ndarray
    value: np.ndarray
    means: np.ndarray
    n_latents: int

    def pooled(self, pool: str, weighting: str = "plain") -> sp.csr_array:
        """Latents of each profile, shape (profiles, latents).

        With activations a_t of a latent on the n tokens: ``sum`` of a_t, ``mean`` (sum / n), ``max``, ``count`` of
        a_t > 0, ``log_length`` (mean times log(1 + n)) and ``log_sum`` of log(1 + a_t), which lets no single token
        dominate. In ``sum``, ``count`` and ``log_sum`` each token counts by its weight.
        """
        n = self.means.shape[2]
        rows = self.document[self.token]
        if pool == "max":
            order = np.lexsort((self.value, self.latent, rows))
            key = rows[order] * self.n_latents + self.latent[order]
            kept = order[np.append(key[1:] != key[:-1], True)]
            return sp.csr_array((self.value[kept].astype(float), (rows[kept], self.latent[kept])), (n, self.n_latents))
        values = self.value.astype(float)
        if pool in ("count", "log_sum"):
            values = np.ones(len(values)) if pool == "count" else np.log1p(values)
        if weighting != "plain":
            documents = [self.ids[self.document == row] for row in range(n)]
            own = token_weights(documents, int(self.ids.max()) + 1)[WEIGHTINGS.index(weighting), self.ids]
            values = values * own[self.token]
        matrix = sp.csr_array(sp.coo_array((values, (rows, self.latent)), (n, self.n_latents)))
        matrix.sum_duplicates()
        if pool in ("mean", "log_length"):
            length = np.bincount(self.document, minlength=n)
            matrix = sp.csr_array(sp.diags_array((1.0 if pool == "mean" else np.log1p(length)) / length) @ matrix)
        return matrix


def token_weights(documents: Sequence[np.ndarray], vocabulary: int) -> np.ndarray:
    """Weight of each token in the order of `WEIGHTINGS`, shape (weightings, vocabulary).

    1; ``idf = log(N / n)`` where n of the N documents hold the token; the same, but 0 for tokens of fewer than five
    documents (names, mostly); and the square of that. Tokens in no document have weight 0, but for the first.
    """
    number = np.bincount(np.concatenate([np.unique(document) for document in documents]), minlength=vocabulary)
    idf = np.where(number > 0, np.log(len(documents) / np.maximum(number, 1)), 0.0)
    shared = np.where(number >= SHARED, idf, 0.0)
    return np.stack([np.ones(vocabulary), idf, shared, shared**2])


def read(texts: Sequence[str], cache: Path, dtype: str = "bfloat16", sae: Path = Path("data/sae")) -> Tokens:
    """Encode `texts`, or read what an earlier call with the same cache has encoded of them.

    Parameters
    ----------
    texts : sequence of str
    cache : path
        Holds one file for each 128 texts; a directory of its own for each list of texts.
    dtype : str
        Of the language model.
    sae : path
        SAE of the residual stream after block 26.
    """
    cache.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(texts), PART)
    files = [cache / f"part-{start // PART:03}.safetensors" for start in starts]
    if not all(file.is_file() for file in files):
        _encode(texts, files, dtype, sae)
    parts = [load_file(file) for file in files]
    tokens = np.cumsum([0, *(len(part["ids"]) for part in parts)])
    documents = np.cumsum([0, *(part["means"].shape[2] for part in parts)])
    joined = {name: np.concatenate([part[name] for part in parts]) for name in ("ids", "latent", "value")}
    return Tokens(
        document=np.concatenate([part["document"] + at for part, at in zip(parts, documents, strict=False)]),
        ids=joined["ids"].astype(np.int64),
        token=np.concatenate([part["token"] + at for part, at in zip(parts, tokens, strict=False)]),
        latent=joined["latent"].astype(np.int64),
        value=joined["value"],
        means=np.concatenate([part["means"] for part in parts], axis=2),
        n_latents=int(parts[0]["n_latents"][0]),
    )


def _encode(texts: Sequence[str], files: Sequence[Path], dtype: str, sae_path: Path) -> None:
    """Write the parts that are missing."""
    from companysim.encoding.encode import clean
    from companysim.encoding.llm import ResidualStream
    from companysim.encoding.sae import load_sae
    from companysim.encoding.weights import resolve

    stream = ResidualStream(resolve("smollm2-135m", print), "layers.29", window=512, batch_tokens=8192, dtype=dtype)
    sae = load_sae(sae_path)
    ids = [found for found, _ in stream.tokenise([clean(text) for text in texts])]
    weight = token_weights(ids, len(stream.tokenizer))
    for number, file in enumerate(files):
        if not file.is_file():
            part = encode_part(stream, sae, ids[number * PART : (number + 1) * PART], weight)
            temporary = file.with_suffix(".partial")
            save_file(part, temporary)
            temporary.replace(file)
            print(f"{min((number + 1) * PART, len(texts))} of {len(texts)} profiles", flush=True)


def encode_part(
    stream: ResidualStream, sae: SAE, ids: Sequence[np.ndarray], weight: np.ndarray
) -> dict[str, np.ndarray]:
    """Arrays of `Tokens` for the token ids of some profiles, rows counted from 0."""
    import torch

    blocks: Any = stream.network.get_submodule("layers")
    sums = np.zeros((len(weight), len(blocks), len(ids), stream.width))
    totals = np.zeros((len(weight), len(blocks), len(ids), 1))
    weights = torch.from_numpy(weight).float()
    rows: list[dict[str, np.ndarray]] = []
    found: list[dict[str, np.ndarray]] = []
    before = 0
    for batch in stream.batches(stream.windows(ids)):
        padded = stream.padded(batch)
        owner = np.array([window.document for window in batch])
        for block, hidden in enumerate(_all_blocks(stream, batch)):
            kept = stream.kept(hidden, padded)  # massive activations are those of the block itself
            own = weights[:, padded.ids] * kept
            np.add.at(sums[:, block], (slice(None), owner), torch.einsum("kwt,wtd->kwd", own, hidden.float()).numpy())
            np.add.at(totals[:, block], (slice(None), owner), own.sum(dim=2, keepdim=True).numpy())
            if block == SAE_BLOCK:
                document = owner[kept.nonzero()[:, 0].numpy()]
                token, latent, value = (part.numpy() for part in sae.encode(hidden[kept].float()))
                position, seen = padded.position[kept].numpy(), padded.ids[kept].numpy()
                rows.append({"document": document, "position": position, "ids": seen})
                found.append({"token": token + before, "latent": latent, "value": value})
                before += len(document)
    table = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
    codes = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    order = np.lexsort((table["position"], table["document"]))
    place = np.argsort(order)
    codes["token"] = place[codes["token"]]
    by_token = np.lexsort((codes["latent"], codes["token"]))
    return {
        "document": table["document"][order],
        "ids": table["ids"][order].astype(np.int32),
        "token": codes["token"][by_token],
        "latent": codes["latent"][by_token].astype(np.int32),
        "value": codes["value"][by_token].astype(np.float32),
        "means": (sums / np.maximum(totals, 1e-12)).astype(np.float32),
        "n_latents": np.array([sae.n_latents]),
    }


def _all_blocks(stream: ResidualStream, batch: Sequence[Window]) -> list[Any]:
    """Residual stream after every block, from one pass."""
    outputs: list[Any] = []
    blocks: Any = stream.network.get_submodule("layers")

    def keep(module: object, inputs: object, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_hook(keep) for block in blocks]
    try:
        stream.run(stream.padded(batch))
    finally:
        for handle in handles:
            handle.remove()
    return [stream.checked(output, f"layers.{block}") for block, output in enumerate(outputs)]


def main() -> None:
    """Encode the shared profiles."""
    from profile_yardsticks import load_profiles

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    tokens = read(load_profiles(arguments.data).companies["text"].tolist(), arguments.cache, arguments.dtype)
    print(f"{len(tokens.ids):,} tokens, {len(tokens.value):,} activations")


if __name__ == "__main__":
    main()
