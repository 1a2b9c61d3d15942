"""What is written loads bit for bit, here and in the libraries whose layouts these are."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from companysim.encoding.sae import SAE, load_sae
from companysim.encoding.sae_info import inspect_sae
from companysim.errors import RunError, WeightsError
from companysim.sae_training.activations import StoredActivations
from companysim.sae_training.output import save_trained
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.trainer import train

ROWS = 3 * torch.randn(600, 32, generator=torch.Generator().manual_seed(1)) + 5


def trained(kind: Any) -> SAE:
    return train(StoredActivations(ROWS), TrainingSpec(kind=kind, latents=96, k=6, tokens=2_000, batch=100))


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu"])
def test_saved_sae_reloads_bit_for_bit(kind: Any, tmp_path: Path) -> None:
    sae = trained(kind)
    save_trained(sae, tmp_path / "layers.3", model="some/model", hooks=["layers.3"])
    again = load_sae(tmp_path / "layers.3", decoder=True)
    for name in ("encoder", "bias", "decoder", "b_dec", "shift", "threshold"):
        ours, theirs = getattr(sae, name), getattr(again, name)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs), name
    assert again.hook == "layers.3"
    assert (again.activation, again.k) == (sae.activation, sae.k)


def test_topk_loads_in_sparsify_and_encodes_the_same_bits(tmp_path: Path) -> None:
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder

    sae = trained("topk")
    save_trained(sae, tmp_path, model="some/model", hooks=["layers.3"])
    theirs = SparseCoder.load_from_disk(tmp_path)
    assert torch.equal(theirs.encoder.weight, sae.encoder)
    assert torch.equal(theirs.encoder.bias, sae.bias)
    assert torch.equal(theirs.W_dec, sae.decoder)
    assert torch.equal(theirs.b_dec, sae.b_dec)
    with torch.no_grad():
        expected = theirs.encode(ROWS)
    dense = torch.zeros(600, 96).scatter_(1, expected.top_indices, expected.top_acts)
    codes = sae.encode(ROWS)
    found = torch.zeros(600, 96)
    found[codes.token, codes.latent] = codes.value
    assert torch.equal(found, dense)
    assert 0 < len(codes.value)


@pytest.mark.parametrize("kind", ["batchtopk", "jumprelu"])
def test_thresholded_saes_load_in_sae_lens(kind: Any, tmp_path: Path) -> None:
    lens = pytest.importorskip("sae_lens")
    sae = trained(kind)
    save_trained(sae, tmp_path, model="some/model", hooks=["layers.3"])
    theirs = lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    assert torch.equal(theirs.W_enc, sae.encoder.T)
    assert torch.equal(theirs.threshold, sae.threshold)
    with torch.no_grad():
        dense = theirs.encode(ROWS)
        decoded = theirs.decode(dense)
    codes = sae.encode(ROWS)
    assert torch.equal(torch.stack([codes.token, codes.latent]).T, dense.nonzero())
    torch.testing.assert_close(codes.value, dense[dense != 0], rtol=2e-6, atol=2e-5)
    torch.testing.assert_close(sae.decode(codes, 600), decoded, rtol=1e-5, atol=1e-4)


def test_a_group_of_layers_names_no_hook(tmp_path: Path) -> None:
    save_trained(trained("jumprelu"), tmp_path / "g", model="m", hooks=["layers.3", "layers.4"])
    assert inspect_sae(tmp_path / "g").hook is None
    save_trained(trained("jumprelu"), tmp_path / "e", model="m", hooks=["embed_tokens"])
    assert json.loads((tmp_path / "e" / "cfg.json").read_text())["metadata"]["hook_name"] is None


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    sae = trained("jumprelu")
    large = replace(sae, bias=sae.bias + 1e6)
    with pytest.raises(WeightsError, match="b_enc holds values that float16 cannot: save with float32"):
        save_trained(large, tmp_path, model="m", hooks=["layers.3"], dtype="float16")
    (tmp_path / "file").touch()
    for kind in ("topk", "jumprelu"):
        with pytest.raises(RunError, match=r"cannot write the SAE to .*goes on from the checkpoint"):
            save_trained(trained(kind), tmp_path / "file", model="m", hooks=["layers.3"])
