"""Ctrl-C as a terminal sends it."""

from __future__ import annotations

import signal


def interruptible() -> None:
    """Undo, in a new process, what a shell does to those it starts in the background: Ctrl-C would be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
