"""A run directory: one folder per stage, atomic files, and a fingerprint per stage so that a rerun resumes.

A stage's folder ends with ``done.json``: the fingerprint of everything the stage depends on, and the size and
sha256 of every file it wrote. It is removed before a stage starts and written last, so a run killed at any
moment repeats that stage, and a damaged file is noticed and made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from companysim.errors import RunError

MARK = "done.json"
CONFIG = "config.yaml"
SUMMARY = "summary.json"
"""Written last: a run that has one is finished."""
LOCK = ".lock"
PARTIAL = ".partial-"
SHARD_PREFIX = "shard-"
"""Files of a stage that begin like this outlive a killed run: work that is done in shards resumes from them."""


class Workspace:
    """Named artefacts of one run.

    Parameters
    ----------
    root : path
        The run directory. It is created when missing; a directory that holds other things is refused.

    Raises
    ------
    RunError
        If `root` is a file, a folder of something else, or cannot be written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        try:
            found = [path.name for path in self.root.iterdir()] if self.root.exists() else []
            occupied = any(name != LOCK and not name.startswith(PARTIAL) for name in found)
            if occupied and not _is_run_config(self.root / CONFIG):
                raise RunError(f"{self.root} is not empty and is no run directory: choose another --out")
            self.root.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise RunError(
                f"cannot use {self.root} as run directory ({error.strerror}): choose another --out"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run directory against a second process that would write to it."""
        with hold(self.root):
            remove_partial(self.root)
            yield

    def path(self, stage: str, name: str) -> Path:
        """Path of a stage's file."""
        return self.root / stage / name

    def is_done(self, stage: str, fingerprint: str) -> bool:
        """Whether `stage` finished with this fingerprint and all its files are intact."""
        try:
            mark = json.loads((self.root / stage / MARK).read_text())
            if mark["fingerprint"] != fingerprint:
                return False
            return all(_intact(self.root / stage / name, facts) for name, facts in mark["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no mark, or a damaged one
            return False

    def begin(self, stage: str) -> Path:
        """Mark `stage` as unfinished and return its folder, emptied but for finished shards of a killed run."""
        folder = self.root / stage
        folder.mkdir(exist_ok=True)
        (folder / MARK).unlink(missing_ok=True)
        for path in folder.iterdir():
            if not path.name.startswith(SHARD_PREFIX):
                path.unlink()
        return folder

    def finish(self, stage: str, fingerprint: str, seconds: float) -> None:
        """Mark `stage` as finished after `seconds`; what it wrote is recorded with its digest."""
        folder = self.root / stage
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": digest(path)}
            for path in sorted(folder.iterdir())
            if path.is_file() and path.name != MARK
        }
        write_text(
            folder / MARK, json.dumps({"fingerprint": fingerprint, "seconds": seconds, "files": files}, indent=1)
        )

    def seconds(self, stage: str) -> float:
        """Seconds the finished `stage` took when it was last run."""
        return float(json.loads((self.root / stage / MARK).read_text())["seconds"])


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder against a second process that would write to it; raises `RunError` if one has it."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"another process is running in {folder}: wait for it or choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def _is_run_config(path: Path) -> bool:
    """Whether a file is the configuration of a run; many other programs have a config.yaml too."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and {"name", "seed", "universe", "encoder"} <= set(content)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process was writing."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        leftover.unlink()


def _intact(path: Path, facts: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == facts["bytes"] and digest(path) == facts["sha256"]


def digest(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """Hex sha256 of JSON-serialisable `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def fingerprint_of_path(path: str | Path) -> str:
    """Fingerprint of an input: the content of a file, or names, sizes and times of a (large) directory's files."""
    place = Path(path)
    if place.is_file():
        return digest(place)
    if place.is_dir():
        files = [p for p in sorted(place.rglob("*")) if p.is_file()]
        found = [(str(p.relative_to(place)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        return fingerprint(found)
    return fingerprint(str(path))


def fingerprint_of_code(*packages: str) -> str:
    """Fingerprint of the sources of subpackages of companysim and of what joins them, so that changed code is run."""
    home = Path(__file__).parent
    sources = sorted(path for package in packages for path in (home / package).glob("*.py"))
    sources += [home / "matrices.py", home / "pipeline.py", home / "significance.py"]
    return fingerprint([(str(path.relative_to(home)), digest(path)) for path in sources])


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends without an error."""
    handle, name = tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the operating system has against a file below `folder` into a `RunError`."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write to {folder} ({error.strerror or error}): make room or choose another --out"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV atomically, without its index."""
    write(path, lambda temporary: table.to_csv(temporary, index=False))


def write_parquet(path: Path, table: pd.DataFrame, *, index: bool = False) -> None:
    """Write a table as parquet atomically."""
    write(path, lambda temporary: table.to_parquet(temporary, index=index))


def write(path: Path, save: Callable[[Path], Any]) -> None:
    """Write any file atomically through `save`, which receives the path to write to."""
    with replacing(path) as temporary:
        save(temporary)
