"""Scripts of the repository as modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def repository_script(path: str) -> ModuleType:
    """Import a script by its place in the repository; the folder stays importable, since scripts import each other.

    Skips the test, or the module that asks while it is imported, where the package is tested without the repository.
    """
    place = ROOT / path
    if not place.is_file():
        pytest.skip(f"{path} is part of the repository, not of the package", allow_module_level=True)
    if str(place.parent) not in sys.path:
        sys.path.insert(0, str(place.parent))
    return importlib.import_module(place.stem)
