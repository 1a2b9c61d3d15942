"""Named errors a user can act on.

Every error that bad input can cause derives from `CompanySimError`. Its message is one sentence that says
what is wrong, where (file, column, row) and what to do; the command line prints it and exits with code 2.
"""

from __future__ import annotations


def counted(count: int, one: str, many: str) -> str:
    """Count things in words: ``1 company``, ``1,500 companies``."""
    return f"{count:,} {one if count == 1 else many}"


class CompanySimError(Exception):
    """Base of every error caused by input, configuration or surroundings rather than by a bug."""


class ConfigError(CompanySimError):
    """A configuration file has an unknown key or an impossible value."""


class DataError(CompanySimError):
    """A table is missing, empty or holds values that cannot be used."""


class UnknownTickerError(CompanySimError):
    """A ticker is not part of the run."""


class WeightsError(CompanySimError):
    """Model weights cannot be fetched, do not verify, or do not fit what they are used for."""


class NotFiniteError(WeightsError):
    """A model's activations overflow or are not numbers."""


class RunError(CompanySimError):
    """A run directory is missing, incomplete or held by another process."""


class ServiceError(CompanySimError):
    """A service the user named cannot be reached, refuses, or answers nonsense."""
