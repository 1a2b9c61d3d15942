"""A run directory: finished stages are kept, anything else is made again, and nothing half-written stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import companysim.workspace
from companysim.config import RunConfig
from companysim.errors import RunError
from companysim.workspace import (
    CONFIG,
    MARK,
    SHARD_PREFIX,
    Workspace,
    digest,
    fingerprint,
    fingerprint_of_code,
    fingerprint_of_path,
    write,
    write_csv,
    write_parquet,
    write_text,
)

FRAME = pd.DataFrame({"ticker": ["A", "NA"], "price": [0.1, 1 / 3]})
# A second process: takes the run directory, says so, and holds it until it is killed.
HOLDER = """
import sys, time
from companysim.workspace import Workspace
with Workspace(sys.argv[1]).held():
    print("held", flush=True)
    time.sleep(600)
"""
# A second process that is killed in the middle of writing the second file of a stage.
KILLED = """
import os, signal, sys
from companysim.workspace import Workspace, write, write_text
workspace = Workspace(sys.argv[1])
with workspace.held():
    folder = workspace.begin("stage")
    write_text(folder / "first.txt", "new")
    def half(path):
        path.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(folder / "second.txt", half)
    workspace.finish("stage", "new", 1.0)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "mine"


@pytest.fixture
def workspace(root: Path) -> Workspace:
    """A run directory whose stage `stage` is finished with fingerprint `print` and two files."""
    made = Workspace(root)
    write_text(root / CONFIG, RunConfig().to_yaml())
    folder = made.begin("stage")
    write_text(folder / "first.txt", "one")
    write_text(folder / "second.txt", "two")
    made.finish("stage", "print", 2.5)
    return made


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def holder(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `root`."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


# Done and resume


def test_a_finished_stage_is_done_also_for_the_next_process(workspace: Workspace, root: Path) -> None:
    assert workspace.is_done("stage", "print")
    assert Workspace(root).is_done("stage", "print")
    assert Workspace(root).seconds("stage") == 2.5
    assert Workspace(root).path("stage", "first.txt").read_text() == "one"


def test_another_fingerprint_is_not_done(workspace: Workspace) -> None:
    assert not workspace.is_done("stage", "another")


def test_a_stage_that_never_ran_is_not_done(workspace: Workspace) -> None:
    assert not workspace.is_done("later", "print")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("TWO"),  # of the same length
        lambda path: path.write_text("tw"),
        lambda path: path.write_text(""),
        lambda path: path.write_text("two and more"),
        lambda path: path.unlink(),
    ],
    ids=["changed", "truncated", "emptied", "longer", "deleted"],
)
@pytest.mark.parametrize("name", ["first.txt", "second.txt"])
def test_a_damaged_file_is_noticed(workspace: Workspace, name: str, damage: Callable[[Path], object]) -> None:
    damage(workspace.path("stage", name))
    assert not workspace.is_done("stage", "print")


def test_a_file_that_was_only_touched_is_still_good(workspace: Workspace) -> None:
    os.utime(workspace.path("stage", "first.txt"), (0, 0))
    assert workspace.is_done("stage", "print")


@pytest.mark.parametrize(
    "mark", ["", "{", "[]", "5", "{}", '{"fingerprint": "print"}', '{"fingerprint": "print", "files": 5}', b"\xff\xfe"]
)
def test_a_damaged_mark_means_not_done(workspace: Workspace, mark: str | bytes) -> None:
    workspace.path("stage", MARK).write_bytes(mark if isinstance(mark, bytes) else mark.encode())
    assert not workspace.is_done("stage", "print")


def test_beginning_again_removes_the_mark_and_what_was_half_written(workspace: Workspace, root: Path) -> None:
    (root / "stage" / ".partial-abc").write_text("half")
    (root / "stage" / f"{SHARD_PREFIX}0").write_text("a finished shard of a killed run")
    assert workspace.begin("stage") == root / "stage"
    assert not workspace.is_done("stage", "print")
    assert sorted(tree(root / "stage")) == ["shard-0"]  # a file the new settings no longer write does not linger


def test_beginning_one_stage_leaves_the_others_done(workspace: Workspace) -> None:
    workspace.begin("other")
    assert workspace.is_done("stage", "print")


def test_a_stage_is_done_again_after_it_was_repeated(workspace: Workspace) -> None:
    write_text(workspace.begin("stage") / "first.txt", "one, again")
    workspace.finish("stage", "print 2", 1.0)
    assert workspace.is_done("stage", "print 2")
    assert not workspace.is_done("stage", "print")


