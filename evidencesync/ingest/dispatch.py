"""Passes what arrives in a transfer to what handles it: pages and small contents, or the streams of larger ones."""

from __future__ import annotations

from evidencesync.errors import InternalError
from evidencesync.ingest.pages import PageIntake
from evidencesync.ingest.streams import StreamIntake
from evidencesync.protocol.receiver import (
    ChunksArrived,
    ChunksListed,
    Event,
    FilesArrived,
    PageArrived,
    PageNamed,
    PiecesListed,
    SegmentArrived,
    SegmentNamed,
    StreamClosed,
    StreamKept,
    StreamOpened,
    StreamResembles,
)


def dispatch(event: Event, streams: StreamIntake, pages: PageIntake) -> None:
    """Passes an event to its intake. A page may have waited for the content that a stream completes."""
    match event:
        case PageNamed():
            pages.on_named(event)
        case PageArrived():
            pages.on_arrived(event)
        case FilesArrived():
            pages.on_files(event)
        case StreamOpened():
            streams.on_opened(event)
        case SegmentNamed():
            streams.on_named(event)
        case ChunksListed():
            streams.on_listed(event)
        case StreamResembles():
            streams.on_resembles(event)
        case PiecesListed():
            streams.on_pieces(event)
        case SegmentArrived():
            streams.on_segment(event)
        case ChunksArrived():
            streams.on_chunks(event)
            pages.advance()
        case StreamClosed() | StreamKept():
            streams.on_closed(event)
            pages.advance()
        case _:
            raise InternalError("an event without an intake")
