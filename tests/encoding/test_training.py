from __future__ import annotations

import pytest
import torch

from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import SAE
from companysim.encoding.training import TrainingSpec, collect_activations, quality, train_topk
from companysim.errors import DataError

SPEC = TrainingSpec(latents=48, k=3, tokens=100_000, batch=256, learning_rate=1e-2, dead_after=20_000, seed=1)


@pytest.fixture(scope="module")
def atoms() -> torch.Tensor:
    """A dictionary of 24 unit vectors in 16 dimensions."""
    return torch.nn.functional.normalize(torch.randn(24, 16, generator=torch.Generator().manual_seed(3)), dim=1)


@pytest.fixture(scope="module")
def activations(atoms: torch.Tensor) -> torch.Tensor:
    """Raw rows far from unit scale and zero mean: three atoms each, times 50, around an offset."""
    generator = torch.Generator().manual_seed(4)
    chosen = torch.stack([torch.randperm(24, generator=generator)[:3] for _ in range(6000)])
    strengths = 1 + torch.rand(6000, 3, generator=generator)
    offset = 200 * torch.randn(16, generator=generator)
    return 50 * (strengths.unsqueeze(-1) * atoms[chosen]).sum(1) + offset


@pytest.fixture(scope="module")
def trained(activations: torch.Tensor) -> SAE:
    return train_topk(activations[:5000], SPEC)


def first_step(spec: TrainingSpec) -> TrainingSpec:
    return TrainingSpec(**{**spec.__dict__, "tokens": spec.batch})


def test_training_explains_held_out_rows(trained: SAE, activations: torch.Tensor) -> None:
    # Predicting the mean leaves 1 unexplained. Raw rows go in: without the folded scale nothing would fit.
    held_out = quality(trained, activations[5000:])
    start = quality(train_topk(activations[:5000], first_step(SPEC)), activations[5000:])
    assert held_out.fraction_unexplained < 0.15
    assert held_out.fraction_unexplained < 0.5 * start.fraction_unexplained
    assert held_out.tokens == 1000
    assert 1 < held_out.l0 <= 3


def test_training_finds_the_dictionary(trained: SAE, atoms: torch.Tensor) -> None:
    assert trained.decoder is not None
    best = (atoms @ trained.decoder.T).max(dim=1).values
    assert float(best.median()) > 0.95


def test_decoder_rows_have_unit_norm(trained: SAE) -> None:
    assert trained.decoder is not None
    torch.testing.assert_close(trained.decoder.norm(dim=1), torch.ones(48))


def test_result_needs_no_gradient(trained: SAE) -> None:
    assert not any(getattr(trained, name).requires_grad for name in ("encoder", "bias", "shift", "b_dec", "decoder"))


def test_scale_of_the_input_folds_into_the_weights(activations: torch.Tensor) -> None:
    # A power of two changes no rounding, so everything that is no length stays the same to the bit.
    spec = TrainingSpec(latents=32, k=3, tokens=5_000, batch=256)
    plain, large = train_topk(activations, spec), train_topk(1024 * activations, spec)
    assert torch.equal(plain.encoder, large.encoder)
    assert torch.equal(1024 * plain.bias, large.bias)
    assert plain.b_dec is not None
    assert large.b_dec is not None
    assert torch.equal(1024 * plain.b_dec, large.b_dec)
    assert plain.shift is not None
    assert large.shift is not None
    assert torch.equal(1024 * plain.shift, large.shift)
    codes, large_codes = plain.encode(activations), large.encode(1024 * activations)
    assert torch.equal(1024 * codes.value, large_codes.value)
    assert torch.equal(codes.token, large_codes.token)
    assert torch.equal(codes.latent, large_codes.latent)


def test_seed_decides_the_result(activations: torch.Tensor) -> None:
    spec = TrainingSpec(latents=32, k=3, tokens=5_000, batch=256, seed=5)
    first = train_topk(activations, spec)
    torch.manual_seed(99)  # the global state must not matter
    again, other = train_topk(activations, spec), train_topk(activations, TrainingSpec(**{**spec.__dict__, "seed": 6}))
    assert torch.equal(first.encoder, again.encoder)
    assert torch.equal(first.b_dec, again.b_dec)
    assert not torch.equal(first.encoder, other.encoder)


