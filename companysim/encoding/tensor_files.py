"""Named tensors in a safetensors or npz file or in memory: headers first, then one tensor at a time. No pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from companysim.errors import WeightsError

if TYPE_CHECKING:
    import torch

_SAFETENSORS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


class Entry(NamedTuple):
    """Shape and dtype of one stored tensor, and the bytes it takes."""

    shape: tuple[int, ...]
    dtype: str
    bytes: int


class TensorSource(Protocol):
    """Where tensors come from."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """What is there, from the headers."""

    def read(self, name: str, device: str = "cpu") -> torch.Tensor:
        """Read one tensor, which the caller may change in place."""


class SafetensorsTensors:
    """Tensors of a safetensors file; on the CPU they are mapped from the file and copied only where written to."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self._path = path
        self.entries: dict[str, Entry] = {}
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():
                    part = file.get_slice(name)
                    shape, kind = tuple(part.get_shape()), part.get_dtype()
                    size = prod(shape) * int("".join(filter(str.isdigit, kind)) or 8) // 8
                    self.entries[name] = Entry(shape, _SAFETENSORS.get(kind, kind), size)
        except (OSError, ValueError, SafetensorError) as error:
            raise _unreadable(path, error) from error

    def read(self, name: str, device: str = "cpu") -> torch.Tensor:
        """Read one tensor."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path, framework="pt", device=device) as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (OSError, ValueError, SafetensorError) as error:
            raise _unreadable(self._path, error) from error
        return tensor


class NpzTensors:
    """Arrays of an npz file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[str, Entry] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    with archive.open(member) as file:
                        version = np.lib.format.read_magic(file)
                        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2
                        shape, _, dtype = header(file)
                    self.entries[member.removesuffix(".npy")] = Entry(shape, dtype.name, prod(shape) * dtype.itemsize)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise _unreadable(path, error) from error

    def read(self, name: str, device: str = "cpu") -> torch.Tensor:
        """Read one array."""
        import torch

        try:
            with np.load(self._path, allow_pickle=False) as archive:
                array = archive[name]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise _unreadable(self._path, error) from error
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False)).to(device)


class MemoryTensors:
    """Tensors of a live object; reading copies them."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors
        self.entries = {
            name: Entry(tuple(t.shape), str(t.dtype).removeprefix("torch."), t.numel() * t.element_size())
            for name, t in tensors.items()
        }

    def read(self, name: str, device: str = "cpu") -> torch.Tensor:
        """Copy one tensor."""
        return self._tensors[name].detach().to(device, copy=True)


def _header_2(file: object) -> tuple[tuple[int, ...], bool, np.dtype]:
    return np.lib.format.read_array_header_2_0(file)  # type: ignore[arg-type]


def _unreadable(path: Path, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return WeightsError(f"cannot read {path.name} ({reason}): the file is missing or damaged, fetch it again")
