from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from companysim.errors import DataError
from companysim.sae_training.texts import StoredTexts, Texts, open_texts

TEXTS = ["alpha", "beta gamma", "delta", "epsilon ö"]


def everything(texts: Texts) -> list[str]:
    return list(texts.read(0))


def test_every_source_gives_every_text_in_an_order_of_its_own(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [*TEXTS, None, ""], "other": range(6)})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.fillna("").to_csv(tmp_path / "a.csv", index=False)
    with gzip.open(tmp_path / "b.csv.gz", "wt", encoding="utf-8") as file:
        frame.iloc[::-1].fillna("").to_csv(file, index=False)
    folder = tmp_path / "folder" / "deeper"
    folder.mkdir(parents=True)
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.{'md' if number % 2 else 'txt'}").write_text(text, encoding="utf-8")
    (folder / "image.png").write_bytes(b"\xff")
    tables = [open_texts(str(tmp_path / name)) for name in ("a.parquet", "a.csv", "b.csv.gz")]
    for texts in (*tables, open_texts(str(tmp_path / "folder"))):
        found = everything(texts)
        assert sorted(found) == sorted(TEXTS)
        assert list(texts.read(2)) == found[2:]
    assert len({tuple(everything(texts)) for texts in tables}) == 1  # the order of the rows does not matter
    assert len({texts.identity for texts in tables}) == 1


def test_seed_decides_the_order() -> None:
    texts = [f"text {i}" for i in range(30)]
    orders = [everything(StoredTexts(texts, seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != texts
    assert StoredTexts(texts, 0).identity != StoredTexts(texts, 1).identity


@pytest.mark.slow  # the import of datasets
def test_data_set_of_the_hub_is_streamed_with_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    frame = pd.DataFrame({"body": [f"text {i}" for i in range(20)]})
    frame.to_parquet(tmp_path / "data.parquet")
    real, asked = datasets.load_dataset, []

    def load(name: str, **options: Any) -> Any:
        asked.append((name, options))
        return real("parquet", data_files=str(tmp_path / "data.parquet"), split="train", streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", load)
    texts = open_texts("someone/corpus", "body", revision="abc123", split="validation")
    assert asked == [("someone/corpus", {"split": "validation", "revision": "abc123", "streaming": True})]
    found = everything(texts)
    assert sorted(found) == sorted(frame["body"])
    assert list(texts.read(7)) == found[7:]
    with pytest.raises(DataError, match="has no column 'text', only body: give --column"):
        open_texts("someone/corpus")


def test_unreachable_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(name: str, **options: Any) -> Any:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"cannot read the data set 'a/b' \(no route to host\)"):
        open_texts("a/b")


def test_mistakes_are_named(tmp_path: Path) -> None:
    pd.DataFrame({"words": ["a"]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no")
    (tmp_path / "a.xls").write_bytes(b"no")
    (tmp_path / "empty").mkdir()
    pd.DataFrame({"text": [""]}).to_csv(tmp_path / "none.csv")
    latin = tmp_path / "latin"
    latin.mkdir()
    (latin / "a.txt").write_bytes(b"\xff\xfe\xfa")
    for name, words in {
        "a.parquet": "has no column 'text', only words: give --column",
        "broken.parquet": r"cannot read .*broken\.parquet",
        "a.xls": "no parquet or CSV file",
        "empty": r"holds no \.txt or \.md file",
        "none.csv": "there is no text to train on",
        "nowhere.parquet": "no text at",
    }.items():
        with pytest.raises(DataError, match=words):
            open_texts(str(tmp_path / name))
    with pytest.raises(DataError, match=r"cannot read .*a\.txt .*make it UTF-8"):
        everything(open_texts(str(latin)))
