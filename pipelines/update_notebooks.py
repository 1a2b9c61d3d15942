"""Run the notebooks and store what they print, so that every figure in them comes from the sample run.

Usage: ``python pipelines/update_notebooks.py [NAME ...]`` after ``make run``; all of ``notebooks/`` without a name.
``COMPANYSIM_RUN`` names another run directory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
TIMEOUT = 600
"""Seconds a cell may take: a hang, not a speed claim."""


def executed(path: Path, run: Path | None = None) -> nbformat.NotebookNode:
    """Run a notebook in its own folder, with this checkout of the package, and return it with its outputs.

    Parameters
    ----------
    path : Path
    run : Path, optional
        Finished run the notebook opens; without it, what ``COMPANYSIM_RUN`` names, or the sample run in ``runs/``.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    path_of_package = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path_of_package}
    if run is not None:
        environment |= {"COMPANYSIM_RUN": str(run.absolute())}
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=TIMEOUT,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=environment)
    return notebook


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out what changes from run to run without meaning anything, and what goes to the error stream."""
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.pop("metadata", None)
                if "data" in output:
                    output.metadata = {}
    return notebook


def main(names: Sequence[str]) -> None:
    """Run the notebooks of these names, or all, and write them with their outputs."""
    for path in [NOTEBOOKS / name for name in names] or sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = executed(path)
        nbformat.write(tidied(notebook), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
