from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import SafetensorError

from companysim.errors import RunError
from companysim.matrices import csr_arrays, csr_from, load_arrays, save_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrices")


@settings(max_examples=40, deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
    )
)
def test_array_round_trip(folder: Path, array: np.ndarray) -> None:
    save_arrays(folder / "a.safetensors", {"array": array, "other": np.arange(3)})
    read = load_arrays(folder / "a.safetensors")
    assert set(read) == {"array", "other"}
    assert read["array"].dtype == array.dtype
    np.testing.assert_array_equal(read["array"], array)


def test_array_that_is_not_contiguous_keeps_its_order(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(4, 6)
    save_arrays(tmp_path / "a.safetensors", {"turned": array.T, "every_other": array[::2, ::-1]})
    read = load_arrays(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read["turned"], array.T)
    np.testing.assert_array_equal(read["every_other"], array[::2, ::-1])


@settings(max_examples=40, deadline=None)
@given(
    dense=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.sampled_from([0.0, 0.0, 0.0, 1.5, -2.0]),
    )
)
def test_csr_round_trip(folder: Path, dense: np.ndarray) -> None:
    matrix = sp.csr_array(dense)
    save_arrays(folder / "m.safetensors", csr_arrays(matrix) | {"tokens": np.arange(len(dense))})
    read = csr_from(load_arrays(folder / "m.safetensors"))
    assert isinstance(read, sp.csr_array)
    assert read.dtype == dense.dtype
    assert read.nnz == matrix.nnz
    np.testing.assert_array_equal(read.toarray(), dense)


def test_empty_columns_at_the_end_survive(tmp_path: Path) -> None:
    save_arrays(tmp_path / "m.safetensors", csr_arrays(sp.csr_array((3, 4096), dtype=np.float32)))
    assert csr_from(load_arrays(tmp_path / "m.safetensors")).shape == (3, 4096)


def test_missing_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"cannot read {tmp_path}/none\.safetensors .*run again"):
        load_arrays(tmp_path / "none.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "m.safetensors"
    save_arrays(path, {"array": np.ones((20, 20))})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=rf"cannot read {path} .*run again"):
        load_arrays(path)


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"\x80\x04pickled" * 20)
    with pytest.raises(RunError, match=f"cannot read {path}"):
        load_arrays(path)


def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_arrays(path, {"array": np.ones(3)})
    with pytest.raises(SafetensorError, match="object"):
        save_arrays(path, {"array": np.array([object()])})
    assert load_arrays(path)["array"].tolist() == [1, 1, 1]
    assert [*tmp_path.iterdir()] == [path]
