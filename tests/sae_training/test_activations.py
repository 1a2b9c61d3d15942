"""Chunks of activations: complete, disjoint, the same again, in memory and on disk, over several processes."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from companysim.encoding.llm import ResidualStream
from companysim.errors import DataError, RunError, WeightsError
from companysim.sae_training.activations import Chunk, StoredActivations, TextActivations, collect_activations
from companysim.sae_training.batches import BEGINNING, Position, batches
from companysim.sae_training.texts import StoredTexts

TEXTS = [f"company {i} drills {'deep ' * (i % 4)}wells" for i in range(40)]


def source(stream: ResidualStream, **options: Any) -> TextActivations:
    chosen: dict[str, Any] = {"buffer": 200, "held_out": 0, **options}
    hooks = chosen.pop("hooks", ["layers.1"])
    return TextActivations(stream, hooks, StoredTexts(chosen.pop("texts", TEXTS), 0), **chosen)


def chunks(made: TextActivations) -> list[torch.Tensor]:
    found, document = [], 0
    while True:
        rows, after = made.chunk(document)
        found.append(rows)
        if after is None:
            return found
        document = after


def as_set(rows: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(map(tuple, rows.float().tolist()))


def test_chunks_are_the_stream_cut_at_documents(stream: ResidualStream) -> None:
    found = chunks(source(stream))
    assert len(found) > 4
    assert all(len(rows) >= 200 for rows in found[:-1])
    assert max(map(len, found)) < 200 + max(map(len, TEXTS))
    windows = stream.windows([ids for ids, _ in stream.tokenise(TEXTS)])
    expected = torch.cat([stream.activations(batch).hidden for batch in stream.batches(windows)]).bfloat16()
    assert len(torch.cat(found)) == len(expected)
    # Batches differ in padding, which may change a last bit before rounding.
    torch.testing.assert_close(torch.cat(found).float().sum(0), expected.float().sum(0), rtol=0.02, atol=2.0)


def test_a_chunk_is_the_same_again_and_whatever_the_order_of_the_texts(stream: ResidualStream) -> None:
    made = source(stream)
    first, after = made.chunk(0)
    made.chunk(after or 0)
    assert torch.equal(made.chunk(0).rows, first)
    other = source(stream, texts=TEXTS[::-1])
    assert torch.equal(other.chunk(0).rows, first)
    assert other.identity == made.identity
    assert source(stream, texts=TEXTS[1:]).identity != made.identity
    assert source(stream, buffer=201).identity != made.identity


def test_whole_text_in_one_chunk_is_read_once(stream: ResidualStream) -> None:
    seen: list[tuple[int, int]] = []
    made = source(stream, buffer=10**6, report=lambda done, total: seen.append((done, total)))
    assert made.chunk(0).after is None
    passes = len(seen)
    assert seen[-1] == (passes, passes)
    assert made.chunk(0).after is None
    assert len(seen) == passes


def test_held_out_documents_are_not_trained_on(stream: ResidualStream) -> None:
    everything = torch.cat(chunks(source(stream)))
    made = source(stream, held_out=4)
    trained, apart = torch.cat(chunks(made)), made.held_out()
    assert len(trained) + len(apart) == len(everything)
    ordered = list(StoredTexts(TEXTS, 0).read(0))
    windows = stream.windows([ids for ids, _ in stream.tokenise(ordered[::4])])
    assert torch.equal(apart, collect_activations(stream, windows))
    assert len(made.held_out(limit=1)) < len(apart)


def test_on_disk_equals_in_memory_and_is_not_made_twice(stream: ResidualStream, tmp_path: Path) -> None:
    seen: list[int] = []
    memory = chunks(source(stream))
    for attempt in range(2):
        made = source(stream, folder=tmp_path, report=lambda done, total: seen.append(done))
        for ours, theirs in zip(chunks(made), memory, strict=True):
            assert torch.equal(ours, theirs)
        if attempt == 0:
            assert len([*tmp_path.iterdir()]) == 1  # one chunk at a time
    passes = len(seen)
    last = source(stream, folder=tmp_path, report=lambda done, total: seen.append(done))
    document = 0
    while (after := source(stream).chunk(document).after) is not None:
        document = after
    assert torch.equal(last.chunk(document).rows, memory[-1])
    assert len(seen) == passes  # read from the file


def test_full_disk_is_named_and_leaves_nothing(
    stream: ResidualStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def write(self, content: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, mode: Full())
    with pytest.raises(RunError, match=r"cannot write 200 activations .*No space left on device.*lower the buffer"):
        source(stream, folder=tmp_path).chunk(0)
    assert not [*tmp_path.iterdir()]


def test_processes_share_a_chunk(stream: ResidualStream) -> None:
    whole = source(stream).chunk(0)
    parts = [source(stream, process=rank, processes=3).chunk(0) for rank in range(3)]
    assert {part.after for part in parts} == {whole.after}
    assert sum(len(part.rows) for part in parts) == len(whole.rows)
    assert min(len(part.rows) for part in parts) > 0.2 * len(whole.rows)


def test_layers_of_a_group_come_together(stream: ResidualStream, llm_path: Path) -> None:
    both = source(stream, hooks=["layers.0", "layers.1"], buffer=10**6).chunk(0).rows
    alone = source(stream, buffer=10**6).chunk(0).rows
    first = ResidualStream(str(llm_path), "layers.0", window=32, overlap=8, batch_tokens=128)
    other = source(first, hooks=["layers.0"], buffer=10**6).chunk(0).rows
    assert as_set(both) == sorted(as_set(alone) + as_set(other))


def test_bfloat16_model_and_disk(llm_path: Path, tmp_path: Path) -> None:
    half = ResidualStream(str(llm_path), "layers.1", window=32, overlap=0, batch_tokens=128, dtype="bfloat16")
    assert torch.equal(source(half, folder=tmp_path).chunk(0).rows, source(half).chunk(0).rows)


def test_wrong_hook_is_named(stream: ResidualStream) -> None:
    with pytest.raises(WeightsError, match=r"no module 'layers\.7': name blocks"):
        source(stream, hooks=["layers.1", "layers.7"])


def test_batches_depend_on_the_position_alone() -> None:
    rows = torch.arange(103.0)[:, None].expand(103, 4)
    stored = StoredActivations(rows)
    stream = batches(stored, 10, 7)
    taken = [next(stream) for _ in range(25)]
    first_epoch = torch.cat([batch[:, 0] for batch, _ in taken[:10]])
    assert len(first_epoch.unique()) == 100  # each row once; three fill no batch
    assert [position for _, position in taken[9:11]] == [Position(0, 0, 10), Position(1, 0, 1)]
    assert not torch.equal(taken[0][0], taken[10][0])  # shuffled anew
    again = batches(stored, 10, 7, taken[12][1])
    for (batch, position), (other, place) in zip(taken[13:], again, strict=False):
        assert torch.equal(batch, other)
        assert position == place
    assert not torch.equal(next(batches(stored, 10, 8))[0], taken[0][0])


def test_only_one_chunk_is_in_memory_while_the_next_is_made() -> None:
    class Source:
        width, identity = 2, "x"
        last: weakref.ref[torch.Tensor] | None = None

        def chunk(self, document: int) -> Chunk:
            assert self.last is None or self.last() is None
            rows = torch.zeros(8, 2)
            self.last = weakref.ref(rows)
            return Chunk(rows, document + 1)

    made = batches(Source(), 4, 0)
    for _ in range(6):
        next(made)


def test_too_few_rows_for_a_batch() -> None:
    stored = StoredActivations(torch.ones(9, 4))
    with pytest.raises(DataError, match="gives 9 activations, which fill no batch of 10: give more text"):
        next(batches(stored, 10, 0, BEGINNING))
    with pytest.raises(DataError, match="which fill no batch of 5"):
        next(batches(stored, 5, 0, BEGINNING, lambda available: 0))