def test_global_random_state_is_left_alone(activations: torch.Tensor) -> None:
    before = torch.get_rng_state()
    train_topk(activations, TrainingSpec(latents=32, k=3, tokens=512, batch=256))
    assert torch.equal(torch.get_rng_state(), before)


def test_auxiliary_loss_revives_dead_latents(activations: torch.Tensor) -> None:
    def dead_share(auxiliary: float) -> float:
        spec = TrainingSpec(
            latents=128, k=3, tokens=50_000, batch=256, learning_rate=3e-2, dead_after=5_000, auxiliary=auxiliary
        )
        return quality(train_topk(activations, spec), activations).dead_share

    assert dead_share(1.0) < 0.8 * dead_share(0.0)


def test_progress_reports_a_falling_loss(activations: torch.Tensor) -> None:
    seen: list[tuple[int, float]] = []
    train_topk(
        activations,
        TrainingSpec(latents=32, k=3, tokens=25_600, batch=256),
        lambda tokens, loss: seen.append((tokens, loss)),
    )
    assert [tokens for tokens, _ in seen] == [256 * (i + 1) for i in range(100)]
    assert seen[-1][1] < 0.8 * seen[0][1]


def test_bfloat16_rows_are_accepted(activations: torch.Tensor) -> None:
    sae = train_topk(activations.bfloat16(), TrainingSpec(latents=32, k=3, tokens=2_560, batch=256))
    assert sae.encoder.dtype == torch.float32


def test_fewer_rows_than_a_batch_are_refused(activations: torch.Tensor) -> None:
    with pytest.raises(DataError, match="255 activations are fewer than one batch of 256: give more text"):
        train_topk(activations[:255], TrainingSpec(batch=256))


def test_rows_all_the_same_are_refused() -> None:
    with pytest.raises(DataError, match=r"spread by 0\.0: they must be finite and not all the same"):
        train_topk(torch.ones(300, 4), TrainingSpec(latents=8, k=2, batch=256, tokens=256))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(activations: torch.Tensor, bad: float) -> None:
    rows = activations.clone()
    rows[17, 3] = bad
    with pytest.raises(DataError, match="must be finite"):
        train_topk(rows, TrainingSpec(latents=8, k=2, batch=256, tokens=256))


def test_diverging_training_is_stopped_with_a_remedy(activations: torch.Tensor) -> None:
    spec = TrainingSpec(latents=8, k=2, batch=256, tokens=25_600, learning_rate=1e38)
    with pytest.raises(DataError, match=r"not finite after \d+ tokens: lower the learning rate"):
        train_topk(activations, spec)


def test_quality_by_hand() -> None:
    eye = torch.eye(2)
    encoder, zero = torch.cat([eye, torch.zeros(2, 2)]), torch.zeros(2)
    sae = SAE(encoder, torch.zeros(4), k=2, shift=zero, decoder=torch.cat([eye, eye]), b_dec=zero)
    # Positive parts are kept: errors 0, 0, 1 and 4 against a variance around (1, 0) of 5 + 1 + 2 + 8 = 16.
    found = quality(sae, torch.tensor([[3.0, 1.0], [2.0, 0.0], [0.0, -1.0], [-1.0, 0.0]]))
    errors, spread = 1 + 1, (5 + 1 + 2 + 4)
    assert found.tokens == 4
    assert found.fraction_unexplained == pytest.approx(errors / spread)
    assert found.l0 == 3 / 4
    assert found.dead_share == 0.5


def test_quality_does_not_depend_on_how_rows_are_grouped(trained: SAE, activations: torch.Tensor) -> None:
    whole = quality(trained, activations)  # 4096 rows and a rest
    error = (activations - trained.decode(trained.encode(activations), len(activations))).pow(2).sum()
    assert whole.fraction_unexplained == pytest.approx(
        float(error / (activations - activations.mean(0)).pow(2).sum()), rel=1e-4
    )


def test_collected_rows_are_the_stream_in_bfloat16(stream: ResidualStream) -> None:
    windows = stream.windows([ids for ids, _ in stream.tokenise(["crude oil and gas " * 6, "bank"])])
    seen: list[tuple[int, int]] = []
    rows = collect_activations(stream, windows, lambda done, total: seen.append((done, total)))
    expected = torch.cat([stream.activations(batch).hidden for batch in stream.batches(windows)])
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows, expected.bfloat16())
    assert len(rows) == 6 * 18 + 4
    assert seen[-1] == (len(seen), len(seen))
