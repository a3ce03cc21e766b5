"""Writes a report in one of its three forms."""

from __future__ import annotations

from typing import Literal

from evidencesync.report.compose import compose
from evidencesync.report.gather import Gathered
from evidencesync.report.html_report import write_html
from evidencesync.report.json_report import write_json
from evidencesync.report.pdf_report import write_pdf
from evidencesync.report.sink import Sink


def write_report(gathered: Gathered, kind: Literal["html", "pdf", "json"], out: Sink) -> None:
    """Writes the whole report. Raises MissingPartError where its form needs what is not installed, and OSError."""
    if kind == "json":
        write_json(gathered, out)
        return
    pages = compose(gathered.report)
    (write_html if kind == "html" else write_pdf)(gathered, pages, out)
