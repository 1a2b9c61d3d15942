"""The loss against the papers' formulas written densely, gradients included."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from companysim.sae_training.coder import Coder, Start, random_start
from companysim.sae_training.spec import TrainingSpec

WIDTH, LATENTS, K = 6, 20, 3


def start() -> Start:
    generator = torch.Generator().manual_seed(1)
    encoder, decoder = torch.randn(2, LATENTS, WIDTH, generator=generator)
    bias, b_dec = torch.randn(LATENTS, generator=generator), torch.randn(WIDTH, generator=generator)
    threshold = 0.5 + torch.rand(LATENTS, generator=generator)
    return Start(encoder, bias, decoder, b_dec, threshold)


def dense_loss(kind: str, x: torch.Tensor, begun: Start, dead: torch.Tensor, spec: TrainingSpec) -> torch.Tensor:
    """As the papers write it; JumpReLU's gradient of the threshold is left out, for it has none of its own."""
    pre = (x - begun.b_dec) @ begun.encoder.T + begun.bias
    relu = pre.relu()
    if kind == "jumprelu":
        assert begun.threshold is not None
        mask = pre > begun.threshold
    else:
        least = relu.topk(K, dim=1).values[:, -1:] if kind == "topk" else relu.flatten().topk(K * len(x)).values[-1]
        mask = (relu >= least) & (relu > 0)
    error = x - (pre * mask) @ begun.decoder - begun.b_dec
    loss = error.pow(2).sum(1).mean() / WIDTH
    if kind == "jumprelu":
        loss = loss + spec.sparsity * (mask.sum() / len(x) / K - 1) ** 2
    revived = relu * dead
    best = revived >= revived.topk(WIDTH // 2, dim=1).values[:, -1:]
    leftover = (revived * best) @ begun.decoder - error.detach()
    return loss + spec.auxiliary * leftover.pow(2).sum(1).mean() / WIDTH


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu"])
def test_loss_and_gradients_are_those_of_the_papers(kind: Any) -> None:
    spec = TrainingSpec(kind=kind, latents=LATENTS, k=K, auxiliary=0.7, sparsity=0.3)
    x = 2 * torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(2))
    dead = torch.zeros(LATENTS, dtype=torch.bool)
    dead[::3] = True
    coder = Coder(spec, start())
    step = coder(x, dead)
    step.total.backward()
    reference = Start(*(tensor.requires_grad_() if tensor is not None else None for tensor in start()))
    expected = dense_loss(kind, x, reference, dead, spec)
    expected.backward()
    torch.testing.assert_close(step.total, expected)
    for name in ("encoder", "bias", "decoder", "b_dec"):
        torch.testing.assert_close(getattr(coder, name).grad, getattr(reference, name).grad, rtol=1e-4, atol=1e-5)


def test_one_batch_says_what_fired() -> None:
    eye = torch.eye(4)
    coder = Coder(TrainingSpec(latents=4, k=2), Start(eye, torch.zeros(4), eye, torch.zeros(4)))
    step = coder(torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 0.5, -1.0, -1.0]]), torch.zeros(4, dtype=torch.bool))
    assert step.fired.tolist() == [True, True, False, False]
    assert float(step.active) == 1.5
    assert float(step.least) == 0.5
    assert float(step.unexplained) == pytest.approx((1 + 2) / 2 / 4)


def test_without_auxiliary_weight_dead_latents_stay_out() -> None:
    x, dead = torch.randn(20, WIDTH), torch.ones(LATENTS, dtype=torch.bool)
    spec = TrainingSpec(latents=LATENTS, k=K, auxiliary=0.0)
    step = Coder(spec, start())(x, dead)
    assert torch.equal(step.total.detach(), step.unexplained)


def test_first_threshold_lets_k_latents_through_on_average() -> None:
    x = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(3))
    spec = TrainingSpec(kind="jumprelu", latents=LATENTS, k=K)
    coder = Coder(spec, random_start(LATENTS, torch.zeros(WIDTH), 0))
    coder.set_threshold(x)
    step = coder(x, torch.zeros(LATENTS, dtype=torch.bool))
    assert float(step.active) == pytest.approx(K, abs=0.01)


def test_a_latent_without_a_direction_stays_finite() -> None:
    coder = Coder(TrainingSpec(latents=LATENTS, k=K), start())
    with torch.no_grad():
        coder.decoder[4] = 0
    coder.normalise()
    assert bool(coder.decoder.isfinite().all())


def test_decoder_rows_are_brought_back_to_norm_1() -> None:
    coder = Coder(TrainingSpec(latents=LATENTS, k=K), start())
    coder.normalise()
    torch.testing.assert_close(coder.decoder.norm(dim=1), torch.ones(LATENTS))
