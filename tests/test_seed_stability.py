"""Explanations under another SAE seed: the script's part on a tiny world."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))

import seed_stability as module
from explanation_stability import at_random
from sklearn.metrics import adjusted_rand_score

from companysim.clustering import ThresholdMST
from companysim.config import RunConfig, load_config
from companysim.encoding.encode import encode
from companysim.encoding.models import load_models
from companysim.encoding.sae import load_sae
from companysim.explain.corpus import relative_strength
from companysim.explain.matching import match_latents
from companysim.explain.stability import stability
from companysim.sae_training.spec import TrainingSpec
from companysim.similarity import Cosine
from tests import tiny

SPEC = TrainingSpec(latents=48, k=4, tokens=25_000, batch=64, dead_after=1_000)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, pd.DataFrame]:
    place = tmp_path_factory.mktemp("seeds")
    config = load_config(tiny.build(place))
    return config, pd.read_csv(place / "filings.csv")


def groups(companies: pd.DataFrame) -> dict[str, dict[int, np.ndarray]]:
    kinds = companies["ticker"].str[:2].to_numpy()
    clusters = {place: kinds == kind for place, kind in enumerate(np.unique(kinds))}
    return {"clusters": clusters, "random": at_random(clusters, companies["ticker"].tolist())}


def test_latents_are_those_of_the_run(world: tuple[RunConfig, pd.DataFrame], tmp_path: Path) -> None:
    """Summed from stored activations, to bfloat16, as `encode` sums them."""
    config, companies = world
    companies = companies.sample(frac=1, random_state=0).reset_index(drop=True)
    stream, sae = load_models(config.encoder)
    expected = encode(stream, sae, companies["text"].tolist()).pooled.matrix("sum").toarray()
    tokens = module.read_tokens(config, companies, tmp_path)
    found = module.summed(sae, tokens, len(companies)).toarray()
    assert np.bincount(tokens.company).tolist() == companies["text"].str.split().str.len().tolist()
    assert np.abs(found - expected).sum() < 0.05 * expected.sum()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_two_seeds_are_trained_once_and_compared(world: tuple[RunConfig, pd.DataFrame], tmp_path: Path) -> None:
    config, companies = world
    found, figures = module.compare_seeds(config, companies, groups(companies), tmp_path, SPEC)
    for way in ("decoder", "activity"):
        table = found[way]["clusters"].table
        assert table["size"].tolist() == [6] * 3
        assert table[["kept", "first_kept", "f1", "f1_after"]].stack().between(0, 1).all()
    assert figures["unexplained"][0] != figures["unexplained"][1]
    assert max(figures["unexplained"]) < 0.6
    assert figures["tokens"] == companies["text"].str.split().str.len().sum()
    tokens = module.read_tokens(config, companies, next(tmp_path.iterdir()))
    saes = [load_sae(next(tmp_path.glob(f"*/sae-{seed}")), decoder=True) for seed in (0, 1)]
    first, second = (relative_strength(module.summed(sae, tokens, len(companies))) for sae in saes)
    other = match_latents(*(sae.decoder.numpy() for sae in saes if sae.decoder is not None)).other
    expected = stability(first, sp.csr_array(second[:, other]), groups(companies)["random"])
    pd.testing.assert_frame_equal(found["decoder"]["random"].table, expected.table)
    together = [Cosine().fit_transform(strength) for strength in (first, second)]
    labels = [ThresholdMST(share_of_pairs=0.2).fit(vectors).labels_ for vectors in together]
    assert figures["adjusted Rand of the partitions"] == round(adjusted_rand_score(*labels), 3)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    back = companies.sample(frac=1, random_state=1).reset_index(drop=True)
    again, same = module.compare_seeds(config, back, groups(back), tmp_path, SPEC)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written
    assert same == figures
    places = tuple(next(tmp_path.glob(f"*/sae-{seed}")) for seed in (0, 1))
    _, given = module.compare_seeds(config, companies, groups(companies), tmp_path, SPEC, given=places)
    assert given == figures
    for way in found:
        pd.testing.assert_frame_equal(again[way]["clusters"].table, found[way]["clusters"].table)


def test_the_same_seed_says_the_same(world: tuple[RunConfig, pd.DataFrame], tmp_path: Path) -> None:
    config, companies = world
    found, figures = module.compare_seeds(config, companies, groups(companies), tmp_path, SPEC, seeds=(0, 0))
    table = found["decoder"]["clusters"].table
    assert (table[["kept", "first_kept"]] == 1).all(axis=None)
    assert table["f1"].tolist() == table["f1_after"].tolist()
    assert figures["shared"]["decoder"]["live latents"] == 1
    assert figures["adjusted Rand of the partitions"] == 1
    assert figures["companies in clusters"][0] == figures["companies in clusters"][1] > 0


def test_shares_of_defining_latents() -> None:
    """Latent j defines group j; 0 has a counterpart, 1 has none."""
    strength = sp.csr_array(np.kron(np.eye(2), np.full((4, 1), 5.0)))
    match = module.LatentMatch(np.array([1, 0]), np.array([0.9, 0.1]))
    members = {0: np.arange(8) < 4, 1: np.arange(8) >= 4}
    found = module.shares(match, strength, np.array([0]), {"first": {0: members[0]}, "both": members})
    assert found == {"live latents": 1.0, "defining, first": 1.0, "defining, both": 0.5}


def test_a_stopped_training_goes_on(
    world: tuple[RunConfig, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, companies = world
    tokens = module.read_tokens(config, companies, tmp_path)
    whole = module.trained(tokens, SPEC, tmp_path / "whole")

    def stops(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_sae", stops)
        with pytest.raises(KeyboardInterrupt):
            module.trained(tokens, SPEC, tmp_path / "stopped")
    again = module.trained(tokens, SPEC, tmp_path / "stopped")
    assert torch.equal(again.encoder, whole.encoder)
