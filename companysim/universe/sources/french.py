"""Fama and French's factors from French's data library: the five factors and momentum, monthly or daily.

The library serves each data set as a zip of one CSV file. The CSV is kept as it is, so that it can be cited and read by
anything that reads the library's files (`companysim.benchmark.read_factors` does).
"""

from __future__ import annotations

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Literal

from companysim.universe.sources.http import Client
from companysim.workspace import remove_partial, write

LIBRARY = "https://mba.tuck.dartmouth.edu/pages/faculty/ken.french/ftp"
Frequency = Literal["monthly", "daily"]
FILES: dict[Frequency, tuple[str, ...]] = {
    "monthly": ("F-F_Research_Data_5_Factors_2x3", "F-F_Momentum_Factor"),
    "daily": ("F-F_Research_Data_5_Factors_2x3_daily", "F-F_Momentum_Factor_daily"),
}
USER_AGENT = "companysim"


def fetch_factors(
    folder: Path,
    frequency: Frequency = "monthly",
    *,
    library: str = LIBRARY,
    refresh: bool = False,
    client: Client | None = None,
) -> list[Path]:
    """Download the five factors and momentum, or what of them is not in the folder yet.

    Parameters
    ----------
    folder : path
        Where the library's CSV files are kept; each is written whole or not at all.
    frequency : {"monthly", "daily"}
    library : str
        Address of the folder of zip files.
    refresh : bool
        Fetch again what is there: the library adds months and revises old ones.
    client : Client, optional

    Returns
    -------
    list of path
        The CSV files: five factors, momentum.

    Raises
    ------
    DownloadError
        If the library does not answer, or not with a sound zip of one CSV file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder)
    paths = [folder / f"{name}.csv" for name in FILES[frequency]]
    with client or Client(USER_AGENT, per_second=1.0) as asking:
        for path in paths:
            if refresh or not path.is_file():
                content = asking.get(f"{library}/{path.stem}_CSV.zip", "zip", _csv)
                write(path, partial(_save, content))
    return paths


def _save(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _csv(content: bytes) -> bytes:
    """Content of the one CSV file in a zip file; ValueError if it is damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                raise ValueError(f"it holds {len(names)} CSV files and not one")
            return archive.read(names[0])
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"no sound zip file: {error}") from error