def test_a_stage_killed_before_its_end_is_repeated(workspace: Workspace, root: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not workspace.path("stage", "second.txt").exists()  # the half-written one never took its place
    for print_ in ("print", "new"):
        assert not workspace.is_done("stage", print_)
    with workspace.held():  # the lock died with its holder
        assert tree(workspace.begin("stage")) == {}


def test_a_stage_killed_between_its_files_and_its_mark_is_repeated(workspace: Workspace, root: Path) -> None:
    folder = workspace.begin("stage")
    write_text(folder / "first.txt", "one")
    write_text(folder / "second.txt", "two")
    assert not Workspace(root).is_done("stage", "print")


# Atomic files


@pytest.mark.parametrize("existing", [None, "before"])
def test_a_writer_that_raises_leaves_neither_a_partial_nor_a_temporary_file(
    tmp_path: Path, existing: str | None
) -> None:
    target = tmp_path / "file.txt"
    if existing is not None:
        target.write_text(existing)

    def fails(path: Path) -> None:
        path.write_text("half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(target, fails)
    assert tree(tmp_path) == ({} if existing is None else {"file.txt": b"before"})


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("before")

    def looks(path: Path) -> None:
        path.write_text("after")
        assert path.parent == target.parent  # the same file system, so that the move is atomic
        assert target.read_text() == "before"

    write(target, looks)
    assert tree(tmp_path) == {"file.txt": b"after"}


def test_a_writer_that_removes_its_temporary_file_does_not_hide_its_error(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        path.unlink()
        raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        write(tmp_path / "file.txt", fails)


def test_written_files_read_back_and_are_readable_for_others(tmp_path: Path) -> None:
    write_text(tmp_path / "t.txt", "é中\n")
    write_csv(tmp_path / "t.csv", FRAME)
    write_parquet(tmp_path / "t.parquet", FRAME.set_index("ticker"), index=True)
    assert (tmp_path / "t.txt").read_bytes() == "é中\n".encode()
    assert_frame_equal(pd.read_csv(tmp_path / "t.csv", keep_default_na=False), FRAME, check_exact=True)
    assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet").reset_index(), FRAME, check_exact=True)
    assert len(tree(tmp_path)) == 3
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o644


# One process at a time


def test_a_second_process_is_refused_and_let_in_when_the_first_has_gone(workspace: Workspace, root: Path) -> None:
    with holder(root) as process:
        with pytest.raises(RunError, match=r"another process is running in .*: wait for it or choose another --out"):
            workspace.held().__enter__()
        process.kill()
        process.wait()
        with workspace.held():
            pass


def test_the_lock_is_released_when_the_work_fails(workspace: Workspace, root: Path) -> None:
    with pytest.raises(ZeroDivisionError), workspace.held():
        raise ZeroDivisionError
    with holder(root):  # another process gets it
        pass


def test_two_run_directories_do_not_wait_for_each_other(tmp_path: Path) -> None:
    one, other = Workspace(tmp_path / "one"), Workspace(tmp_path / "other")
    with holder(one.root), other.held():
        pass


def test_what_a_killed_run_was_writing_to_the_root_is_removed(workspace: Workspace, root: Path) -> None:
    (root / ".partial-xyz").write_text("half")
    with workspace.held():
        assert not (root / ".partial-xyz").exists()


# What a run directory may be


def test_missing_folders_are_made(tmp_path: Path) -> None:
    assert Workspace(tmp_path / "a" / "b" / "c").root.is_dir()


@pytest.mark.parametrize(
    "found", [{}, {".lock": ""}, {".lock": "", ".partial-x": "half"}], ids=["empty", "lock", "killed"]
)
def test_an_empty_folder_and_a_run_killed_at_once_are_accepted(tmp_path: Path, found: dict[str, str]) -> None:
    for name, content in found.items():
        (tmp_path / name).write_text(content)
    Workspace(tmp_path)


@pytest.mark.parametrize(
    "found",
    [
        {"thesis.txt": "years of work"},
        {".hidden": "x"},
        {"config.yaml": "debug: true\n", "app.py": "x"},
        {"config.yaml": "name: another-program\n"},
        {"config.yaml": "{", "app.py": "x"},
        {".lock": "", "thesis.txt": "years of work"},
    ],
    ids=["file", "hidden", "other-config", "name-only", "no-yaml", "foreign-lock"],
)
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path, found: dict[str, str]) -> None:
    for name, content in found.items():
        (tmp_path / name).write_text(content)
    before = tree(tmp_path)
    with pytest.raises(RunError, match="is not empty and is no run directory: choose another --out"):
        Workspace(tmp_path)
    assert tree(tmp_path) == before


def test_a_run_directory_copied_without_its_lock_is_one(workspace: Workspace, root: Path, tmp_path: Path) -> None:
    with workspace.held():
        pass
    shutil.copytree(root, tmp_path / "copy", ignore=shutil.ignore_patterns(".*"))
    assert Workspace(tmp_path / "copy").is_done("stage", "print")


@pytest.mark.parametrize("below", [".", "deeper"])
def test_a_file_is_no_run_directory(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"as run directory .*: choose another --out") as caught:
        Workspace(tmp_path / "file" / below)
    assert str(caught.value).isprintable()
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("below", [".", "deeper"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, below: str) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(RunError, match=r"Permission denied.*: choose another --out"):
            Workspace(tmp_path / below)
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_the_system_calls_unwritable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(RunError, match=r"Permission denied.*: choose another --out"):
        Workspace(tmp_path)


# Fingerprints


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    # json.dumps([{"a": 1, "b": [2.5, null]}, "x"], sort_keys=True), through the sha256sum of the shell
    expected = subprocess.run(
        ["sha256sum"], input=b'[{"a": 1, "b": [2.5, null]}, "x"]', capture_output=True, check=True
    ).stdout.split()[0]
    assert fingerprint({"b": [2.5, None], "a": 1}, "x") == expected.decode()


def test_a_fingerprint_does_not_depend_on_the_order_of_keys_but_on_everything_else() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    different = [
        (),
        (1,),
        ("1",),
        (1.5,),
        (1, 2),
        (2, 1),
        ([1, 2],),
        ({"a": 1},),
        ({"a": 2},),
        ({"b": 1},),
        (None,),
        ("",),
    ]
    assert len({fingerprint(*parts) for parts in different}) == len(different)


def test_the_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_fingerprinted_by_content_and_not_by_name_or_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text("same")
    os.utime(tmp_path / "other", (0, 0))
    assert fingerprint_of_path(tmp_path / "one") == fingerprint_of_path(tmp_path / "other")
    (tmp_path / "other").write_text("SAME")
    assert fingerprint_of_path(tmp_path / "one") != fingerprint_of_path(tmp_path / "other")


def test_a_folder_is_fingerprinted_by_its_files(tmp_path: Path) -> None:
    seen = [fingerprint_of_path(tmp_path)]
    (tmp_path / "weights").write_text("1")
    os.utime(tmp_path / "weights", (0, 0))
    seen.append(fingerprint_of_path(tmp_path))
    assert fingerprint_of_path(str(tmp_path)) == seen[-1]
    os.utime(tmp_path / "weights", (5, 5))
    seen.append(fingerprint_of_path(tmp_path))
    (tmp_path / "weights").write_text("12")
    os.utime(tmp_path / "weights", (5, 5))
    seen.append(fingerprint_of_path(tmp_path))
    (tmp_path / "weights").rename(tmp_path / "model")
    seen.append(fingerprint_of_path(tmp_path))
    assert len(set(seen)) == len(seen)


def test_files_of_inner_folders_count_with_their_place(tmp_path: Path) -> None:
    for place in ("a", "b", "c"):
        inner = tmp_path / place / ("layers.1" if place != "c" else "layers.2")
        inner.mkdir(parents=True)
        (inner / "weights").write_text("1")
        os.utime(inner / "weights", (0, 0))
    a, b, c = (fingerprint_of_path(tmp_path / place) for place in ("a", "b", "c"))
    assert a == b != c
    os.utime(tmp_path / "b" / "layers.1" / "weights", (5, 5))
    assert fingerprint_of_path(tmp_path / "b") != a


def test_a_name_is_fingerprinted_as_itself() -> None:
    assert fingerprint_of_path("org/model") == fingerprint_of_path("org/model") != fingerprint_of_path("org/other")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's sources that `fingerprint_of_code` looks at instead."""
    source = Path(companysim.workspace.__file__)
    shutil.copytree(source.parent, tmp_path / "companysim", ignore=shutil.ignore_patterns("_data", "__pycache__"))
    monkeypatch.setattr(companysim.workspace, "__file__", str(tmp_path / "companysim" / source.name))
    return tmp_path / "companysim"


def test_a_copy_of_the_code_has_the_same_fingerprint_wherever_it_lies(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = fingerprint_of_code("universe", "clustering")
    monkeypatch.undo()
    assert fingerprint_of_code("universe", "clustering") == there


@pytest.mark.parametrize("change", ["changed", "added", "removed", "renamed"])
def test_a_change_of_the_code_changes_its_fingerprint_and_no_other(house: Path, change: str) -> None:
    before, elsewhere = fingerprint_of_code("universe", "benchmark"), fingerprint_of_code("clustering")
    file = house / "universe" / "tables.py"
    if change == "changed":
        file.write_text(file.read_text() + "\n")
    elif change == "added":
        (house / "universe" / "more.py").touch()
    elif change == "removed":
        file.unlink()
    else:
        file.rename(file.with_name("renamed.py"))
    assert fingerprint_of_code("universe", "benchmark") != before
    assert fingerprint_of_code("clustering") == elsewhere


def test_compiled_files_are_not_code(house: Path) -> None:
    before = fingerprint_of_code("universe")
    (house / "universe" / "__pycache__").mkdir()
    (house / "universe" / "__pycache__" / "tables.pyc").touch()
    assert fingerprint_of_code("universe") == before
