"""Evaluation against transformers run by hand, and against SAEs whose figures are known beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from companysim.encoding.llm import ResidualStream
from companysim.encoding.random_weights import random_weights
from companysim.encoding.sae import SAE
from companysim.errors import DataError, WeightsError
from companysim.sae_training.evaluate import Evaluation, evaluate
from companysim.sae_training.quality import measure

TEXTS = ["crude oil and gas", "a bank"]
OPTIONS = {"window": 64, "batch_tokens": 256}


def perfect() -> SAE:
    """Two latents a coordinate and enough of them: x is reconstructed whatever it is."""
    axes = torch.cat([torch.eye(32), -torch.eye(32)])
    return SAE(axes, torch.zeros(64), k=32, shift=torch.zeros(32), decoder=axes, b_dec=torch.zeros(32))


def nothing() -> SAE:
    """Reconstructs zeros."""
    return replace(perfect(), bias=torch.full((64,), -1e9))


@pytest.fixture(scope="module")
def found(llm_path: Path, sae: SAE) -> Evaluation:
    return evaluate(sae, str(llm_path), "layers.1", TEXTS, **OPTIONS)


def cross_entropy(llm_path: Path, change: torch.Tensor | None, text: str) -> tuple[float, int]:
    """Next-token loss of one text, with `change` as the residual stream of its tokens after block 1."""
    model = AutoModelForCausalLM.from_pretrained(llm_path).eval()
    tokens = ResidualStream(str(llm_path), "layers.1", window=64, overlap=0).tokenise([text])[0][0]
    ids = torch.tensor([[0, *tokens.tolist()]])

    def hook(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        if change is None:
            return output
        return torch.cat([output[:, :1], change[None]], dim=1)

    model.model.layers[1].register_forward_hook(hook)
    with torch.no_grad():
        logits = model(ids).logits[0, :-1]
    loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
    return float(loss), len(tokens)


def test_cross_entropies_equal_a_model_patched_by_hand(llm_path: Path, sae: SAE, found: Evaluation) -> None:
    stream = ResidualStream(str(llm_path), "layers.1", window=64, overlap=0)
    sums, count = np.zeros(3), 0
    for text in TEXTS:
        rows = stream.activations(stream.windows([stream.tokenise([text])[0][0]])).hidden
        assert len(rows) == len(text)  # no massive activation among them, or the hand-made patch would differ
        patches = [None, sae.decode(sae.encode(rows), len(rows)), torch.zeros_like(rows)]
        losses = [cross_entropy(llm_path, patch, text) for patch in patches]
        sums += [loss for loss, _ in losses]
        count += losses[0][1]
    assert found.predictions == count
    np.testing.assert_allclose([found.clean, found.patched, found.zero], sums / count, rtol=1e-5)
    assert found.recovered == pytest.approx((sums[2] - sums[1]) / (sums[2] - sums[0]), rel=1e-3)


def test_perfect_and_empty_saes_are_the_ends_of_the_scale(llm_path: Path) -> None:
    best = evaluate(perfect(), str(llm_path), "layers.1", TEXTS, **OPTIONS)
    worst = evaluate(nothing(), str(llm_path), "layers.1", TEXTS, **OPTIONS)
    assert best.recovered == pytest.approx(1, abs=1e-4)
    assert best.quality.fraction_unexplained == pytest.approx(0, abs=1e-10)
    assert worst.recovered == pytest.approx(0, abs=1e-6)
    assert worst.quality.dead_share == 1
    assert worst.histogram().to_dict("records") == [{"density": "never", "latents": 64}]


def test_reconstruction_figures_are_those_of_measure(llm_path: Path, sae: SAE, found: Evaluation) -> None:
    stream = ResidualStream(str(llm_path), "layers.1", window=64, overlap=0, batch_tokens=256)
    windows = stream.windows([ids for ids, _ in stream.tokenise(TEXTS)])
    rows = torch.cat([stream.activations(batch).hidden for batch in stream.batches(windows)])
    expected = measure(sae, rows)
    assert found.quality.fraction_unexplained == pytest.approx(expected.fraction_unexplained)
    assert (found.quality.tokens, found.quality.l0) == (expected.tokens, expected.l0)
    histogram = found.histogram()
    assert histogram["latents"].sum() == 48
    decade = (expected.density >= 0.1).sum()
    assert histogram.iloc[-1].to_dict() == {"density": "1e-1 to 1e0", "latents": decade}
    assert found.to_dict()["density"] == histogram.to_dict("records")


def test_without_a_head_there_is_no_cross_entropy(llm_path: Path, bert_path: Path, sae: SAE, tmp_path: Path) -> None:
    headless = random_weights(llm_path, tmp_path / "control")
    for model, hook in ((headless, "layers.1"), (bert_path, "encoder.layer.0")):
        found = evaluate(sae, str(model), hook, ["oil gas drug bank chip"], **OPTIONS)
        figures = found.to_dict()
        assert found.predictions == 0
        assert figures["cross_entropy_recovered"] is None
        assert figures["fraction_unexplained"] > 0


def test_mistakes_are_named(llm_path: Path, sae: SAE) -> None:
    for bad, words in (
        (replace(sae, decoder=None), "loaded without its decoder"),
        (replace(sae, normalise="layer_norm"), "normalises each token"),
    ):
        with pytest.raises(WeightsError, match=words):
            evaluate(bad, str(llm_path), "layers.1", TEXTS)
    with pytest.raises(WeightsError, match=r"no module 'layers\.9'"):
        evaluate(sae, str(llm_path), "layers.9", TEXTS, **OPTIONS)
    with pytest.raises(DataError, match="fewer than two tokens"):
        evaluate(sae, str(llm_path), "layers.1", [""], **OPTIONS)
    narrow = SAE(torch.eye(4), torch.zeros(4), k=1, shift=torch.zeros(4), decoder=torch.eye(4), b_dec=torch.zeros(4))
    with pytest.raises(WeightsError, match="reads vectors of 4 numbers but the model's are 32"):
        evaluate(narrow, str(llm_path), "layers.1", TEXTS, **OPTIONS)
