"""Our readers against sae-lens: its own format, Gemma Scope and Llama Scope. The import takes seconds, so all is here.

sae-lens reads the two Scopes from the hub only; its `hf_hub_download` is pointed at files made here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from companysim.encoding.sae import SAE, from_sae_lens, load_sae
from companysim.encoding.sae_info import inspect_sae
from companysim.errors import WeightsError

LATENTS, WIDTH, ROWS = 96, 32, 200
META = {"model_name": "gemma-2-2b", "hook_name": "blocks.12.hook_resid_post"}


@pytest.fixture(scope="module")
def lens() -> Any:
    return pytest.importorskip("sae_lens")


@pytest.fixture
def rows() -> torch.Tensor:
    return 3 * torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(12))


def weights(seed: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "W_enc": torch.randn(WIDTH, LATENTS, generator=generator),
        "b_enc": torch.randn(LATENTS, generator=generator) - 1,
        "W_dec": torch.randn(LATENTS, WIDTH, generator=generator),
        "b_dec": torch.randn(WIDTH, generator=generator),
    }


def made(lens: Any, architecture: str, **options: Any) -> Any:
    """A sae-lens object with random weights."""
    from sae_lens.saes.sae import SAEMetadata

    config = {
        "standard": lens.StandardSAEConfig,
        "topk": lens.TopKSAEConfig,
        "jumprelu": lens.JumpReLUSAEConfig,
        "gated": lens.GatedSAEConfig,
    }[architecture](d_in=WIDTH, d_sae=LATENTS, metadata=SAEMetadata(**META), **options)
    sae = lens.SAE.get_sae_class_for_architecture(architecture)(config)
    drawn = weights()
    generator = torch.Generator().manual_seed(4)
    for name in ("threshold", "b_gate", "b_mag"):
        drawn[name] = 2 * torch.randn(LATENTS, generator=generator)
    drawn["r_mag"] = 0.3 * torch.randn(LATENTS, generator=generator)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(drawn[name])
    return sae


def assert_encodes_as(ours: SAE, theirs: Any, rows: torch.Tensor) -> None:
    """Same support and values, some latents active and some not, and the same reconstruction."""
    with torch.no_grad():
        dense = theirs.encode(rows)
        decoded = theirs.decode(dense)
    codes = ours.encode(rows)
    assert torch.equal(torch.stack([codes.token, codes.latent]).T, dense.nonzero())
    torch.testing.assert_close(codes.value, dense[dense != 0], rtol=2e-6, atol=2e-5)
    assert 0.02 < len(codes.value) / dense.numel() < 0.98
    if ours.decoder is not None and ours.normalise == "none":
        torch.testing.assert_close(ours.decode(codes, len(rows)), decoded, rtol=1e-5, atol=1e-3)


CASES = {
    "standard": ("standard", {}),
    "standard without b_dec": ("standard", {"apply_b_dec_to_input": False}),
    "topk": ("topk", {"k": 24}),
    "topk where few are positive": ("topk", {"k": 90}),
    "topk by decoder norm": ("topk", {"k": 24, "rescale_acts_by_decoder_norm": True}),
    "jumprelu": ("jumprelu", {"apply_b_dec_to_input": False}),
    "jumprelu with b_dec": ("jumprelu", {}),
    "gated": ("gated", {}),
    "constant norm": ("standard", {"normalize_activations": "constant_norm_rescale"}),
    "layer norm": ("topk", {"k": 24, "normalize_activations": "layer_norm"}),
}


@pytest.mark.parametrize("case", CASES)
def test_native_format_encodes_the_same(lens: Any, tmp_path: Path, rows: torch.Tensor, case: str) -> None:
    architecture, options = CASES[case]
    theirs = made(lens, architecture, **options)
    theirs.save_model(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ours = load_sae(tmp_path, decoder=True)
    assert_encodes_as(ours, lens.SAE.load_from_disk(tmp_path), rows)
    assert_encodes_as(load_sae(tmp_path), theirs, rows)  # without the decoder
    assert ours.hook == "layers.12"
    info = inspect_sae(tmp_path)
    assert (info.format, info.latents, info.width, info.k) == ("sae-lens", LATENTS, WIDTH, options.get("k"))
    assert info.activation == ("relu" if architecture == "standard" else architecture)
    assert info.model == "gemma-2-2b"
    # Folding works on mapped memory; the file must not notice.
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("case", CASES)
def test_live_object_encodes_the_same_and_is_left_alone(lens: Any, rows: torch.Tensor, case: str) -> None:
    architecture, options = CASES[case]
    theirs = made(lens, architecture, **options)
    before = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    ours = from_sae_lens(theirs)
    assert_encodes_as(ours, theirs, rows)
    assert all(torch.equal(tensor, before[name]) for name, tensor in theirs.state_dict().items())
    assert ours.hook == "layers.12"


def test_reconstruction_of_normalised_rows(lens: Any, rows: torch.Tensor) -> None:
    theirs = made(lens, "standard", normalize_activations="layer_norm")
    ours = from_sae_lens(theirs)
    with torch.no_grad():
        expected = theirs(rows)
    mean, std = rows.mean(1, keepdim=True), rows.std(1, keepdim=True)
    torch.testing.assert_close(ours.decode(ours.encode(rows), ROWS) * std + mean, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours.normalised(rows) * (std + 1e-5) + mean, rows)


def test_live_object_in_bfloat16(lens: Any, rows: torch.Tensor) -> None:
    theirs = made(lens, "jumprelu").to(torch.bfloat16)
    ours = from_sae_lens(theirs)
    assert ours.encoder.dtype == torch.bfloat16
    with torch.no_grad():
        dense = theirs.encode(rows).float()
    codes = ours.encode(rows)
    found = torch.zeros_like(dense).index_put((codes.token, codes.latent), codes.value)
    # We add the bias before rounding, sae-lens after: supports differ where a value sits on its threshold.
    assert ((found > 0) == (dense > 0)).float().mean() > 0.99
    both = (found > 0) & (dense > 0)
    torch.testing.assert_close(found[both], dense[both], rtol=0.02, atol=0.1)


def test_batch_topk_is_saved_as_jumprelu(lens: Any, tmp_path: Path, rows: torch.Tensor) -> None:
    config = lens.BatchTopKTrainingSAEConfig(d_in=WIDTH, d_sae=LATENTS, k=24, apply_b_dec_to_input=True)
    training = lens.BatchTopKTrainingSAE(config)
    training.load_state_dict(training.state_dict() | weights())
    training.topk_threshold.fill_(7.5)
    training.save_inference_model(tmp_path)
    assert inspect_sae(tmp_path).threshold == (7.5, 7.5)
    assert_encodes_as(load_sae(tmp_path, decoder=True), lens.SAE.load_from_disk(tmp_path), rows)


@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu", "gated"])
def test_files_from_before_version_6(lens: Any, tmp_path: Path, rows: torch.Tensor, kind: str) -> None:
    made(lens, kind, **({"k": 24} if kind == "topk" else {})).save_model(tmp_path)
    old: dict[str, Any] = {
        "d_in": WIDTH,
        "d_sae": LATENTS,
        "dtype": "torch.float32",
        "device": "cpu",
        "model_name": "gpt2-small",
        "hook_point": "blocks.8.hook_resid_pre",
        "activation_fn_str": "topk" if kind == "topk" else "relu",
        "normalize_activations": False,
        "finetuning_scaling_factor": False,
    }
    old |= {"activation_fn_kwargs": {"k": 24}} if kind == "topk" else {}
    old |= {"architecture": kind} if kind in ("jumprelu", "gated") else {}
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    ours = load_sae(tmp_path, decoder=True)
    assert_encodes_as(ours, lens.SAE.load_from_disk(tmp_path), rows)
    assert ours.hook == "h.7"
    assert inspect_sae(tmp_path).model == "gpt2-small"


@pytest.fixture
def hub(lens: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory sae-lens takes for the hub."""

    def download(repo_id: str, filename: str, subfolder: str = "", **_: object) -> str:
        path = tmp_path / repo_id / subfolder / filename
        if not path.exists():
            from huggingface_hub.errors import EntryNotFoundError

            raise EntryNotFoundError(filename)
        return str(path)

    module = "sae_lens.loading.pretrained_sae_loaders"
    monkeypatch.setattr(f"{module}.hf_hub_download", download)
    return tmp_path


