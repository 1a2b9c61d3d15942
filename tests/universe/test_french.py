"""The data library on a real web server: files of its shape, cached whole, faults said."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from companysim.benchmark import read_factors
from companysim.cli_data_factors import factors
from companysim.errors import DataError
from companysim.universe.sources.french import FILES, fetch_factors
from companysim.universe.sources.http import Client
from tests.loopback import Answer, Loopback

FIVE = (
    "Made up for a test.\n\n,Mkt-RF,SMB,HML,RMW,CMA,RF\n{0},1.0,-0.5,0.2,0.1,0.3,0.02\n{1},-2.0,0.5,0.1,0.0,0.1,0.01\n"
)
MOMENTUM = "Made up too.\n\n,Mom\n{0},0.7\n{1},-99.99\n{2},0.1\n"
DATES = {"monthly": ("201001", "201002", "201003"), "daily": ("20100104", "20100105", "20100106")}
YEARS = "\n Annual Factors: January-December\n,Mkt-RF,SMB,HML,RMW,CMA,RF\n2010,1,1,1,1,1,1\n"


def packed(text: str, name: str = "a.CSV") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return stream.getvalue()


def path_of(name: str) -> str:
    return f"/{name}_CSV.zip"


@pytest.fixture
def library() -> Iterator[Loopback]:
    with Loopback() as server:
        for frequency, dates in DATES.items():
            five, momentum = FILES[frequency]  # type: ignore[index]
            for name, text in ((five, FIVE + YEARS * (frequency == "monthly")), (momentum, MOMENTUM)):
                server.answers[path_of(name)] = Answer(packed(text.format(*dates)), "application/x-zip-compressed")
        yield server


def client() -> Client:
    return Client("companysim tests", per_second=1000, attempts=3, wait=0.01)


@pytest.mark.parametrize("frequency", ["monthly", "daily"])
def test_five_factors_and_momentum_arrive_and_stay(library: Loopback, tmp_path: Path, frequency: str) -> None:
    paths = fetch_factors(tmp_path, frequency, library=library.url, client=client())  # type: ignore[arg-type]
    found = read_factors(*paths)
    day = pd.Timestamp("2010-01-31" if frequency == "monthly" else "2010-01-04")
    assert found.returns.columns.tolist() == ["Mkt-RF", "SMB", "HML", "RMW", "CMA", "Mom"]
    assert found.returns.index.tolist() == [day]  # momentum is missing in the second period, the third has only it
    np.testing.assert_allclose(found.returns.iloc[0], [0.01, -0.005, 0.002, 0.001, 0.003, 0.007])
    assert found.risk_free.iloc[0] == pytest.approx(0.0002)
    asked = len(library.asked)
    assert fetch_factors(tmp_path, frequency, library=library.url, client=client()) == paths  # type: ignore[arg-type]
    assert len(library.asked) == asked
    fetch_factors(tmp_path, frequency, library=library.url, refresh=True, client=client())  # type: ignore[arg-type]
    assert len(library.asked) == asked + 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Answer(b"slow down", status=429), "answered 429"),
        (Answer(b"busy", status=503), "answered 503"),
        (Answer(packed(FIVE), "application/zip", short=20), "broke off"),
        (Answer(b"<html>moved</html>", "text/html"), "text/html instead of zip"),
        (Answer(packed(FIVE)[:-40], "application/zip"), "no sound zip file"),
        (Answer(packed(FIVE, "a.txt"), "application/zip"), "holds 0 CSV files"),
    ],
)
def test_faults_are_waited_out_or_said_and_never_cached(
    library: Loopback, tmp_path: Path, fault: Answer, words: str
) -> None:
    path = path_of(FILES["monthly"][0])
    library.faults[path] = [fault]
    assert len(fetch_factors(tmp_path / "first", library=library.url, client=client())) == 2
    library.faults[path] = [fault] * 9
    with pytest.raises(DataError) as caught:
        fetch_factors(tmp_path / "second", library=library.url, client=client())
    assert words in str(caught.value)
    assert path in str(caught.value)
    assert list((tmp_path / "second").iterdir()) == []


def test_a_library_that_is_none_is_said_at_once(library: Loopback, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="404"):
        fetch_factors(tmp_path, library=f"{library.url}/elsewhere", client=client())


def test_the_command_writes_decimals_that_the_benchmark_reads(library: Loopback, tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(factors)
    result = CliRunner().invoke(app, ["--library", library.url, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "read as percent" in result.output
    table = pd.read_parquet(tmp_path / "factors.parquet")
    assert table.columns.tolist() == ["date", "Mkt-RF", "SMB", "HML", "RMW", "CMA", "Mom", "RF"]
    again = read_factors(tmp_path / "factors.parquet", unit="decimal")
    assert again.returns["Mkt-RF"].iloc[0] == pytest.approx(0.01)
    local = CliRunner().invoke(app, ["--from-file", str(tmp_path / "factors.parquet"), "--out", str(tmp_path / "b")])
    assert local.exit_code == 0, local.output
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "b/factors.parquet"), table)
