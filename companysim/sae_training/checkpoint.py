"""The state of a training run in one safetensors file, from which it goes on as if it had never stopped.

Parameters, Adam's moments and the counts of silence are tensors, the position in the stream is three whole numbers. No
random state is kept, for none outlives a chunk: every shuffle is drawn anew from the seed and the position.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companysim.errors import RunError
from companysim.workspace import write

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(folder: Path, tensors: dict[str, torch.Tensor], settings: dict[str, Any], tokens: int) -> None:
    """Write the checkpoint of `folder`; the one before it stays until the new one is whole.

    Parameters
    ----------
    folder : path
    tensors : dict of str to Tensor
    settings : dict
        What must be the same when the run goes on.
    tokens : int
        Activations seen.

    Raises
    ------
    RunError
        If it cannot be written, such as to a full disk.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ready = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    metadata = {"settings": json.dumps(settings, sort_keys=True), "tokens": str(tokens)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / CHECKPOINT, lambda temporary: save_file(ready, temporary, metadata))
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"cannot write the checkpoint at {tokens:,} activations to {folder} ({reason(error)}); {left(folder)}: "
            "free some space and run the same command again"
        ) from error


def load_checkpoint(folder: Path, settings: dict[str, Any]) -> dict[str, torch.Tensor] | None:
    """Read the checkpoint of `folder`; None if there is none.

    Raises
    ------
    RunError
        If it is damaged or of other settings.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {})["settings"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RunError(f"cannot read {path} ({reason(error)}): remove it to begin anew") from error
    wanted = json.loads(json.dumps(settings))
    changed = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    if changed:
        shown = ", ".join(f"{key} {found.get(key)!r} instead of {wanted.get(key)!r}" for key in changed[:3])
        raise RunError(f"{path} is of a run with other settings ({shown}): choose another --out or remove it")
    return tensors


def checkpoint_tokens(folder: Path) -> int:
    """Activations seen at the checkpoint of `folder`; 0 if there is none that can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / CHECKPOINT, framework="pt") as file:
            return int((file.metadata() or {})["tokens"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return 0


def fingerprint_of_tensors(*tensors: torch.Tensor) -> str:
    """Hex sha256 of shapes, dtypes and bytes; sums would change with the number of threads that add them up."""
    import torch

    result = hashlib.sha256()
    for tensor in tensors:
        result.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        result.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()


def left(folder: Path) -> str:
    """Say which checkpoint a stopped run finds in `folder`."""
    tokens = checkpoint_tokens(folder)
    return f"the last checkpoint, at {tokens:,} activations, is whole" if tokens else "there is no checkpoint yet"


def reason(error: Exception) -> str:
    """Give the reason of an error of the system or of safetensors in a few words."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