@pytest.mark.filterwarnings("ignore:You are loading an SAE using the HuggingFace repo_id")
def test_gemma_scope(lens: Any, hub: Path, rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae_lens.loading.pretrained_sae_loaders import gemma_2_sae_huggingface_loader

    repo, inner = "google/gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71"
    folder = hub / repo / inner
    folder.mkdir(parents=True)
    threshold = 5 * torch.rand(LATENTS, generator=torch.Generator().manual_seed(5))
    arrays = {name: t.numpy() for name, t in (weights() | {"threshold": threshold}).items()}
    np.savez(folder / "params.npz", **arrays)

    def sized(**asked: Any) -> Any:  # the real widths are in sae-lens's tables
        config, state, sparsity = gemma_2_sae_huggingface_loader(**asked)
        return config | {"d_in": WIDTH, "d_sae": LATENTS}, state, sparsity

    theirs = lens.SAE.from_pretrained(repo, inner, converter=sized)
    ours = load_sae(folder, decoder=True)
    assert_encodes_as(ours, theirs, rows)
    assert_encodes_as(from_sae_lens(theirs), theirs, rows)
    assert (ours.activation, ours.hook) == ("jumprelu", "layers.20")
    info = inspect_sae(folder)
    assert info.model == "google/gemma-2-2b"
    assert info.threshold == (float(threshold.min()), float(threshold.max()))
    assert info.input == "x"
    np.savez_compressed(folder / "params.npz", **arrays)
    assert_encodes_as(load_sae(folder), theirs, rows)


@pytest.mark.filterwarnings("ignore:You are loading an SAE using the HuggingFace repo_id")
def test_gemma_scope_2(lens: Any, hub: Path, rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae_lens.loading import pretrained_sae_loaders as loaders

    repo, inner = "google/gemma-scope-2-1b-pt", "resid_post/layer_7_width_16k_l0_medium"
    folder = hub / repo / inner
    folder.mkdir(parents=True)
    tensors = {name.lower(): t for name, t in weights().items()}
    tensors["threshold"] = 5 * torch.rand(LATENTS, generator=torch.Generator().manual_seed(5))
    save_file(tensors, folder / "params.safetensors")
    place = {"hf_hook_point_in": "model.layers.7.output", "model_name": "gemma-v3-1b-pt", "architecture": "jump_relu"}
    (folder / "config.json").write_text(json.dumps(place))
    shapes = {name: list(t.shape) for name, t in tensors.items()}
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", lambda *_: shapes)
    theirs = lens.SAE.from_pretrained(repo, inner, converter=loaders.gemma_3_sae_huggingface_loader)
    ours = load_sae(folder, decoder=True)
    assert_encodes_as(ours, theirs, rows)
    assert ours.hook == "layers.7"
    (folder / "config.json").unlink()
    assert load_sae(folder).hook == "layers.7"


def llama_scope(folder: Path, **changes: Any) -> dict[str, Any]:
    (folder / "checkpoints").mkdir(parents=True)
    drawn = weights()
    tensors = {
        "encoder.weight": drawn["W_enc"].T.contiguous(),
        "encoder.bias": drawn["b_enc"],
        "decoder.weight": drawn["W_dec"].T.contiguous(),
        "decoder.bias": drawn["b_dec"],
    }
    save_file(tensors, folder / "checkpoints" / "final.safetensors")
    hyperparameters = {
        "hook_point_in": "blocks.15.hook_resid_post",
        "hook_point_out": "blocks.15.hook_resid_post",
        "act_fn": "jumprelu",
        "jump_relu_threshold": 5.25,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 2.5, "out": 2.5},
        "apply_decoder_bias_to_pre_encoder": False,
        "use_glu_encoder": False,
        "d_model": WIDTH,
        "d_sae": LATENTS,
        "top_k": 50,
    } | changes
    (folder / "hyperparams.json").write_text(json.dumps(hyperparameters))
    return hyperparameters


@pytest.mark.filterwarnings("ignore:You are loading an SAE using the HuggingFace repo_id")
def test_llama_scope(lens: Any, hub: Path, rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae_lens.loading.pretrained_sae_loaders import llama_scope_sae_huggingface_loader

    repo, inner = "fnlp/Llama3_1-8B-Base-LXR-8x", "Llama3_1-8B-Base-L15R-8x"
    folder = hub / repo / inner
    llama_scope(folder)
    scale = WIDTH**0.5 / 2.5
    monkeypatch.setattr("sae_lens.saes.sae.get_norm_scaling_factor", lambda *_: scale)  # from sae-lens's own table
    theirs = lens.SAE.from_pretrained(repo, inner, converter=llama_scope_sae_huggingface_loader)
    before = (folder / "checkpoints" / "final.safetensors").read_bytes()
    ours = load_sae(folder, decoder=True)
    assert_encodes_as(ours, theirs, rows)
    assert_encodes_as(load_sae(folder), theirs, rows)
    assert ours.hook == "layers.15"
    info = inspect_sae(folder)
    assert info.model == "meta-llama/Llama-3.1-8B"
    assert info.threshold == pytest.approx((5.25 * scale, 5.25 * scale))
    assert (folder / "checkpoints" / "final.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hook_point_out": "blocks.15.hook_mlp_out"}, "is a transcoder"),
        ({"act_fn": "topk"}, "its act_fn is 'topk'"),
        ({"norm_activation": "token-wise"}, "its norm_activation is 'token-wise'"),
        ({"use_glu_encoder": True}, "uses use_glu_encoder"),
        ({"apply_decoder_bias_to_pre_encoder": True}, "uses apply_decoder_bias_to_pre_encoder"),
        ({"dataset_average_activation_norm": None}, "no positive number dataset_average_activation_norm"),
        ({"dataset_average_activation_norm": {"in": 0}}, "no positive number dataset_average_activation_norm"),
        ({"jump_relu_threshold": "high"}, "no positive number jump_relu_threshold"),
        ({"d_model": 31}, "states a width of 31, the tensors have 32"),
        ({"d_model": None}, "no whole number d_model"),
    ],
)
def test_llama_scope_that_cannot_be_encoded_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    llama_scope(tmp_path / "sae", **change)
    with pytest.raises(WeightsError, match=words):
        load_sae(tmp_path / "sae")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "matching_pursuit"}, "its architecture is 'matching_pursuit'"),
        ({"architecture": "jumprelu_transcoder"}, "its architecture is 'jumprelu_transcoder'"),
        ({"activation_fn": "tanh-relu"}, "its activation_fn is 'tanh-relu'"),
        ({"normalize_activations": "expected_average_only_in"}, "fold them with sae-lens"),
        ({"normalize_activations": "covariance_whitening"}, "fold them with sae-lens"),
        ({"reshape_activations": "hook_z"}, "uses reshape_activations"),
        ({"finetuning_scaling_factor": True}, "uses finetuning_scaling_factor"),
        ({"architecture": "topk", "k": None}, "no whole number k"),
        ({"architecture": "jumprelu"}, "no tensor threshold, only"),
    ],
)
def test_sae_lens_files_that_cannot_be_encoded_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    save_file(weights(), tmp_path / "sae_weights.safetensors")
    config = {"architecture": "standard", "d_in": WIDTH, "d_sae": LATENTS, "metadata": META} | change
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=words):
        load_sae(tmp_path)


def test_decoder_of_another_orientation_is_refused(tmp_path: Path) -> None:
    tensors = weights()
    save_file(tensors | {"W_dec": tensors["W_dec"].T.contiguous()}, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "standard"}))
    with pytest.raises(WeightsError, match=r"tensor W_dec is float32 of shape .*do not fit each other"):
        load_sae(tmp_path)
    assert load_file(tmp_path / "sae_weights.safetensors")["W_dec"].shape == (WIDTH, LATENTS)
