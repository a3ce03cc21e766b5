"""What a report says of captures: contents that were read once, out of a pipe."""

from __future__ import annotations

from collections.abc import Iterator

from evidencesync.custody.captures import lacking_words, origin_words
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import time_text
from evidencesync.report import texts
from evidencesync.report.blocks import AnyBlock, Fact, Facts, Paragraph
from evidencesync.report.document import CapturedFile, Contents, PathPair
from evidencesync.report.places import shown_path


def captured_facts(contents: Contents) -> Iterator[AnyBlock]:
    """Yields where each capture came from, when, and how it ended."""
    if contents.captured:
        yield Paragraph(texts.CAPTURED)
    for one in contents.captured:
        yield Facts(list(_facts(one)), f"Captured: {shown_path(one.file)}")


def lacking_captures(contents: Contents) -> dict[PathPair, str]:
    """The captures that did not come whole, and why: the one reason that is given wherever the report speaks of them."""
    found = ((one.file, safe_text(lacking_words(one.capture, one.size))) for one in contents.captured)
    return {file: why for file, why in found if why}


def _facts(one: CapturedFile) -> Iterator[Fact]:
    capture = one.capture
    yield Fact("From", safe_text(origin_words(capture)), exact=True)
    yield Fact("Read", f"from {time_text(capture.started)} to {time_text(capture.ended)}")
    yield Fact("Came", f"{one.size:,} bytes")
    if capture.exit_status is not None:
        yield Fact("Exit status of the command", str(capture.exit_status))
    yield Fact("End", safe_text(lacking_words(capture, one.size)) or "it came whole")
