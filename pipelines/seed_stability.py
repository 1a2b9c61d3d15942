"""Explanations under another seed of the SAE: two SAEs trained alike on the run's texts, but for the seed.

Both see the residual stream of the run's own descriptions at the run's hook, read once; their latents sum it up by
company. The run's clusters are explained by the one and looked for in the other, whose latents are given the numbers
of their counterparts: by their decoder directions, or by their activity over the companies. What is there already
(activations, checkpoints, SAEs) is not made again. Part of explanation_stability.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import adjusted_rand_score
from train_sample_sae import SAMPLE_SAE

from companysim.clustering import ThresholdMST
from companysim.config import RunConfig
from companysim.encoding.encode import clean_all
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import SAE, load_sae, save_sae
from companysim.encoding.sae_formats import CONFIG_FILE
from companysim.encoding.weights import resolve
from companysim.explain.corpus import relative_strength
from companysim.explain.defining import defining_latents
from companysim.explain.matching import LatentMatch, activity, match_latents
from companysim.explain.stability import Stability, stability
from companysim.sae_training.activations import StoredActivations
from companysim.sae_training.quality import measure
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.trainer import Record, train
from companysim.similarity import sae_similarity
from companysim.workspace import fingerprint, fingerprint_of_path, write

SPEC = replace(SAMPLE_SAE, tokens=1_000_000)
"""The bundled SAE's, but for the activations seen: the descriptions have 76,000 tokens, passed over 13 times."""
SEEDS = (0, 1)


@dataclass(frozen=True)
class Tokens:
    """Residual stream of descriptions.

    Attributes
    ----------
    rows : Tensor, shape (tokens, width), bfloat16
    company : ndarray of int64, shape (tokens,)
        Row of the company a token belongs to.
    """

    rows: torch.Tensor
    company: np.ndarray


def read_tokens(config: RunConfig, companies: pd.DataFrame, folder: Path) -> Tokens:
    """Residual stream at the run's hook, by filing_id: training must not see the order of the rows."""
    order = companies["filing_id"].argsort().to_numpy()
    path = folder / "tokens.safetensors"
    if not path.exists():
        settings = config.encoder
        stream = ResidualStream(
            resolve(settings.model, print), settings.hook, revision=settings.revision, window=settings.window,
            overlap=settings.overlap, batch_tokens=settings.batch_tokens, device=settings.device, dtype="bfloat16",
        )  # fmt: skip
        texts = clean_all(companies["text"].iloc[order].tolist())
        batches = stream.batches(stream.windows([ids for ids, _ in stream.tokenise(texts)]))
        rows, documents = [], []
        for done, batch in enumerate(batches, start=1):
            found = stream.activations(batch)
            document = torch.tensor([window.document for window in batch])
            rows.append(found.hidden.to(torch.bfloat16).cpu())
            documents.append(document[found.window.cpu()])
            print(f"\rreading the residual stream: {done}/{len(batches)} batches", end="", flush=True)
        print()
        parts = {"rows": torch.cat(rows), "document": torch.cat(documents)}
        write(path, lambda temporary: save_file(parts, temporary))
    stored = load_file(path)
    return Tokens(stored["rows"], order[stored["document"].numpy()])


def trained(tokens: Tokens, spec: TrainingSpec, folder: Path) -> SAE:
    """Train the SAE of a seed, kept in float16 as the bundled one is; a training that was stopped goes on."""
    place = folder / f"sae-{spec.seed}"
    if not (place / CONFIG_FILE).exists():  # the file written last

        def log(record: Record) -> None:
            told = f"{record.tokens:,} tokens, {record.unexplained:.4f} of the variance unexplained"
            print(f"\rseed {spec.seed}: {told}", end="", flush=True)

        source, checkpoints = StoredActivations(tokens.rows), folder / f"training-{spec.seed}"
        save_sae(train(source, spec, folder=checkpoints, report=log), place)
        print()
    return load_sae(place, decoder=True)


