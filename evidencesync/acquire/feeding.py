"""What a source gives, on its way to the sending end."""

from __future__ import annotations

from evidencesync.acquire.reading import Item, PageRead, StreamBegun, StreamEnded
from evidencesync.delta.chunker import Segment
from evidencesync.protocol.sender import Sender


def feed(sender: Sender, item: Item) -> bool:
    """Hands one item to the sender; whether there will be more."""
    match item:
        case PageRead():
            sender.add_page(item.lines, item.contents)
        case Segment():
            sender.add_segment(item)
        case StreamBegun():
            sender.open_stream(item.size, item.path)
        case StreamEnded():
            sender.close_stream(item.size, item.blake3)
        case _:
            return False
    return True
