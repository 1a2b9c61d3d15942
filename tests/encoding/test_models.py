from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from companysim.config import EncoderConfig
from companysim.encoding.encode import encode
from companysim.encoding.models import load_models, sae_path
from companysim.encoding.sae import CONFIG_FILE, TENSOR_FILE, TopKSAE, save_sae
from companysim.errors import WeightsError


@pytest.fixture
def config(llm_path: Path, sae: TopKSAE, tmp_path: Path) -> EncoderConfig:
    save_sae(sae, tmp_path / "sae", dtype="float32")
    return EncoderConfig(
        model=str(llm_path), hook="layers.1", sae=str(tmp_path / "sae"), window=24, overlap=6, batch_tokens=96
    )


def test_models_follow_the_configuration(config: EncoderConfig, sae: TopKSAE) -> None:
    stream, read = load_models(config)
    assert (stream.window, stream.overlap, stream.batch_tokens, stream.hook) == (24, 6, 96, "layers.1")
    assert (read.n_latents, read.k) == (48, 5)
    found, expected = encode(stream, read, ["oil and gas"]), encode(stream, sae, ["oil and gas"])
    np.testing.assert_array_equal(found.latents.toarray(), expected.latents.toarray())


def test_dtype_of_the_configuration_is_used(config: EncoderConfig) -> None:
    stream, sae = load_models(config.model_copy(update={"dtype": "bfloat16"}))
    rough = encode(stream, sae, ["oil and gas"]).residual_mean
    fine = encode(*load_models(config), ["oil and gas"]).residual_mean
    assert not np.array_equal(rough, fine)
    np.testing.assert_allclose(rough, fine, atol=0.1 * np.abs(fine).max())


def test_missing_sae_is_refused_before_any_weights_are_fetched(config: EncoderConfig, tmp_path: Path) -> None:
    said: list[str] = []
    lost = config.model_copy(update={"model": "smollm2-135m", "sae": str(tmp_path / "none")})
    with pytest.raises(WeightsError, match=f"cannot read an SAE from {tmp_path / 'none'}"):
        load_models(lost, said.append)
    assert not said


def test_sample_sae_is_bundled() -> None:
    assert {file.name for file in sae_path(EncoderConfig()).iterdir()} >= {CONFIG_FILE, TENSOR_FILE}
