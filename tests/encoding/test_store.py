"""Shards on disk: written once, checked always, found again by filing and text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import companysim.encoding.store as module
from companysim.encoding.encode import Encoded, encode
from companysim.encoding.filings import encode_filings
from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import SAE
from companysim.encoding.store import STORE, Store, text_print
from companysim.errors import RunError
from tests.encoding.corpus import content, filings

SETTINGS = {"model": "a", "window": 64}
FILINGS = filings(10)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_FILINGS", 4)


Fill = Callable[..., Store]


@pytest.fixture
def fill(stream: ResidualStream, sae: SAE) -> Fill:
    """Encode filings into a folder."""

    def work(folder: Path, table: pd.DataFrame = FILINGS, **options: object) -> Store:
        store = Store.create(folder, SETTINGS)
        encode_filings(lambda: (stream, sae), table, store, **options)  # type: ignore[arg-type]
        return store

    return work


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.safetensors"))


def same(one: Encoded, other: Encoded, rows: list[int] | None = None) -> None:
    """Exactly the same documents."""
    wanted = other.pooled.rows(np.array(rows if rows is not None else range(len(other.starts))))
    for name in ("indptr", "latent", "total", "peak", "count", "token", "tokens"):
        np.testing.assert_array_equal(getattr(one.pooled, name), getattr(wanted, name))
        assert getattr(one.pooled, name).dtype == getattr(wanted, name).dtype
    chosen = rows if rows is not None else range(len(other.starts))
    np.testing.assert_array_equal(one.residual_mean, other.residual_mean[list(chosen)])
    for mine, row in zip(one.starts, chosen, strict=True):
        np.testing.assert_array_equal(mine, other.starts[row])


# Writing and reading


def test_a_shard_reads_back_exactly(tmp_path: Path, stream: ResidualStream, sae: SAE) -> None:
    store = Store.create(tmp_path / "s", SETTINGS)
    table = pd.DataFrame({"filing_id": ["b", "a", "c"], "text": ["oil and gas", "a bank", " \n"]})
    [shard] = store.missing(table)
    assert shard["filing_id"].tolist() == ["a", "b", "c"]
    encoded = encode(stream, sae, shard["text"].tolist())
    store.write(shard, encoded)
    index, found = Store(tmp_path / "s").read(table)
    same(found, encoded, [1, 0, 2])
    assert index["filing_id"].tolist() == ["b", "a", "c"]
    assert index["tokens"].tolist() == [11, 6, 0]
    assert found.failures == {2: "the text is empty after cleaning"}
    assert index["failure"].tolist() == ["", "", "the text is empty after cleaning"]
    assert not store.missing(table)


def test_filings_of_several_shards_come_in_the_order_asked_for(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path / "s")
    assert len(shards(tmp_path / "s")) == 3
    _, everything = store.read(FILINGS)
    order = [7, 0, 9, 4, 3]
    index, found = store.read(FILINGS.iloc[order])
    assert index["filing_id"].tolist() == FILINGS["filing_id"].iloc[order].tolist()
    same(found, everything, order)
    seen = {}
    for rows, part in store.parts(store.index()):
        seen.update(zip(rows.tolist(), part.pooled.tokens.tolist(), strict=True))
    assert [seen[row] for row in range(10)] == everything.pooled.tokens.tolist()


def test_shards_are_safetensors_of_the_documented_arrays(tmp_path: Path, fill: Fill) -> None:
    folder = fill(tmp_path / "s").folder
    arrays = load_file(shards(folder)[0])
    assert set(arrays) == {
        *("indptr", "latent", "total", "peak", "count", "token", "tokens"),
        *("shape", "residual_mean", "starts", "starts_indptr"),
    }
    facts = json.loads(shards(folder)[0].with_suffix(".json").read_text())
    assert facts["texts"][0] == text_print(FILINGS.set_index("filing_id").loc[facts["filing_ids"][0], "text"])
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_a_text_is_known_by_what_is_encoded_of_it() -> None:
    assert text_print("oil \n\x00 and gas ") == text_print("oil and gas") != text_print("oil and gases")


def test_the_index_has_one_row_a_filing_in_order(tmp_path: Path, fill: Fill) -> None:
    index = fill(tmp_path / "s", FILINGS.sample(frac=1, random_state=3)).index()
    assert index.columns.tolist() == ["filing_id", "text", "shard", "row", "tokens", "failure"]
    assert index["filing_id"].tolist() == FILINGS["filing_id"].tolist()
    assert index["text"].tolist() == [text_print(text) for text in FILINGS["text"]]
    assert index["shard"].nunique() == 3
    assert Store.create(tmp_path / "none", SETTINGS).index().empty


def test_filings_that_are_not_there_are_absent_or_refused(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path / "s", FILINGS.head(2))
    assert store.read(FILINGS)[0]["filing_id"].tolist() == ["f00000", "f00001"]
    with pytest.raises(RunError, match=r"none of the filings is encoded in .*run `companysim encode`"):
        store.read(FILINGS.tail(2))
    with pytest.raises(RunError, match="none of the filings"):
        store.read(FILINGS.head(2).assign(text="something else"))


def test_cuts_follow_number_and_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_CHARACTERS", 100)
    store = Store.create(tmp_path / "s", SETTINGS)
    lengths = [10, 10, 10, 10, 10, 60, 30, 11, 300, 5, 99]
    table = pd.DataFrame({"filing_id": [f"{i:02d}" for i in range(11)], "text": ["x" * n for n in lengths]})
    expected = [[10, 10, 10, 10], [10, 60, 30], [11], [300], [5], [99]]
    for seed in range(3):
        parts = store.missing(table.sample(frac=1, random_state=seed))
        assert [part["text"].str.len().tolist() for part in parts] == expected


# Only what is new is encoded


def test_a_second_call_loads_no_models_and_changes_nothing(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path / "s")
    before = content(tmp_path / "s")
    encode_filings(never, FILINGS.sample(frac=1, random_state=1), store)
    assert content(tmp_path / "s") == before


def never() -> tuple[ResidualStream, SAE]:
    raise AssertionError("the models were loaded although nothing is left to encode")


def test_filings_added_later_leave_the_old_shards_alone(tmp_path: Path, fill: Fill) -> None:
    fill(tmp_path / "s", FILINGS.iloc[[0, 2, 4, 6, 8]])
    before = content(tmp_path / "s")
    store = fill(tmp_path / "s")
    after = content(tmp_path / "s")
    assert {name: after[name] for name in before} == before
    new = store.index().loc[lambda t: ~t["shard"].isin([Path(n).stem for n in before])]
    assert new["filing_id"].tolist() == FILINGS["filing_id"].iloc[[1, 3, 5, 7, 9]].tolist()
    assert store.index()["filing_id"].tolist() == FILINGS["filing_id"].tolist()


def test_a_changed_text_is_encoded_again_alone(tmp_path: Path, fill: Fill, stream: ResidualStream, sae: SAE) -> None:
    fill(tmp_path / "s")
    before = content(tmp_path / "s")
    changed = FILINGS.assign(text=FILINGS["text"].where(FILINGS.index != 5, "It mines gold now."))
    store = fill(tmp_path / "s", changed)
    after = content(tmp_path / "s")
    assert {name: after[name] for name in before} == before
    [added] = [name for name in set(after) - set(before) if name.endswith(".json")]
    assert json.loads(after[added])["filing_ids"] == ["f00005"]
    # Both texts are there, each found by itself.
    _, new = store.read(changed.iloc[[5]])
    same(new, encode(stream, sae, ["It mines gold now."]))
    assert store.read(FILINGS.iloc[[5]])[1].pooled.tokens[0] == len(FILINGS["text"].iloc[5])
    assert store.found(changed)["filing_id"].tolist() == FILINGS["filing_id"].tolist()


def test_a_failure_of_a_text_that_is_no_longer_asked_for_is_not_reported(
    tmp_path: Path, stream: ResidualStream, sae: SAE
) -> None:
    store = Store.create(tmp_path / "s", SETTINGS)
    empty = FILINGS.head(2).assign(text=["oil", " "])
    failed = encode_filings(lambda: (stream, sae), empty, store)
    assert failed.to_dict("records") == [{"filing_id": "f00001", "reason": "the text is empty after cleaning"}]
    mended = encode_filings(lambda: (stream, sae), empty.assign(text=["oil", "gas"]), store)
    assert mended.empty
    assert mended.columns.tolist() == ["filing_id", "reason"]
    assert encode_filings(never, empty, store)["filing_id"].tolist() == ["f00001"]  # of the old text still


# Damage

DAMAGES: dict[str, Callable[[Path], object]] = {
    "first byte": lambda path: flip(path, 0),
    "a byte in the middle": lambda path: flip(path, path.stat().st_size // 2),
    "last byte": lambda path: flip(path, -1),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "emptied": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "deleted": lambda path: path.unlink(),
    "garbage": lambda path: path.write_bytes(b"\x80\x04pickled" * 9),
    "valid JSON of something else": lambda path: path.write_text("[1, 2]"),
}


def flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_noticed_and_made_again_to_the_same_bytes(
    tmp_path: Path, fill: Fill, damage: str, suffix: str
) -> None:
    fill(tmp_path / "s")
    before = content(tmp_path / "s")
    second = shards(tmp_path / "s")[1]
    lost = json.loads(second.with_suffix(".json").read_text())["filing_ids"]
    DAMAGES[damage](second.with_suffix(suffix))
    damaged = {name: raw for name, raw in content(tmp_path / "s").items() if not name.startswith(second.stem)}
    # Reading either refuses with a sentence or leaves the filings out; it never gives anything else.
    store = Store(tmp_path / "s")
    if suffix == ".safetensors":
        with pytest.raises(RunError, match=rf"{second.name} .*encode again, which makes it anew") as caught:
            store.read(FILINGS)
        assert str(caught.value).isprintable()
    else:
        assert set(store.read(FILINGS)[0]["filing_id"]) == set(FILINGS["filing_id"]) - set(lost)

    said: list[str] = []
    loads: list[int] = []
    fill(tmp_path / "s", say=said.append, report=lambda done, total: loads.append(int(done)))
    assert loads[0] == 10 - len(lost)  # the rest was done already
    assert content(tmp_path / "s") == before
    assert {name: before[name] for name in damaged} == damaged
    if (damage, suffix) == ("deleted", ".json"):
        assert said == []  # indistinguishable from a run killed between the two files
    else:
        [sentence] = said
        assert sentence.startswith(f"{second.name} is damaged and was removed: its ")
        assert sentence.endswith("encoded again")
        assert ("4 filings" in sentence) == (suffix == ".safetensors")


def test_no_flipped_byte_of_the_json_goes_unnoticed(tmp_path: Path, fill: Fill) -> None:
    folder = fill(tmp_path / "s", FILINGS.head(2)).folder
    mark = shards(folder)[0].with_suffix(".json")
    good = mark.read_bytes()
    store = Store(folder)
    whole = store.index()
    refused = 0
    for position in range(len(good)):
        raw = bytearray(good)
        raw[position] ^= 4
        mark.write_bytes(raw)
        try:
            index, _ = store.read(FILINGS.head(2))
        except RunError:
            refused += 1
        else:  # the capital letters of an escape: nothing has changed
            pd.testing.assert_frame_equal(index, whole)
    assert refused > 0.95 * len(good)


def test_a_run_killed_between_a_shards_two_files_resumes(
    tmp_path: Path, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = content(fill(tmp_path / "whole").folder)
    real, calls = module.write_text, []

    def dying(path: Path, text: str) -> None:
        calls.append(path)
        if len(calls) == 3:  # store.json, first mark, second mark
            raise KeyboardInterrupt
        real(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_text", dying)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / "killed")
    assert len(shards(tmp_path / "killed")) == 2
    assert len(Store(tmp_path / "killed").index()) == 4
    fill(tmp_path / "killed")
    assert content(tmp_path / "killed") == expected


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path, fill: Fill) -> None:
    fill(tmp_path / "s")
    before = content(tmp_path / "s")
    (tmp_path / "s" / ".partial-abc").write_text("half")
    fill(tmp_path / "s")
    assert content(tmp_path / "s") == before


# Which folder


def test_a_store_of_another_encoder_is_refused_or_replaced(tmp_path: Path, fill: Fill) -> None:
    folder = fill(tmp_path / "s").folder
    (folder / "notes.txt").write_text("mine")
    before = content(folder)
    other = SETTINGS | {"window": 128}
    with pytest.raises(RunError, match="encoded with other models or settings: choose another --out"):
        Store.create(folder, other)
    assert content(folder) == before
    store = Store.create(folder, other, replace=True)
    assert store.index().empty
    assert set(content(folder)) == {STORE, "notes.txt"}
    assert len(store.missing(FILINGS)) == 3
    assert json.loads((folder / STORE).read_text()) | other == json.loads((folder / STORE).read_text())


def test_replacing_keeps_the_shards_of_the_same_encoder(tmp_path: Path, fill: Fill) -> None:
    folder = fill(tmp_path / "s").folder
    before = content(folder)
    Store.create(folder, dict(reversed(SETTINGS.items())), replace=True)  # the order of settings means nothing
    assert {name: raw for name, raw in content(folder).items() if name != STORE} == {
        name: raw for name, raw in before.items() if name != STORE
    }
    encode_filings(never, FILINGS, Store(folder))


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not empty and holds no encoded filings: choose another --out"):
        Store.create(tmp_path, SETTINGS)
    assert content(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_run_killed_before_it_had_written_anything_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".partial-x").write_text('{"enco')
    assert Store.create(tmp_path, SETTINGS).index().empty


def test_missing_folders_are_made_and_a_file_is_refused(tmp_path: Path) -> None:
    assert Store.create(tmp_path / "a" / "b", SETTINGS).folder.is_dir()
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(RunError, match=r"cannot write to .*: choose another --out"):
            Store.create(place, SETTINGS)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(RunError, match=r"cannot write to .*Permission denied"):
            Store.create(tmp_path, SETTINGS)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("damage", ["missing", "{", "[]", '{"window": 5}'])
def test_a_folder_without_a_readable_store_is_refused(tmp_path: Path, damage: str) -> None:
    if damage != "missing":
        (tmp_path / STORE).write_text(damage)
    with pytest.raises(RunError, match=f"no encoded filings in {tmp_path}: make them with `companysim encode`"):
        Store(tmp_path)
