"""Transfers that are under way in a vault, or wait for their sender: as JSON and for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from evidencesync.cli.outputs import TransferOutput
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_moment

if TYPE_CHECKING:
    from evidencesync.ingest.occupants import Transfer


def transfer_outputs(transfers: Sequence[Transfer]) -> list[TransferOutput]:
    """What is known of each. It comes from processes of the vault's own user, which had it from their senders."""
    return [_output(one) for one in transfers]


def transfer_lines(transfers: Sequence[TransferOutput], how_to_end: str = "") -> Iterator[str]:
    """Which item, since when, by whom; and how a transfer that waits is ended."""
    for one in transfers:
        who = f"by {one.principal} with {one.key}, from {one.received_from}, process {one.process}"
        yield f"{one.case}/{one.item}  {one.session}  {_STATES[one.state]} since {_shown(one.since)}, {who}"
        if one.ends is not None:
            yield f"  it ends by itself at {_shown(one.ends)}" + (f"; to end it now: {how_to_end}" if how_to_end else "")


_STATES = {
    "receiving": "is being received",
    "waiting": "waits for its sender, whose link was lost,",
    "finishing": "has everything, and is read back and published",
}


def _output(one: Transfer) -> TransferOutput:
    said = one.occupant
    return TransferOutput(
        case=one.case,
        item=one.item,
        session=one.session,
        state=said.state,
        since=format_moment(said.since_ns),
        ends=None if said.ends_ns is None else format_moment(said.ends_ns),
        principal=safe_text(said.principal, 200),
        key=safe_text(said.key, 100),
        received_from=safe_text(said.received_from, 200),
        process=said.process,
    )


def _shown(moment: str) -> str:
    return f"{moment[:19].replace('T', ' ')} UTC"
