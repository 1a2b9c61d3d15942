"""Company similarity from language-model latents.

>>> import companysim as cs
>>> run = cs.run("sample")          # doctest: +SKIP
>>> run.peers("AAPL")               # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from companysim.errors import CompanySimError

if TYPE_CHECKING:
    from companysim.config import RunConfig, load_config
    from companysim.pipeline import run
    from companysim.results import Run

__version__ = "0.1.0"
__all__ = ["CompanySimError", "Run", "RunConfig", "load_config", "run"]

_HOMES = {"Run": "results", "RunConfig": "config", "load_config": "config", "run": "pipeline"}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that ``import companysim`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'companysim' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"companysim.{_HOMES[name]}"), name)
