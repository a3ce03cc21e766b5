"""Finds contradictions between the times that an acquisition's documents state.

Each signer uses the clock of their own machine. So an impossible time is never an error, and no evidence is refused for it. But
it is reported: by the push that gets such a receipt, by a later check of the receipt, and by `verify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from evidencesync.custody.documents import CustodyRecord, ManifestFooter, ManifestHeader, Receipt
from evidencesync.evidence.number_format import duration_text, seconds_text
from evidencesync.evidence.utc_time import parse_utc_time, shown_time

SECOND: Final = 1_000_000_000
BACKWARDS: Final = 600 * SECOND
"""How much earlier than the step before it a step may be dated."""
_LONGEST_RECEIPT: Final = 2 * 86_400 * SECOND  # from the examiner's signature to the vault's: reading back a few TiB
_SMALLEST_DIFFERENCE: Final = 1  # seconds: less is a round trip and a start, not a difference of clocks
_DIFFERENCE_IN_SECONDS: Final = 60  # a larger one is told in minutes and hours


class Step(NamedTuple):
    """A step of an acquisition and its time (nanoseconds since the epoch); None where no document states it."""

    did: str
    at_ns: int | None


def contradiction(first: Step, then: Step, longest: int | None = None) -> str | None:
    """Describes what is wrong where `then` is dated before `first`, or implausibly late; None where both times are possible."""
    if first.at_ns is None or then.at_ns is None:
        return None
    apart = then.at_ns - first.at_ns
    if apart >= -BACKWARDS and (longest is None or apart <= longest):
        return None
    way = "earlier" if apart < 0 else "later"
    dated = f"{first.did} at {shown_time(first.at_ns)}, {then.did} at {shown_time(then.at_ns)}"
    return f"{dated}: {duration_text(abs(apart) / SECOND)} {way}"


class AcquisitionTimes(msgspec.Struct, frozen=True):
    """The times that an acquisition's documents state; None for a document that is missing. Nanoseconds since the epoch.

    The times of reading and `signed` are by the clock of the machine that signed, `received` and `receipt` by that of the vault,
    which signs its `received` record and its receipt at the same time.
    """

    began_ns: int | None = None
    ended_ns: int | None = None
    signed_ns: int | None = None
    received_ns: int | None = None
    receipt_ns: int | None = None

    @classmethod
    def of(
        cls,
        header: ManifestHeader | None = None,
        footer: ManifestFooter | None = None,
        acquired: CustodyRecord | None = None,
        received: CustodyRecord | None = None,
        receipt: Receipt | None = None,
    ) -> AcquisitionTimes:
        """Collects the times from the documents."""
        return cls(
            None if header is None else parse_utc_time(header.started),
            None if footer is None else parse_utc_time(footer.finished),
            None if acquired is None else parse_utc_time(acquired.time),
            None if received is None else parse_utc_time(received.time),
            None if receipt is None else parse_utc_time(receipt.finished),
        )

    def contradictions(self, measured: str = "") -> Iterator[str]:
        """Yields each contradiction as a sentence. `measured`: what is known of the two clocks, added where both are compared."""
        signed, received = Step("the examiner signed", self.signed_ns), Step("the vault received", self.received_ns)
        receipt = Step("the vault's receipt is dated", self.receipt_ns)
        began, ended = Step("the reading began", self.began_ns), Step("the reading ended", self.ended_ns)
        for first, then, longest, more in (
            (began, ended, None, ""),
            (ended, signed, None, ""),
            (signed, received, _LONGEST_RECEIPT, measured),
            (received, receipt, BACKWARDS, ""),
        ):
            found = contradiction(first, then, longest)
            if found is not None:
                yield found + more

    def of_the_future(self, here: Step) -> Iterator[str]:
        """Yields each time of the vault that is later than the step `here` on this machine."""
        for step in (Step("the vault received", self.received_ns), Step("the vault's receipt is dated", self.receipt_ns)):
            found = contradiction(step, here)
            if found is not None:
                yield found


def clock_difference(header: ManifestHeader) -> str | None:
    """Describes how far the other machine's clock was off, as far as that is known; None where the manifest does not state it.

    The time between question and answer is in what the manifest states, and a program's start is in that: so it is rounded.
    """
    if header.clock.peer_offset_seconds is None:
        return None
    offset = float(header.clock.peer_offset_seconds)
    whose, apart = "source" if header.direction == "pull" else "vault", abs(offset)
    if apart < _SMALLEST_DIFFERENCE:
        return f"no difference from the {whose}'s clock that could be measured (under {seconds_text(_SMALLEST_DIFFERENCE)})"
    far = duration_text(apart) if apart >= _DIFFERENCE_IN_SECONDS else seconds_text(round(apart, 1))
    return f"the {whose}'s clock was about {far} {'behind' if offset < 0 else 'ahead'}"


def measured_clocks(header: ManifestHeader | None) -> str:
    """Returns what a manifest states of the other machine's clock, to be added to a sentence; empty where it states nothing."""
    difference = clock_difference(header) if header is not None else None
    return f"; {difference}, as the manifest says" if difference is not None else ""
