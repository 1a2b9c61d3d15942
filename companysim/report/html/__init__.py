"""The report of a run: one self-contained HTML file to look at, search and pass on."""

from companysim.report.html.page import write_report

__all__ = ["write_report"]
