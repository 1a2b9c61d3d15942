from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from companysim.encoding.sae import SAE
from companysim.errors import WeightsError
from companysim.sae_training.quality import measure
from companysim.sae_training.transfer import start_of, transfer


@pytest.fixture
def identity() -> SAE:
    """Reconstructs exactly what lies within its 8 positive and 8 negative axes around b_dec, two at a time."""
    eye = torch.eye(8)
    b_dec = torch.arange(8.0)
    axes = torch.cat([eye, -eye])
    return SAE(axes, torch.zeros(16), k=2, shift=b_dec, decoder=axes.clone(), b_dec=b_dec)


def rows_around(centre: torch.Tensor, scale: float, seed: int = 1) -> torch.Tensor:
    """Two active coordinates a row."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(3000, 8, generator=generator).argsort(1) < 2
    return centre + scale * torch.randn(3000, 8, generator=generator) * mask


def test_the_same_layer_is_left_as_it_is(identity: SAE) -> None:
    assert identity.b_dec is not None
    found = transfer(identity, rows_around(identity.b_dec, 3.0))
    assert found.ratio == 1
    assert not found.centred
    assert found.fraction_unexplained < 1e-10
    assert torch.equal(found.sae.encoder, identity.encoder)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 2.0, 4.0])
def test_scale_of_another_layer_is_found(identity: SAE, ratio: float) -> None:
    # One latent always adds 2 along the last axis, as a bias does: only the right scale adds 2 * ratio there.
    bias, encoder = torch.zeros(16), identity.encoder.clone()
    bias[7], encoder[7] = 2.0, 0.0
    assert identity.b_dec is not None
    shifting = replace(identity, encoder=encoder, bias=bias, k=3)
    home = rows_around(torch.zeros(8), 3.0).abs()
    home[:, 7] = 2.0
    found = transfer(shifting, identity.b_dec + ratio * home)
    assert found.ratio == pytest.approx(ratio)
    assert not found.centred
    assert found.fraction_unexplained < 1e-10
    assert measure(shifting, identity.b_dec + ratio * home).fraction_unexplained > 0.001


def test_centre_of_another_layer_is_found(identity: SAE) -> None:
    rows = rows_around(torch.full((8,), 50.0), 3.0)
    found = transfer(identity, rows)
    assert found.centred
    assert found.fraction_unexplained < 0.05 < measure(identity, rows).fraction_unexplained
    assert found.fraction_unexplained == pytest.approx(measure(found.sae, rows[:2048]).fraction_unexplained)


def test_scaled_sae_is_the_scaled_function(identity: SAE) -> None:
    jumping = replace(identity, activation="jumprelu", k=None, threshold=torch.full((16,), 0.7))
    moved = transfer(jumping, 2 * rows_around(torch.zeros(8), 3.0) + 9).sae
    x = rows_around(torch.full((8,), 9.0), 6.0, seed=5)
    r = float(moved.threshold[0] / 0.7)  # type: ignore[index]
    assert moved.b_dec is not None
    assert jumping.b_dec is not None
    inner = (x - moved.b_dec) / r + jumping.b_dec
    expected = r * (jumping.decode(jumping.encode(inner), len(x)) - jumping.b_dec) + moved.b_dec
    torch.testing.assert_close(moved.decode(moved.encode(x), len(x)), expected)


def test_unshifted_input_and_decoder_norms_are_folded(identity: SAE) -> None:
    # Gemma Scope's kind: b_dec is added to the output and not subtracted from the input.
    assert identity.decoder is not None
    assert identity.b_dec is not None
    plain = replace(
        identity, shift=None, bias=-(identity.encoder @ identity.b_dec), decoder=2 * identity.decoder,
        encoder=identity.encoder / 2, k=None, activation="relu",
    )  # fmt: skip
    plain = replace(plain, bias=plain.bias / 2)
    rows = rows_around(identity.b_dec, 3.0)
    assert measure(plain, rows).fraction_unexplained < 1e-10
    start = start_of(transfer(plain, rows).sae, 4.0)
    torch.testing.assert_close(start.decoder.norm(dim=1), torch.ones(16))
    torch.testing.assert_close(start.b_dec, identity.b_dec / 4)
    values = ((rows / 4 - start.b_dec) @ start.encoder.T + start.bias).relu()
    torch.testing.assert_close(4 * (values @ start.decoder + start.b_dec), rows, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_named(identity: SAE) -> None:
    with pytest.raises(WeightsError, match="reads vectors of 8 numbers but the model's are 9 wide"):
        transfer(identity, torch.ones(5, 9))
    with pytest.raises(WeightsError, match="loaded without its decoder"):
        transfer(replace(identity, decoder=None), torch.ones(5, 8))
    with pytest.raises(WeightsError, match="normalises each token"):
        transfer(replace(identity, normalise="layer_norm"), torch.ones(5, 8))
