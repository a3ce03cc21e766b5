"""What the commands of the group `timestamp` print with `--json`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from evidencesync.cli.outputs import Output, Problem
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count
from evidencesync.evidence.utc_time import UtcTime

Digest = Literal["sha256", "sha384", "sha512"]
Imprint = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$")]
"""A digest of `manifest.jsonl.sig`."""
Number = Annotated[str, msgspec.Meta(pattern="^-?[0-9]{1,160}$")]
"""An integer that is longer than JSON readers keep exactly."""


class TimestampRequestOutput(Output, frozen=True):
    """A request that was written to a file."""

    case: str
    item: str
    acquisition: AcquisitionNumber
    request: str
    request_sha256: HexDigest
    digest: Digest
    imprint: Imprint
    nonce: Number


class TokenOutput(Output, frozen=True):
    """What an authority says. `accuracy_seconds` is how far its time may be off, where it says so.

    `authority_checked`: the authority's certificate leads to one of the roots that were given.
    """

    gen_time: UtcTime
    accuracy_seconds: float | None
    authority: str
    policy: str
    serial: Number
    digest: Digest
    imprint: Imprint
    nonce: Number | None
    token_sha256: HexDigest
    request_sha256: HexDigest | None
    authority_checked: bool


class TimestampOutput(Output, frozen=True):
    """A timestamp that is in place, and the number and digest of the custody record that names it."""

    case: str
    item: str
    acquisition: AcquisitionNumber
    token: TokenOutput
    record: Count
    chain_head_sha256: HexDigest


class ShownTimestamp(Output, frozen=True):
    """One acquisition's timestamp: null where it has none, or a problem where it is not good.

    `record` is the number of the custody record about it; null without one.
    """

    acquisition: AcquisitionNumber
    token: TokenOutput | None
    record: Count | None
    problem: Problem | None


class TimestampShowOutput(Output, frozen=True):
    """The timestamps of an item's acquisitions."""

    case: str
    item: str
    acquisitions: list[ShownTimestamp]
