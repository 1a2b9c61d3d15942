"""The published data sets on the Hugging Face hub: streamed, pinned, and kept as one sparse matrix.

The features of the paper are 29 GB of dense rows, nearly all of them zeros. They are read a few rows at a time straight
from the hub, and only what is not zero is kept, one shard for each row group, so that a stopped download goes on. No
code of the hub is ever run: the files are parquet and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import scipy.sparse as sp

from companysim.errors import ConfigError, DataError, RunError
from companysim.matrices import csr_arrays, csr_from, load_arrays, save_arrays
from companysim.workspace import SHARD_PREFIX, fingerprint, remove_partial

FEATURES = "marco-molinari/company_reports_with_features"
REPORTS = "Mateusz1017/annual_reports_tokenized_llama3_logged_returns_no_null_returns_and_incomplete_descriptions_24k"
PAIRS = "v1ctor10/cos_sim_4000pca_exp"
ID, VECTOR, RETURNS = "__index_level_0__", "features", "logged_monthly_returns_matrix"
MONTHS = 12
_ROWS = 32
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class DataSet:
    """Parquet files of a data set, on the hub at one commit or in a local folder of the same layout.

    Attributes
    ----------
    repo : str
        ``owner/name`` on the hub, or a local folder.
    revision : str or None
        Commit of the hub, 40 hexadecimal digits. A branch or tag can be moved, and is refused.
    endpoint : str or None
        Address of the hub; that of the environment variable HF_ENDPOINT, or huggingface.co, by default.

    Raises
    ------
    ConfigError
        If a data set of the hub is not pinned.
    """

    repo: str
    revision: str | None = None
    endpoint: str | None = None

    def __post_init__(self) -> None:
        if not self.is_local and not _COMMIT.fullmatch(self.revision or ""):
            raise ConfigError(
                f"the data set {self.repo} is not pinned (revision {self.revision!r}): give the 40 digits of the "
                f"commit you trust, see huggingface.co/datasets/{self.repo}/commits/main"
            )

    @property
    def is_local(self) -> bool:
        """Whether the data set is a local folder."""
        return Path(self.repo).is_dir()

    def groups(self) -> Iterator[tuple[str, int, pyarrow.parquet.ParquetFile]]:
        """Row groups of all files: the file's name, the group's number in it, and the opened file.

        Raises
        ------
        DataError
            If the data set cannot be reached or holds no parquet file.
        """
        with _told(self):
            names, opened = self._files()
        if not names:
            raise DataError(f"the data set {self.repo} holds no parquet file: check its name and revision")
        for name in names:
            with _told(self):
                stream = opened(name)
            with stream, _told(self):
                file = pyarrow.parquet.ParquetFile(stream)
                for group in range(file.num_row_groups):
                    yield name, group, file

    def table(self, columns: Sequence[str]) -> pd.DataFrame:
        """Columns of all rows, for what fits into memory.

        Raises
        ------
        DataError
            As `groups`, or if a column is missing.
        """
        parts: list[pd.DataFrame] = []
        for name, group, file in self.groups():
            _need(columns, file, f"{self.repo}/{name}")
            with _told(self):
                parts.append(file.read_row_group(group, columns=list(columns)).to_pandas())
        return pd.concat(parts, ignore_index=True)

    def version(self, name: str) -> Any:
        """Return what a file's content goes by: the commit on the hub, size and time of change in a local folder."""
        if not self.is_local:
            return self.revision
        facts = (Path(self.repo) / name).stat()
        return facts.st_size, facts.st_mtime_ns

    def _files(self) -> tuple[list[str], Callable[[str], Any]]:
        """Names of the parquet files in order, and how to open one."""
        if self.is_local:
            home = Path(self.repo)
            return sorted(str(path.relative_to(home)) for path in home.rglob("*.parquet")), lambda n: (home / n).open(
                "rb"
            )
        from huggingface_hub import HfFileSystem

        hub = HfFileSystem(endpoint=self.endpoint)
        root = f"datasets/{self.repo}@{self.revision}"
        paths = sorted(path for path in hub.find(root) if path.endswith(".parquet"))
        names = {path.removeprefix(root).lstrip("/"): path for path in paths}
        return list(names), lambda name: hub.open(names[name], "rb")


