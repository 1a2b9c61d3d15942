"""What commands that go on where they stopped say when they are stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

STOPPED = 130
"""Exit code of a command that Ctrl-C stopped: 128 and the number of the signal."""
P = ParamSpec("P")


def resumable(command: Callable[P, None]) -> Callable[P, None]:
    """Have a command say, when Ctrl-C stops it, that it resumes; Typer alone would end it in silence."""

    @wraps(command)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            typer.echo("stopped; run the same command again to resume", err=True)
            raise typer.Exit(STOPPED) from None

    return wrapped
