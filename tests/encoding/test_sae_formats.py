"""Recognising checkpoints, reading their headers, and where they say they read."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from companysim.encoding.sae import SAE, load_sae, save_sae
from companysim.encoding.sae_formats import hook_of
from companysim.encoding.sae_info import inspect_sae
from companysim.encoding.tensor_files import NpzTensors, SafetensorsTensors
from companysim.errors import WeightsError


def gemma_arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    arrays = {
        "W_enc": rng.normal(size=(8, 20)),
        "b_enc": rng.normal(size=20),
        "W_dec": rng.normal(size=(20, 8)),
        "b_dec": rng.normal(size=8),
        "threshold": rng.uniform(1, 2, size=20),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()} | changes


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    folder = tmp_path / "gemma-scope-9b-it-res" / "layer_20" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **gemma_arrays())
    return folder


@pytest.mark.parametrize(
    ("name", "model", "hook"),
    [
        ("blocks.12.hook_resid_post", None, "layers.12"),
        ("blocks.12.hook_resid_pre", "gemma-2-2b", "layers.11"),
        ("blocks.12.hook_resid_pre", "gpt2-small", "h.11"),
        ("blocks.0.hook_resid_pre", "pythia-70m", "embed_tokens"),
        ("blocks.0.hook_resid_pre", "gpt2-small", None),  # its embeddings plus positions are no module's output
        ("hook_embed", None, "embed_tokens"),
        ("hook_embed", "gpt2-small", "wte"),
        ("blocks.12.hook_mlp_out", None, None),
        ("blocks.12.attn.hook_z", None, None),
        ("blocks.12.hook_resid_mid", None, None),
        ("layers.26", None, "layers.26"),
        ("model.layers.26", None, "layers.26"),
        ("layers.26.mlp", None, "layers.26.mlp"),
        ("h.3.attn", None, "h.3.attn"),
        ("transformer.h.3", None, "h.3"),
        ("embed_tokens", None, "embed_tokens"),
        ("sae", None, None),
        ("layers.26/x", None, None),
    ],
)
def test_hooks_are_translated(name: str, model: str | None, hook: str | None) -> None:
    assert hook_of(name, model) == hook


@pytest.mark.parametrize(
    ("folder", "hook"),
    [("layers.3", "layers.3"), ("embed_tokens", "embed_tokens"), ("layers.3/seed1", "layers.3"), ("mine", None)],
)
def test_sparsify_folders_name_the_hook(sae: SAE, tmp_path: Path, folder: str, hook: str | None) -> None:
    save_sae(sae, tmp_path / folder)
    assert load_sae(tmp_path / folder).hook == hook


def test_hook_of_a_relative_folder(sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_sae(sae, tmp_path / "layers.3")
    monkeypatch.chdir(tmp_path / "layers.3")
    assert load_sae(".").hook == "layers.3"


@pytest.mark.parametrize(
    ("folder", "hook", "model"),
    [
        ("gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_1", "layers.3", "google/gemma-2-2b"),
        ("models--google--gemma-scope-9b-it-res/snapshots/0a/layer_9/width_1m/l0", "layers.9", "google/gemma-2-9b-it"),
        ("gemma-scope-2b-pt-mlp/layer_3/width_16k/average_l0_1", None, "google/gemma-2-2b"),
        ("gemma-scope-2b-pt-att/layer_3/width_16k/average_l0_1", None, "google/gemma-2-2b"),
        ("mine", None, None),
    ],
)
def test_gemma_folders_name_hook_and_model(tmp_path: Path, folder: str, hook: str | None, model: str | None) -> None:
    (tmp_path / folder).mkdir(parents=True)
    np.savez(tmp_path / folder / "params.npz", **gemma_arrays())
    info = inspect_sae(tmp_path / folder)
    assert (info.hook, info.model) == (hook, model)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "Gemma's embeddings at another scale"),
        ("gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_1", "is a transcoder"),
    ],
)
def test_gemma_checkpoints_that_cannot_be_encoded_are_refused(tmp_path: Path, folder: str, words: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    np.savez(tmp_path / folder / "params.npz", **gemma_arrays())
    with pytest.raises(WeightsError, match=words):
        load_sae(tmp_path / folder)


def test_gemma_scope_2_transcoder_is_refused(tmp_path: Path) -> None:
    tensors = {name.lower(): torch.from_numpy(array) for name, array in gemma_arrays().items()}
    save_file(tensors, tmp_path / "params.safetensors")
    places = {"hf_hook_point_in": "model.layers.3.a.output", "hf_hook_point_out": "model.layers.3.b.output"}
    (tmp_path / "config.json").write_text(json.dumps(places))
    with pytest.raises(WeightsError, match="is a transcoder"):
        load_sae(tmp_path)


@pytest.mark.parametrize("kind", ["float16", "float64", ">f4"])
def test_npz_of_any_floating_dtype_becomes_float32(gemma: Path, kind: str) -> None:
    exact = load_sae(gemma)
    np.savez(gemma / "params.npz", **{name: array.astype(kind) for name, array in gemma_arrays().items()})
    read = load_sae(gemma)
    assert read.encoder.dtype == torch.float32
    torch.testing.assert_close(read.encoder, exact.encoder, rtol=1e-3, atol=1e-3)


def test_column_major_arrays_read_the_same(gemma: Path) -> None:
    exact = load_sae(gemma)
    np.savez(gemma / "params.npz", **gemma_arrays(W_enc=np.asfortranarray(gemma_arrays()["W_enc"])))
    assert torch.equal(load_sae(gemma).encoder, exact.encoder)


def test_pickled_array_is_never_unpickled(gemma: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pytest.fail, ("unpickled",)

    arrays = gemma_arrays()
    arrays["W_enc"] = np.array([[Trap()]], dtype=object)
    np.savez(gemma / "params.npz", **arrays)
    with pytest.raises(WeightsError, match=r"tensor W_enc has shape|do not fit each other"):
        load_sae(gemma)
    with pytest.raises(WeightsError, match=r"cannot read params\.npz \(Object arrays cannot be loaded"):
        NpzTensors(gemma / "params.npz").read("W_enc")


@pytest.mark.parametrize("keep", [0, 10, 1500, -40])
def test_damaged_npz_is_refused(gemma: Path, keep: int) -> None:
    path = gemma / "params.npz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"cannot read params\.npz"):
        load_sae(gemma)


def test_flipped_bit_in_an_npz_is_found(gemma: Path) -> None:
    path = gemma / "params.npz"
    content = bytearray(path.read_bytes())
    content[400] ^= 1  # inside W_enc, whose checksum the archive holds
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=r"cannot read params\.npz \(Bad CRC-32"):
        load_sae(gemma)


def test_threshold_of_another_length_is_refused(gemma: Path) -> None:
    np.savez(gemma / "params.npz", **gemma_arrays(threshold=np.ones(19, dtype=np.float32)))
    with pytest.raises(WeightsError, match="tensor threshold is float32 of shape"):
        load_sae(gemma)


@pytest.mark.parametrize("decoder", [False, True])
def test_only_needed_tensors_are_read(
    sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: bool
) -> None:
    save_sae(sae, tmp_path)
    read: list[str] = []
    original = SafetensorsTensors.read
    monkeypatch.setattr(
        SafetensorsTensors, "read", lambda self, name, device="cpu": read.append(name) or original(self, name, device)
    )
    load_sae(tmp_path, decoder=decoder)
    assert sorted(read) == sorted(["encoder.weight", "encoder.bias", "b_dec", *(["W_dec"] if decoder else [])])


def test_no_copy_is_made_of_a_matrix_already_in_the_wanted_dtype(
    sae: SAE, gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_sae(sae, tmp_path / "float32", dtype="float32")
    sources = {
        "float32": (SafetensorsTensors, "encoder.weight"),
        str(gemma.relative_to(tmp_path)): (NpzTensors, "W_enc"),
    }
    for folder, (source, name) in sources.items():
        kept: dict[str, torch.Tensor] = {}
        original = source.read
        monkeypatch.setattr(
            source, "read", lambda self, n, device="cpu", o=original, k=kept: k.setdefault(n, o(self, n, device))
        )
        assert load_sae(tmp_path / folder).encoder.data_ptr() == kept[name].data_ptr()


def test_inspect_reads_headers_only(sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_sae(sae, tmp_path / "layers.9", dtype="bfloat16")
    monkeypatch.setattr(SafetensorsTensors, "read", lambda *_: pytest.fail("a tensor was read"))
    info = inspect_sae(tmp_path / "layers.9")
    assert asdict(info) == {
        "format": "sparsify",
        "latents": 48,
        "width": 32,
        "activation": "topk",
        "k": 5,
        "threshold": None,
        "input": "x - b_dec",
        "hook": "layers.9",
        "model": None,
        "dtype": "bfloat16",
        "tensors": {"W_dec": (48, 32), "b_dec": (32,), "encoder.bias": (48,), "encoder.weight": (48, 32)},
        "bytes": 2 * (2 * 48 * 32 + 48 + 32),
        "decoder": True,
    }


def test_inspect_refuses_what_load_refuses(sae: SAE, tmp_path: Path) -> None:
    save_sae(sae, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"signed": True}))
    with pytest.raises(WeightsError, match="uses signed"):
        inspect_sae(tmp_path)


def test_folder_of_folders_names_them(sae: SAE, tmp_path: Path) -> None:
    for index in (0, 10, 2):
        save_sae(sae, tmp_path / f"layers.{index}")
    with pytest.raises(WeightsError, match=r"holds 3 SAEs in subfolders \(layers\.0, layers\.2, layers\.10\): give"):
        load_sae(tmp_path)


def test_folder_with_one_deep_sae_names_it(gemma: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds 1 SAE in subfolders \(layer_20/width_16k/average_l0_71\): give one"):
        load_sae(tmp_path / "gemma-scope-9b-it-res")


def test_many_subfolders_are_cut_short(sae: SAE, tmp_path: Path) -> None:
    for index in range(12):
        save_sae(sae, tmp_path / f"layers.{index}")
    with pytest.raises(WeightsError, match=r"holds 12 SAEs in subfolders \(layers\.0, .*layers\.7, \.\.\.\)"):
        load_sae(tmp_path)


def test_folder_without_sae_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no SAE: give a directory with one of sae\.safetensors, params\.npz"):
        load_sae(tmp_path)
    with pytest.raises(WeightsError, match=r"no folder .*nowhere: give the directory of an SAE"):
        load_sae(tmp_path / "nowhere")
