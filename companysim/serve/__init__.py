"""A local page over finished runs: search companies, read and download tables, compare runs, open the report."""

from companysim.serve.app import application
from companysim.serve.database import Tables
from companysim.serve.server import find_runs, listen

__all__ = ["Tables", "application", "find_runs", "listen"]