def summed(sae: SAE, tokens: Tokens, companies: int) -> sp.csr_array:
    """Latents of each company, summed over its tokens, shape (companies, latents)."""
    token, latent, value = (part.numpy() for part in sae.encode(tokens.rows.float()))
    entries = (value.astype(np.float64), (tokens.company[token], latent))
    return sp.csr_array(sp.coo_array(entries, shape=(companies, sae.n_latents)))


def partition(config: RunConfig, latents: sp.csr_array) -> np.ndarray:
    """Clusters as the run makes them, at the run's share of pairs."""
    vectors = sae_similarity(config.similarity).fit(latents).transform(latents)
    labels: np.ndarray = ThresholdMST(share_of_pairs=config.clustering.share_of_pairs).fit(vectors).labels_
    return labels


def compare_seeds(
    config: RunConfig,
    companies: pd.DataFrame,
    groups: dict[str, dict[int, np.ndarray]],
    out: Path,
    spec: TrainingSpec = SPEC,
    seeds: tuple[int, int] = SEEDS,
    given: tuple[Path, Path] | None = None,
) -> tuple[dict[str, dict[str, Stability]], dict[str, Any]]:
    """Train what is not there, match, and compare.

    Parameters
    ----------
    config : RunConfig
    companies : DataFrame
        filing_id and text; the rows of the groups' members.
    groups : dict of dict
        Members of clusters by name of the grouping.
    out : path
    spec : TrainingSpec
        How the SAEs are trained, but for the seeds.
    seeds : tuple of int
    given : tuple of path, optional
        SAEs to compare instead of training two, read at the same hook and of as many latents.

    Returns
    -------
    dict of dict of Stability
        By way of matching (decoder, activity) and by name of the grouping.
    dict
        Other figures: unexplained variance, live latents (those that fire in a company), shares of them and of the
        defining latents that have a counterpart, and agreement of the two partitions (adjusted Rand index).
    """
    read = config.encoder.model_dump(include={"revision", "hook", "window", "overlap", "batch_tokens"})
    texts = companies.sort_values("filing_id")["text"].tolist()
    known = fingerprint(fingerprint_of_path(config.encoder.model), read, texts, str(spec))
    folder = out / f"seeds-{known[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    tokens = read_tokens(config, companies, folder)
    if given is None:
        saes = [trained(tokens, replace(spec, seed=seed), folder) for seed in seeds]
    else:
        saes = [load_sae(place, decoder=True) for place in given]
    latents = [summed(sae, tokens, len(companies)) for sae in saes]
    first, second = (relative_strength(matrix) for matrix in latents)
    decoders = [sae.decoder.double().numpy() for sae in saes if sae.decoder is not None]
    matches = {"decoder": match_latents(*decoders), "activity": match_latents(activity(first), activity(second))}
    found = {
        way: {name: stability(first, match.renumbered(second), own) for name, own in groups.items()}
        for way, match in matches.items()
    }
    live = [np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1])) for matrix in latents]
    labels = [partition(config, matrix) for matrix in latents]
    figures = {
        "tokens": len(tokens.rows),
        "unexplained": [round(measure(sae, tokens.rows).fraction_unexplained, 4) for sae in saes],
        "live latents": [len(some) for some in live],
        "shared": {way: shares(match, first, live[0], groups) for way, match in matches.items()},
        "adjusted Rand of the partitions": round(float(adjusted_rand_score(*labels)), 3),
        "companies in clusters": [int((np.bincount(own)[own] > 1).sum()) for own in labels],
    }
    return found, figures


def shares(
    match: LatentMatch, first: sp.csr_array, live: np.ndarray, groups: dict[str, dict[int, np.ndarray]]
) -> dict[str, float]:
    """Shares with a counterpart of 0.7 or more: of the live latents, and of those that define a group (their mean)."""
    defining = {
        name: float(np.mean([match.shared(defining_latents(first, member)) for member in own.values()]))
        for name, own in groups.items()
    }
    everything = {"live latents": match.shared(live), **{f"defining, {name}": s for name, s in defining.items()}}
    return {name: round(share, 3) for name, share in everything.items()}
