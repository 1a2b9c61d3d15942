from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2Model, LlamaModel, PreTrainedTokenizerFast

from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import SAE
from companysim.encoding.training import TrainingSpec, quality, train_topk
from companysim.encoding.verify import HookFit, Verification, verify_sae
from companysim.errors import CompanySimError, ConfigError, DataError, WeightsError

TEXTS = [
    "The company drills wells for oil and gas in Texas and operates rigs offshore. " * 3,
    "A bank that takes deposits, makes loans and sells insurance to households! " * 3,
    "Semiconductors: memory chips, sensors; 300 mm wafers, foundry services (Taiwan). " * 3,
]


def rows_at(llm_path: Path, hook: str, texts: list[str] = TEXTS) -> torch.Tensor:
    """Rows as encoding sees them."""
    stream = ResidualStream(str(llm_path), hook, window=64, overlap=0)
    batches = stream.batches(stream.windows([ids for ids, _ in stream.tokenise(texts)]))
    return torch.cat([stream.activations(batch).hidden for batch in batches])


def trained(rows: torch.Tensor) -> SAE:
    return train_topk(rows, TrainingSpec(latents=64, k=8, tokens=60_000, batch=128, learning_rate=5e-3, seed=2))


@pytest.fixture(scope="module")
def at_1(llm_path: Path) -> SAE:
    """An SAE of the output of block 1."""
    return trained(rows_at(llm_path, "layers.1"))


@pytest.fixture(scope="module")
def found(llm_path: Path, at_1: SAE) -> Verification:
    return verify_sae(at_1, str(llm_path), TEXTS, "layers.1", window=64)


def test_true_place_fits_best(found: Verification) -> None:
    assert found.best.hook == "layers.1"
    assert "layers.1 fits best of the 5 places tried" in found.summary()
    assert [fit.hook for fit in found.fits] == ["embed_tokens", "layers.0", "layers.1", "layers.2", "layers.3"]


@pytest.mark.parametrize("claimed", ["layers.0", "layers.2", "layers.3", "embed_tokens"])
def test_another_place_is_pointed_out(llm_path: Path, at_1: SAE, claimed: str) -> None:
    found = verify_sae(at_1, str(llm_path), TEXTS, claimed, window=64)
    assert found.best.hook == "layers.1"
    assert found.claimed.hook == claimed
    assert found.summary().startswith("Another place fits better: at layers.1 the SAE leaves")
    assert found.summary().endswith("Read it at layers.1.")


def test_embedding_takes_part(llm_path: Path) -> None:
    rows = rows_at(llm_path, "embed_tokens")
    sae = train_topk(rows, TrainingSpec(latents=64, k=8, tokens=60_000, batch=128, learning_rate=5e-3, seed=2))
    found = verify_sae(sae, str(llm_path), TEXTS, "layers.0", window=64, neighbours=1)
    assert [fit.hook for fit in found.fits] == ["embed_tokens", "layers.0", "layers.1"]
    assert found.best.hook == "embed_tokens"


def test_figures_equal_training_quality(llm_path: Path, at_1: SAE, found: Verification) -> None:
    for fit in found.fits:
        rows = rows_at(llm_path, fit.hook)
        expected = quality(at_1, rows)
        assert fit.tokens == expected.tokens
        assert fit.fraction_unexplained == pytest.approx(expected.fraction_unexplained, rel=1e-4)
        assert fit.l0 == pytest.approx(expected.l0)
        reconstruction = at_1.decode(at_1.encode(rows), len(rows))
        cosine = torch.nn.functional.cosine_similarity(rows, reconstruction).mean()
        assert fit.cosine == pytest.approx(float(cosine), abs=1e-5)


def test_places_are_hidden_states(whole: LlamaModel, llm_path: Path, at_1: SAE) -> None:
    # One short text, no token massive: the rows must be transformers' own hidden states, embedding first.
    found = verify_sae(at_1, str(llm_path), ["oil and gas"], "layers.1", window=64, neighbours=1)
    stream = ResidualStream(str(llm_path), "layers.1", window=64, overlap=0)
    ids, _ = stream.tokenise(["oil and gas"])[0]
    with torch.no_grad():
        states = whole(torch.tensor([[0, *ids.tolist()]]), output_hidden_states=True).hidden_states
    for fit, state in zip(found.fits, states[1:], strict=False):
        rows = state[0, 1:]
        assert fit.tokens == len(rows)
        error = (rows - at_1.decode(at_1.encode(rows), len(rows))).pow(2).sum()
        expected = float(error / (rows - rows.mean(0)).pow(2).sum())
        assert fit.fraction_unexplained == pytest.approx(expected, rel=1e-3)


def test_result_does_not_depend_on_batching(llm_path: Path, at_1: SAE, found: Verification) -> None:
    apart = verify_sae(at_1, str(llm_path), TEXTS[::-1], "layers.1", window=64, batch_tokens=64)
    columns = ["fraction_unexplained", "l0", "cosine"]
    np.testing.assert_allclose(apart.to_frame()[columns], found.to_frame()[columns], rtol=1e-3)


def test_hook_of_the_sae_is_the_default(llm_path: Path, at_1: SAE) -> None:
    named = SAE(at_1.encoder, at_1.bias, k=8, shift=at_1.shift, decoder=at_1.decoder, b_dec=at_1.b_dec, hook="layers.2")
    assert verify_sae(named, str(llm_path), TEXTS, window=64, neighbours=0).hook == "layers.2"
    with pytest.raises(ConfigError, match=r"does not say which module the SAE reads: give a hook, such as layers\.12"):
        verify_sae(at_1, str(llm_path), TEXTS)


