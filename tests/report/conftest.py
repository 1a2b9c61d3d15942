"""One tiny finished run for all tests of the report."""

from __future__ import annotations

import pytest

import companysim as cs
from tests.report.world import made_run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> cs.Run:
    return made_run(tmp_path_factory.mktemp("report"))
