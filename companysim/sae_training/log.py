"""Where the loss curve is written: a CSV file beside the SAE, and TensorBoard if asked for."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from companysim.errors import ConfigError, RunError
from companysim.sae_training.trainer import Record
from companysim.workspace import write_csv

LOSS_CURVE = "loss.csv"
BOARD = "tensorboard"


class Log:
    """Appends records to ``loss.csv``.

    Parameters
    ----------
    folder : path
    tokens : int
        Where training begins or goes on: what an earlier run wrote behind that is dropped, since it comes again.
    tensorboard : bool
        Also write events for TensorBoard.

    Raises
    ------
    ConfigError
        If TensorBoard is wanted and not installed.
    RunError
        If the file cannot be written.
    """

    def __init__(self, folder: Path, tokens: int = 0, *, tensorboard: bool = False) -> None:
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ConfigError("TensorBoard is not installed: pip install tensorboard, or leave it out") from error
            self._board = SummaryWriter(str(folder / BOARD), purge_step=tokens + 1 if tokens else None)
        self._path = folder / LOSS_CURVE
        columns = [field.name for field in fields(Record)]
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            earlier = pd.read_csv(self._path) if tokens and self._path.is_file() else pd.DataFrame(columns=columns)
            write_csv(self._path, earlier[earlier["tokens"] <= tokens])

    def __call__(self, record: Record) -> None:
        """Write one record; raises `RunError` on a full disk."""
        with self._writing():
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(asdict(record).values())
            if self._board is not None:
                for name, value in asdict(record).items():
                    if name not in ("step", "tokens"):
                        self._board.add_scalar(name, value, record.tokens)
                self._board.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"cannot write {self._path} ({error.strerror}): free some space and run it again") from error