def test_inner_modules_have_inner_neighbours(llm_path: Path, at_1: SAE) -> None:
    found = verify_sae(at_1, str(llm_path), TEXTS, "layers.1.mlp", window=64)
    assert [fit.hook for fit in found.fits] == [f"layers.{i}.mlp" for i in range(4)]
    assert found.best.hook.endswith(".mlp")


def test_gpt2_names(llm_path: Path, tmp_path: Path) -> None:
    PreTrainedTokenizerFast.from_pretrained(llm_path).save_pretrained(tmp_path)
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=257, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=0)
    GPT2Model(config).save_pretrained(tmp_path)
    sae = trained(rows_at(tmp_path, "h.1"))
    found = verify_sae(sae, str(tmp_path), TEXTS, "h.1", window=64)
    assert [fit.hook for fit in found.fits] == ["wte", "h.0", "h.1", "h.2"]
    assert found.best.hook == "h.1"


def test_frame_has_one_row_a_place(found: Verification) -> None:
    frame = found.to_frame()
    assert frame.columns.tolist() == ["hook", "tokens", "fraction_unexplained", "l0", "cosine", "claimed"]
    assert frame.loc[frame["claimed"], "hook"].tolist() == ["layers.1"]


def test_sae_of_another_model_is_called_so(llm_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    encoder, decoder = torch.randn(2, 64, 32, generator=generator)
    found = verify_sae(SAE(encoder, torch.zeros(64), k=8, decoder=decoder), str(llm_path), TEXTS, "layers.1", window=64)
    assert min(fit.fraction_unexplained for fit in found.fits) > 1
    assert found.summary().startswith("The SAE fits none of the 5 places tried")


def test_claimed_place_wins_a_tie() -> None:
    fits = tuple(HookFit(f"layers.{i}", 10, 0.5, 8.0, 0.9) for i in range(3))
    assert Verification("model", "layers.1", fits).best.hook == "layers.1"


def test_progress_is_reported(llm_path: Path, at_1: SAE) -> None:
    seen: list[tuple[int, int]] = []
    verify_sae(
        at_1, str(llm_path), TEXTS, "layers.1", window=64, batch_tokens=128, report=lambda *done: seen.append(done)
    )
    assert len(seen) > 1
    assert seen == [(i + 1, len(seen)) for i in range(len(seen))]


@pytest.mark.parametrize(
    ("hook", "error", "words"),
    [
        ("layers.4", WeightsError, r"has 4 blocks, so no 'layers\.4': count from 0"),
        ("blocks.1", WeightsError, "has no module 'blocks'"),
        ("layers.1.nothing", WeightsError, r"has no module 'layers\.1\.nothing'"),
        ("norm", ConfigError, "hook 'norm' names no block of"),
        ("layers.1.input_layernorm.weight", WeightsError, "has no module"),
        ("layers.1.mlp.up_proj", WeightsError, "does not put out one vector of 32 numbers"),
    ],
)
def test_hooks_that_cannot_be_read_are_refused(
    llm_path: Path, at_1: SAE, hook: str, error: type[CompanySimError], words: str
) -> None:
    with pytest.raises(error, match=words):
        verify_sae(at_1, str(llm_path), TEXTS, hook, window=64)


def test_sae_that_does_not_fit_is_refused(llm_path: Path, at_1: SAE) -> None:
    with pytest.raises(WeightsError, match="load it with decoder=True"):
        verify_sae(SAE(at_1.encoder, at_1.bias, k=8), str(llm_path), TEXTS, "layers.1")
    narrow = SAE(torch.zeros(8, 31), torch.zeros(8), k=2, decoder=torch.zeros(8, 31))
    with pytest.raises(WeightsError, match="reads vectors of 31 numbers but the model's are 32 wide"):
        verify_sae(narrow, str(llm_path), TEXTS, "layers.1")


@pytest.mark.parametrize("texts", [[], [""], ["x"]])
def test_too_little_text_is_refused(llm_path: Path, at_1: SAE, texts: list[str]) -> None:
    with pytest.raises(DataError, match="fewer than two tokens"):
        verify_sae(at_1, str(llm_path), texts, "layers.1")


def test_massive_tokens_are_left_out_as_in_encoding(llm_path: Path, tmp_path: Path, at_1: SAE) -> None:
    model = LlamaModel.from_pretrained(llm_path)
    PreTrainedTokenizerFast.from_pretrained(llm_path).save_pretrained(tmp_path)
    stream = ResidualStream(str(llm_path), "layers.1", window=64, overlap=0)
    [(ids, _)] = stream.tokenise(["z"])
    with torch.no_grad():
        model.embed_tokens.weight[int(ids[0])] *= 1000
    model.save_pretrained(tmp_path)
    texts = ["crude oil z and gas", "z bank"]
    found = verify_sae(at_1, str(tmp_path), texts, "layers.1", window=64, neighbours=1)
    for fit in found.fits:
        rows = rows_at(tmp_path, fit.hook, texts)
        assert fit.tokens == len(rows) < sum(map(len, texts))
        assert fit.fraction_unexplained == pytest.approx(quality(at_1, rows).fraction_unexplained, rel=1e-3)


def test_padding_does_not_reach_an_encoders_rows(bert_path: Path) -> None:
    texts = ["oil gas wells", "bank loans retail chip drug alpha beta gamma delta", "oil"]
    sae = SAE(torch.eye(32), torch.zeros(32), "relu", decoder=torch.eye(32))
    hook = "encoder.layer.0"
    together = verify_sae(sae, str(bert_path), texts, hook, window=64, neighbours=1).to_frame()
    apart = verify_sae(sae, str(bert_path), texts, hook, window=64, neighbours=1, batch_tokens=8).to_frame()
    assert together["tokens"].tolist() == [13] * 3
    pd.testing.assert_frame_equal(together, apart, rtol=1e-4)
