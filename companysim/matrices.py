"""Matrices on disk: dense arrays and CSR in safetensors files, written atomically. No pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from companysim.errors import RunError
from companysim.workspace import write


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays into one file."""
    ready = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write(path, lambda temporary: save_file(ready, temporary))


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of `save_arrays`; raises `RunError` if the file is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot read {path} ({error}): run again to make it anew") from error


def csr_arrays(matrix: sp.csr_array) -> dict[str, np.ndarray]:
    """Split a CSR matrix into arrays for `save_arrays`; all names start with ``csr_``."""
    return {
        "csr_data": matrix.data,
        "csr_indices": matrix.indices.astype(np.int32),
        "csr_indptr": matrix.indptr.astype(np.int64),
        "csr_shape": np.array(matrix.shape, dtype=np.int64),
    }


def csr_from(arrays: dict[str, np.ndarray]) -> sp.csr_array:
    """Rebuild the CSR matrix of `csr_arrays`."""
    rows, columns = (int(n) for n in arrays["csr_shape"])
    indptr = arrays["csr_indptr"]
    if len(arrays["csr_data"]) < 2**31:  # 64-bit pointers would make scipy widen every index
        indptr = indptr.astype(np.int32)
    parts = (arrays["csr_data"], arrays["csr_indices"], indptr)
    return sp.csr_array(parts, shape=(rows, columns))