@contextmanager
def _told(source: DataSet) -> Iterator[None]:
    """Turn whatever the hub's client and the parquet reader raise into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        where = source.repo if source.is_local else f"{source.repo} at {source.revision}"
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"cannot read the data set {where} ({said}): check name, revision and connection") from error


class Features(NamedTuple):
    """Feature vectors of filings.

    Attributes
    ----------
    ids : ndarray of str, shape (filings,)
    matrix : csr_array of float32, shape (filings, features)
    dropped : int
        Rows left out since their vector has another length.
    """

    ids: np.ndarray
    matrix: sp.csr_array
    dropped: int


def fetch_features(
    source: DataSet, folder: Path, width: int, report: Callable[[int], None] = lambda rows: None
) -> Features:
    """Stream the features of a data set into sparse shards, or take from the folder what is there.

    Parameters
    ----------
    source : DataSet
        With the columns ``__index_level_0__`` and ``features`` (a list of numbers, or a list of one such list).
    folder : path
        Holds one shard a row group; the names tell data set, version, file and group, so nothing is mixed up.
    width : int
        Length of a vector: 131,072 for the paper's. Rows of another length are incomplete and left out.
    report : callable
        Receives the rows read so far.

    Raises
    ------
    DataError
        If the data set cannot be read, a column is missing, or no row has a vector of that length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder)
    parts, ids, dropped, rows = [], [], 0, 0
    for name, group, file in source.groups():
        key = fingerprint(source.repo, source.version(name), name, group, width)[:16]
        path = folder / f"{SHARD_PREFIX}{key}.safetensors"
        try:
            shard = load_arrays(path)
        except RunError:  # not there yet, or damaged
            _need([ID, VECTOR], file, f"{source.repo}/{name}")
            with _told(source):
                shard = _shard(file, group, width)
            save_arrays(path, shard)
        matrix = csr_from(shard)
        parts.append(matrix)
        ids.append(_text(shard["ids"]))
        dropped += int(shard["dropped"][0])
        rows += matrix.shape[0] + int(shard["dropped"][0])
        report(rows)
    matrix = sp.csr_array(sp.vstack(parts, format="csr"))
    if not matrix.shape[0]:
        raise DataError(f"no row of {source.repo} has a vector of {width:,} features ({dropped} have another length)")
    names = np.concatenate(ids)
    order = np.argsort(names, kind="stable")
    return Features(names[order], matrix[order], dropped)


def fetch_reports(source: DataSet) -> pd.DataFrame:
    """Company, year, code and returns of each filing of the data set of reports.

    Returns
    -------
    DataFrame
        filing_id, cik, year, sic (four digits, or empty), ticker and m1 to m12, the log returns of the year's months;
        of the filings with all of these returns, in the order of filing_id.

    Raises
    ------
    DataError
        As `DataSet.table`, or if no filing has twelve returns.
    """
    table = source.table([ID, "cik", "year", "sic_code", "ticker", RETURNS])
    returns = [_flat(values) for values in table[RETURNS]]
    whole = np.array([len(values) == MONTHS and bool(np.isfinite(values).all()) for values in returns])
    if not whole.any():
        raise DataError(f"no row of {source.repo} has {MONTHS} returns in {RETURNS!r}: check the data set's name")
    kept = table[whole]
    sic = pd.to_numeric(kept["sic_code"], errors="coerce")
    found = pd.DataFrame(
        {
            "filing_id": kept[ID].astype(str),
            "cik": pd.to_numeric(kept["cik"]).astype("int64"),
            "year": pd.to_numeric(kept["year"]).astype("int64"),
            "sic": [f"{int(code):04}" if np.isfinite(code) else "" for code in sic],
            "ticker": kept["ticker"].fillna("").astype(str),
        }
    )
    months = np.stack([values for values, good in zip(returns, whole, strict=True) if good])
    found[[f"m{month}" for month in range(1, MONTHS + 1)]] = months
    return found.drop_duplicates("filing_id").sort_values("filing_id", ignore_index=True)


def _shard(file: pyarrow.parquet.ParquetFile, group: int, width: int) -> dict[str, np.ndarray]:
    """Arrays of one row group: its sparse matrix, the ids of its rows, and how many were left out."""
    matrices: list[Any] = [sp.csr_array((0, width), dtype=np.float32)]
    ids: list[str] = []
    dropped = 0
    for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[ID, VECTOR]):
        vectors = batch.column(VECTOR)
        lengths = _lengths(vectors)
        good = lengths == width
        dropped += int((~good).sum())
        dense = _values(vectors.filter(pa.array(good))).reshape(-1, width)
        matrices.append(sp.csr_array(dense.astype(np.float32)))
        ids += [str(value) for value, keep in zip(batch.column(ID).to_pylist(), good, strict=True) if keep]
    matrix = sp.csr_array(sp.vstack(matrices, format="csr"))
    if matrix.nnz and not np.isfinite(matrix.data).all():
        raise ValueError(f"a feature of row group {group} is not finite")
    encoded = np.frombuffer("\n".join(ids).encode(), dtype=np.uint8)
    return {**csr_arrays(matrix), "ids": encoded, "dropped": np.array([dropped])}


def _text(encoded: np.ndarray) -> np.ndarray:
    text = encoded.tobytes().decode()
    return np.array(text.split("\n") if text else [], dtype=object)


def _values(array: Any) -> np.ndarray:
    """Numbers of a list array, whether or not its lists are wrapped in lists."""
    flat = array.flatten()
    while pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type):
        flat = flat.flatten()
    values: np.ndarray = flat.to_numpy(zero_copy_only=False)
    return values


def _lengths(array: Any) -> np.ndarray:
    """How many numbers each list holds; 0 for none."""
    found = [len(_values(array.slice(row, 1))) if array[row].is_valid else 0 for row in range(len(array))]
    return np.array(found, dtype=np.int64)


def _flat(values: Any) -> np.ndarray:
    """Numbers of a list, or of a list of lists."""
    if values is None:
        return np.empty(0)
    nested = np.asarray(values)
    parts = nested if nested.dtype == object else [nested]
    return np.concatenate([np.asarray(part, dtype=float).ravel() for part in parts]) if len(parts) else np.empty(0)


def _need(columns: Sequence[str], file: pyarrow.parquet.ParquetFile, where: str) -> None:
    missing = [name for name in columns if name not in file.schema_arrow.names]
    if missing:
        shown = ", ".join(file.schema_arrow.names[:12])
        raise DataError(f"{where}: column {missing[0]!r} is missing; the file has {shown}: check the data set's name")
