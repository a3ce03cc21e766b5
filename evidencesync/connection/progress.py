"""Holds the progress of a run: plain numbers that the working threads raise, and that a display reads at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.protocol.messages import Alike

Stage = Literal["connecting", "waiting", "reconnecting", "reading", "finishing", "syncing", "read-back", "publishing", "done"]


class Progress(msgspec.Struct):
    """Counters of one run. Each is written by one thread only, so that no lock is needed to read them.

    With `count_ahead` there is a display, and a folder is counted while it is being read: `total_files` and `total_bytes`, which
    has no holes, are None until they are known. In the stages after reading, `stage_done` of `stage_total` bytes are done.

    What is read runs ahead of what has arrived, by up to a window. Only `arrived_bytes` says how far a run is.
    """

    stage: Stage = "connecting"
    count_ahead: bool = False
    files: int = 0
    """How many files were read."""
    hole_bytes: int = 0
    """Bytes of holes: hashed, but neither read nor sent."""
    bad_bytes: int = 0
    """Bytes of files that could not be read, where others of the same file could."""
    missed_bytes: int = 0
    """Of `total_bytes`, those of files that could not be read at all."""
    stored_bytes: int = 0
    """Bytes of the source that the vault says it has stored, without runs of zeros."""
    known_bytes: int = 0
    """Of `stored_bytes`, those that the vault had already, so that they were not sent."""
    sent_bytes: int = 0
    """Of `stored_bytes`, those that were sent on the present link."""
    zero_bytes: int = 0
    """Bytes in runs of zeros, holes or not: they need not arrive."""
    received_bytes: int = 0
    """Bytes of content that the vault says it has received on the present link, stored or about to be."""
    pulled_bytes: int = 0
    """Bytes of content that have come from the source of a pull, also those that the vault has not received yet."""
    read_bytes: int | None = None
    """Bytes that have come from a source without an agent, where all of it travels; None where not all does."""
    link_bytes: int | None = None
    """Bytes that have arrived over the network in the direction of the vault; None where there is none, or nobody says so."""
    total_files: int | None = None
    total_bytes: int | None = None
    total_hole_bytes: int | None = None
    """Bytes of all holes, where they are counted with `total_bytes`."""
    is_total_unknown: bool = False
    """Whether nobody counts: a total will not be known before the end."""
    stage_done: int = 0
    stage_total: int = 0
    path: bytes = b""
    interruptions: int = 0
    events: Events = NO_EVENTS
    """Where it is told what happens, for a log for machines."""
    notify: Callable[[str], None] = lambda _line: None
    """Called with a line about an event of the run, such as a wait, for users without a display."""
    about_new_item: Callable[[Alike], None] = lambda _alike: None
    """Called before anything is sent, where a new item may be another spelling of one that the vault has. What it raises ends the
    run; it may take long, for it may ask a person."""

    def take_stored(self, stored_bytes: int, known_bytes: int, sent_bytes: int, zero_bytes: int) -> None:
        """Records how far the vault is."""
        self.stored_bytes, self.known_bytes, self.sent_bytes, self.zero_bytes = stored_bytes, known_bytes, sent_bytes, zero_bytes

    @property
    def arrived_bytes(self) -> int:
        """Bytes of the source that the vault has, stored or about to be. They are more where a lost link had brought others.

        Where all travels, what has come: the vault, which takes it in large parts, is on this machine.
        """
        if self.read_bytes is not None:
            return self.read_bytes
        return self.stored_bytes + max(self.received_bytes - self.sent_bytes, self.pulled_bytes - self.sent_bytes, 0)

    @property
    def spared_bytes(self) -> int:
        """Of `arrived_bytes`, those that did not have to travel: they come in a moment."""
        return 0 if self.read_bytes is not None else self.known_bytes

    def to_arrive(self, total_bytes: int) -> int:
        """Returns how many of all bytes will have to arrive, as far as it is known: neither holes nor zeros that were read.

        The count and the reading walk a source each by itself: what has gone in between may have been missed, and never counted.
        """
        if self.read_bytes is not None:
            return max(total_bytes - self.missed_bytes, self.read_bytes)
        return max(total_bytes - self.missed_bytes - max(self.zero_bytes - self.hole_bytes, 0), self.arrived_bytes)

    def lose_link(self) -> None:
        """Counts a link that was lost, and is to be made again."""
        self.interruptions += 1
        self.events.record("link-lost")

    def restart(self) -> None:
        """Resets the counters: the source is read again from its start."""
        self.stage = "connecting"
        self.files = self.hole_bytes = self.bad_bytes = self.missed_bytes = 0
        self.stored_bytes = self.known_bytes = self.sent_bytes = self.zero_bytes = 0
        self.received_bytes = self.pulled_bytes = 0
        self.read_bytes = None
