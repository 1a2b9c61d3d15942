from __future__ import annotations

import pytest
import torch

from companysim.encoding.sae import SAE
from companysim.sae_training.quality import measure


def test_quality_by_hand() -> None:
    eye = torch.eye(2)
    encoder, zero = torch.cat([eye, torch.zeros(2, 2)]), torch.zeros(2)
    sae = SAE(encoder, torch.zeros(4), k=2, shift=zero, decoder=torch.cat([eye, eye]), b_dec=zero)
    # Positive parts are kept: squared errors 0, 0, 1 and 1 against squared distances from (1, 0) of 5, 1, 2 and 4.
    found = measure(sae, torch.tensor([[3.0, 1.0], [2.0, 0.0], [0.0, -1.0], [-1.0, 0.0]]))
    assert found.tokens == 4
    assert found.fraction_unexplained == pytest.approx(2 / 12)
    assert found.l0 == 3 / 4
    assert found.dead_share == 0.5
    assert found.density.tolist() == [0.5, 0.25, 0.0, 0.0]


def test_quality_does_not_depend_on_how_rows_are_grouped() -> None:
    generator = torch.Generator().manual_seed(2)
    encoder, decoder = torch.randn(2, 48, 16, generator=generator)
    b_dec = torch.randn(16, generator=generator)
    sae = SAE(encoder, torch.zeros(48), k=5, shift=b_dec, decoder=decoder, b_dec=b_dec)
    rows = 5 * torch.randn(6000, 16, generator=generator) + 30  # 4,096 and a rest
    error = (rows - sae.decode(sae.encode(rows), len(rows))).pow(2).sum()
    expected = float(error / (rows - rows.mean(0)).pow(2).sum())
    assert measure(sae, rows).fraction_unexplained == pytest.approx(expected, rel=1e-4)
