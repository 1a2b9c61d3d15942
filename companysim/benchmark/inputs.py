"""A user's own tables: features, similarities, partitions and codes, aligned to the companies with returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from companysim.benchmark.groupings import LEVELS, Grouping, classification, partition
from companysim.clustering import SpanningTree, cosine_tree, spanning_tree
from companysim.errors import DataError
from companysim.similarity import Cosine
from companysim.universe.panels import IDS
from companysim.universe.schemas import codes_schema
from companysim.universe.tables import MISSING, check_table, group_labels, read_frame

CLUSTERS = ("cluster", "group", "label")
SCORES = ("similarity", "score", "cosine_similarity")
CODES = {"sic": ("sic", 4), "gics": ("gics", 8), "gics8": ("gics", 8), "ff48": ("ff48", 0)}


class Features(NamedTuple):
    """One features file.

    Attributes
    ----------
    name : str
        The file's name without its ending.
    kind : {"vectors", "similarity", "pairs", "partition"}
    ids : tuple of str
        Companies it describes.
    table : DataFrame
        Vectors or a square similarity, indexed by id; a column ``cluster``, so too; or pairs: first, second, score.
    """

    name: str
    kind: str
    ids: tuple[str, ...]
    table: pd.DataFrame


def read_features(path: str | Path) -> Features:
    """Read what says which companies are alike, in any of four forms.

    - vectors: an id column (``ticker``, ``id``, ``company`` or ``cik``) and numeric columns;
    - a square similarity: the same, where the columns are named as the ids are;
    - pairs: ``ticker_1``, ``ticker_2`` and ``similarity`` or ``score``; a pair that is not listed has 0, and so is
      more similar than one listed below 0;
    - a partition: an id column and ``cluster``, ``group`` or ``label``.

    Ids are text, as in all other tables: ``0000320193`` keeps its zeros.

    Raises
    ------
    DataError
        If the file cannot be read or has none of these forms, an id stands twice, or a value is no finite number.
    """
    text = [*IDS, *(f"{key}_{side}" for key in IDS for side in (1, 2))]
    table = read_frame(path, "vectors, similarities, pairs or groups", numbers=True, text=text)
    if table.empty or not len(table.columns):
        raise DataError(f"{path}: the table has no rows")
    name = Path(path).name.split(".")[0]
    table.columns = [str(column) for column in table.columns]
    lower = {column.lower(): column for column in table.columns}
    ends = [lower.get(f"{key}_{side}") for key in IDS for side in (1, 2) if f"{key}_{side}" in lower]
    score = next((lower[key] for key in SCORES if key in lower), None)
    if len(ends) == 2 and score is not None:
        pairs = pd.DataFrame({"first": _text(table[ends[0]]), "second": _text(table[ends[1]])})
        pairs["score"] = _numbers(table[[score]], path)[score].to_numpy()
        ids = tuple(sorted(set(pairs["first"]) | set(pairs["second"])))
        return Features(name, "pairs", ids, pairs)
    key = next((lower[key] for key in IDS if key in lower), None)
    if key is None:
        raise DataError(f"{path}: no column names the companies: call it {' or '.join(IDS)}")
    ids = tuple(_text(table[key]))
    twice = pd.Index(ids)[pd.Index(ids).duplicated()]
    if len(twice):
        raise DataError(f"{path}: {twice[0]} stands more than once: give each company one row")
    rest = table.drop(columns=[key, *(column for column in table.columns if column != key and column.lower() in IDS)])
    cluster = next((lower[group] for group in CLUSTERS if group in lower), None)
    if cluster is not None:
        labels = group_labels(table[cluster]).to_numpy()
        return Features(name, "partition", ids, pd.DataFrame({"cluster": labels}, index=list(ids)))
    if rest.empty or not len(rest.columns):
        raise DataError(f"{path}: there is no column of features beside {key!r}: give one or more")
    numbers = _numbers(rest, path)
    numbers.index = pd.Index(ids)
    square = set(numbers.columns) == set(ids)
    return Features(name, "similarity" if square else "vectors", ids, numbers)


def grouping_of(features: Features, ids: Sequence[str], share_of_pairs: float) -> tuple[Grouping, SpanningTree | None]:
    """Align features to companies and cut their spanning tree at a share of pairs.

    Parameters
    ----------
    features : Features
        Vectors are compared by raw cosine.
    ids : sequence of str
        Companies in their order, all of them in `features`.
    share_of_pairs : float
        See `companysim.clustering.ThresholdMST`; a partition keeps its own clusters and has no tree.

    Raises
    ------
    DataError
        If a company's vector is all zeros, or a similarity is not symmetric.
    """
    index = list(ids)
    if features.kind == "partition":
        return partition(features.name, features.table["cluster"].reindex(index).tolist()), None
    if features.kind == "vectors":
        vectors = features.table.loc[index].to_numpy(dtype=float)
        empty = np.flatnonzero(~vectors.any(axis=1))
        if len(empty):
            raise DataError(f"{features.name}: the vector of {index[empty[0]]} is all zeros: leave the company out")
        cosine = Cosine().fit(vectors)
        similarity = cosine.similarity(cosine.transform(vectors))
        tree = cosine_tree(vectors)
    elif features.kind == "similarity":
        similarity = features.table.loc[index, index].to_numpy(dtype=float)
        if not np.allclose(similarity, similarity.T, rtol=1e-6, atol=1e-9):
            raise DataError(f"{features.name}: the similarity is not symmetric: give the same value for both orders")
        tree = None
    else:
        place = pd.Index(index)
        i, j = (place.get_indexer(pd.Index(features.table[end])) for end in ("first", "second"))
        both = (i >= 0) & (j >= 0) & (i != j)
        score = features.table["score"].to_numpy(dtype=float)[both]
        similarity = np.full((len(index),) * 2, -np.inf)  # not 0, or a listed score below it would be lost
        for a, b in ((i[both], j[both]), (j[both], i[both])):
            np.maximum.at(similarity, (a, b), score)
        similarity[np.isneginf(similarity)] = 0.0
        tree = None
    similarity = (similarity + similarity.T) / 2
    tree = spanning_tree(similarity.max() - similarity) if tree is None else tree
    labels = tree.labels(tree.theta_for_share(share_of_pairs))
    return Grouping(features.name, labels, similarity), tree


def read_codes(path: str | Path) -> pd.DataFrame:
    """Read a classification table as text, indexed by id. It may be long (scheme, code): what `companysim data` writes.

    Returns
    -------
    DataFrame
        Those of sic (4 digits), gics (8 digits; also called gics8) and ff48 it has, empty where unknown, and ``filed``
        (datetime) if it has that.

    Raises
    ------
    DataError
        If no column names the companies or a scheme, an id stands twice, a code has too many digits, or ``filed`` is
        no day.
    """
    table = read_frame(path, f"a column {' or '.join(IDS)} and codes")
    lower = {str(column).lower(): column for column in table.columns}
    key = next((lower[key] for key in IDS if key in lower), None)
    if key is not None and {"scheme", "code"} <= set(lower):
        table = table.pivot_table(
            index=key, columns=lower["scheme"], values=lower["code"], aggfunc="first"
        ).reset_index()
        lower = {str(column).lower(): column for column in table.columns}
    schemes = {scheme: lower[name] for name, (scheme, _) in CODES.items() if name in lower}
    if key is None or not schemes:
        raise DataError(
            f"{path}: a classification needs a column {' or '.join(IDS)} and one or more of {', '.join(LEVELS)}; "
            f"this one has {', '.join(lower)}"
        )
    widths = dict(CODES.values())
    codes = {"ticker": _text(table[key])}
    for scheme, column in schemes.items():
        texts = ["" if text in MISSING else text for text in _text(table[column])]
        codes[scheme] = [text and text.zfill(widths[scheme]) for text in texts]
    given = pd.DataFrame(codes)
    if "filed" in lower:
        given["filed"] = table[lower["filed"]].to_numpy()
    checked = check_table(given, codes_schema(schemes, filed="filed" in lower), str(path))
    return checked.set_index("ticker").rename_axis(None)


def schemes_of(codes: pd.DataFrame, ids: Sequence[str]) -> list[Grouping]:
    """Return the schemes of a classification table for companies in their order; without those nobody has a code of."""
    aligned = codes.reindex(list(ids))
    found = []
    for scheme in (name for name in LEVELS if name in aligned):
        values = aligned[scheme].fillna("").tolist()
        if any(values):
            found.append(classification(scheme, values))
    return found


def _text(column: pd.Series) -> list[str]:
    return [str(value).strip().removesuffix(".0") for value in column]


def _numbers(table: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    numbers: pd.DataFrame = table.apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~np.isfinite(numbers.to_numpy())
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{path}: column {table.columns[column]!r} holds {str(table.iloc[row, column])!r} (row {row + 1}): "
            "features must be finite numbers"
        )
    return numbers
