"""
A verification result as an HTML page, as JUnit XML and as Markdown for a pipeline's summary.

Pure functions of the result object: the same result gives the same bytes. Nothing is compared,
read or written here.
"""

from __future__ import annotations

from migrate.ops.report.page import html
from migrate.ops.report.steps import summary
from migrate.ops.report.xunit import junit

__all__ = ["html", "junit", "summary"]
