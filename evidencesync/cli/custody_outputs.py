"""What `custody`, `timestamp`, `receipts` and `verify --record` print with `--json`, and how a chain is shown to people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from evidencesync.acquire.custody_exchange import ShownChain
from evidencesync.acquire.known_heads import code_of
from evidencesync.cli.lines import wrapped
from evidencesync.cli.outputs import Output, Problem, ShownRecord
from evidencesync.custody.documents import AcquisitionNumber, CustodyRecord, Fingerprint, VaultId
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.display import escape_line, person_text, safe_text
from evidencesync.evidence.entry import Count
from evidencesync.evidence.utc_time import UtcTime, format_utc_time
from evidencesync.exit_codes import ExitCode
from evidencesync.verify.checks import MEANINGS
from evidencesync.verify.findings import ByVault, Outcome, Verdict

_UNREAD: Final = frozenset({ExitCode.GAPS, ExitCode.INTERNAL, ExitCode.USAGE, ExitCode.NO_SPACE})
"""Of what is known of a chain: the disk or the system did not give it. That breaks no chain."""
_WHAT: Final = 300  # characters of a record's details in the table
_NAME: Final = 24  # of a person who has a column there; what a longer name did begins on the next line
Digest = Literal["sha256", "sha384", "sha512"]
Imprint = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$")]
"""A digest of `manifest.jsonl.sig`."""
Number = Annotated[str, msgspec.Meta(pattern="^-?[0-9]{1,160}$")]
"""An integer that is longer than JSON readers keep exactly."""


class KnownDetailOutput(Output, frozen=True):
    """What is known of the item under a name, and the number of the custody record that says so."""

    name: str
    value: str
    record: Count


class OpenHandOverOutput(Output, frozen=True):
    """A hand-over that nobody has accepted yet: by whom and to whom (principals), and its record's number."""

    record: Count
    principal: str
    to: str


class OpenSealOutput(Output, frozen=True):
    """A proposal to seal the item that nobody has consented to yet: its record's number, by whom, and when it lapses."""

    record: Count
    principal: str
    lapses: UtcTime


class CustodyProblem(Output, frozen=True):
    """A record that may not stand where it stands, by the number of the record. The slug is the one that `verify` uses."""

    record: Count
    slug: str
    message: str


class CustodyShowOutput(Output, frozen=True):
    """An item's custody chain. It holds together; whether its signers are trusted is for `verify`.

    `held_by` is the principal who accepted the item last, null before the first acceptance.
    """

    vault_id: VaultId
    case: str
    item: str
    sealed: bool
    held_by: str | None
    open_hand_over: OpenHandOverOutput | None
    open_seals: list[OpenSealOutput]
    known: list[KnownDetailOutput]
    problems: list[CustodyProblem]
    custody: list[ShownRecord]
    chain_head_sha256: HexDigest


class CustodyAppendOutput(Output, frozen=True):
    """A record that was appended, and its digest. `chain_head_sha256` is where the chain ended when the vault showed it."""

    vault_id: VaultId
    case: str
    item: str
    record: CustodyRecord
    sha256: HexDigest
    chain_head_sha256: HexDigest


class RecordedItem(Output, frozen=True):
    """What `verify --record` has recorded of one item: the item's own verdict, and the number of the record that says so.

    Where it could not be recorded, `record` is null, and the problem and its exit code say why.
    """

    case: str
    item: str
    verdict: Outcome
    exit_code: Count
    record: Count | None
    problem: Problem | None
    problem_code: Count | None


class RecordedVerdict(Verdict, frozen=True, omit_defaults=True):
    """A verdict, and where it was recorded. `by_vault`: of a vault on another machine alone."""

    recorded: list[RecordedItem]
    by_vault: ByVault | None = None


def show_output(chain: ShownChain) -> CustodyShowOutput:
    """A chain as a document."""
    history, handed = chain.history, chain.history.statements.pending
    return CustodyShowOutput(
        vault_id=chain.vault_id,
        case=chain.name.case.text,
        item=chain.name.item.text,
        sealed=history.facts().sealed,
        held_by=history.statements.held_by,
        open_hand_over=OpenHandOverOutput(handed.record, handed.principal, handed.to) if handed is not None else None,
        open_seals=[
            OpenSealOutput(one.record, one.principal, format_utc_time(one.lapses_ns))
            for one in history.statements.seals.pending.values()
            if time.time_ns() < one.lapses_ns
        ],
        known=[KnownDetailOutput(one.name, one.value, one.record) for one in history.known()],
        problems=[CustodyProblem(one.record, one.slug, one.text) for one in history.violations] + _against_memory(chain),
        custody=[ShownRecord(one.record, one.sha256) for one in chain.records],
        chain_head_sha256=chain.head_sha256 or "",
    )


def _against_memory(chain: ShownChain) -> list[CustodyProblem]:
    """That the chain is not what is known of it, or could not be compared with that; at its last record."""
    found = chain.inconsistency
    if found is None:
        return []
    other = "not-compared" if code_of(found) in _UNREAD else "chain-broken"
    slug = found.slug if found.slug in MEANINGS else other
    return [CustodyProblem(len(chain.records), slug, escape_line(found.message))]


def show_lines(output: CustodyShowOutput) -> Iterator[str]:
    """A chain for people: a table of its records, and what they add up to."""
    yield f"{safe_text(output.case)} / {safe_text(output.item)}   (times are UTC)"
    who = [person_text(one.record.actor.name, one.record.actor.principal, 40, 60) for one in output.custody]
    wide = max((len(name) for name in who if len(name) <= _NAME), default=0)
    for shown, name in zip(output.custody, who, strict=True):
        record = shown.record
        before = f"  {record.sequence:04}  {record.time[:19].replace('T', ' ')}  {record.type:<12}  "
        if len(name) <= wide:
            yield from wrapped(f"{before}{name:<{wide}}  ", record_text(record))
        else:
            yield from wrapped(before, name)
            yield from wrapped(" " * 8, record_text(record))
    for problem in output.problems:
        yield from wrapped("  WARNING       ", problem.message)
    for known in output.known:
        # An examiner chooses the name: it stands where no other line can be taken for it.
        yield from wrapped(
            "  detail        ", f"{safe_text(known.name)}: {safe_text(known.value, _WHAT)}  (record {known.record})"
        )
    if output.held_by is not None:
        yield f"  held by       {safe_text(output.held_by)}"
    if output.open_hand_over is not None:
        handed = output.open_hand_over
        who_to_whom = f"{safe_text(handed.principal)} to {safe_text(handed.to)}"
        yield from wrapped("  hand-over     ", f"open since record {handed.record}: {who_to_whom}")
    for one in output.open_seals:
        by = safe_text(one.principal, 80)
        yield from wrapped("  proposed      ", f"to seal it, in record {one.record} by {by}; open until {one.lapses}")
    yield f"  sealed        {'yes: no more acquisitions' if output.sealed else 'no'}"
    yield "  signatures    fit; whether their keys are trusted, only `evidencesync verify` says"
    yield f"  chain head    {output.chain_head_sha256}"


def record_text(record: CustodyRecord) -> str:
    """What a record says, in one line."""
    parts = [f"acquisition {record.acquisition}"] if record.acquisition is not None else []
    parts += [f"{safe_text(name)}: {safe_text(value)}" for name, value in record.details.items()]
    text = "; ".join(parts)
    return text if len(text) <= _WHAT else text[:_WHAT] + "…"


class KeptReceipt(Output, frozen=True):
    """One receipt; null where its documents cannot be read, which is then among the problems.

    `records` counts the custody records beside it that were found good. `examiner` is the key that signed manifest and
    `acquired` record, `principal` the name under which the vault trusted it. `times_contradict`: dates that cannot be true, each
    in a sentence; a warning, which is looked for by `receipts check` only.
    """

    folder: str
    vault_id: VaultId | None
    vault_key: Fingerprint | None
    case: str | None
    item: str | None
    acquisition: AcquisitionNumber | None
    received: UtcTime | None
    examiner: Fingerprint | None
    principal: str | None
    read_back: bool | None
    manifest_kept: bool
    records: Count
    manifest_sha256: HexDigest | None
    chain_head_sequence: Count | None
    chain_head_sha256: HexDigest | None
    problems: list[Problem]
    times_contradict: list[str]


class SeenHeadOutput(Output, frozen=True):
    """How far this machine has seen a chain; without case and item it is the vault's own."""

    vault_id: VaultId
    vault_key: Fingerprint
    case: str | None
    item: str | None
    sequence: Count
    sha256: HexDigest
    seen: UtcTime


class ReceiptsListOutput(Output, frozen=True):
    """What this machine keeps. Nothing of it is verified. `problems`: memories that cannot be read."""

    receipts: list[KeptReceipt]
    heads: list[SeenHeadOutput]
    problems: list[Problem]


class ReceiptsCheckOutput(Output, frozen=True):
    """The outcome of a check. `vault` is the vault that receipts were compared with, `trust` says whether signers were judged."""

    verdict: Literal["pass", "fail", "incomplete"]
    trust: Literal["not judged", "outside"]
    vault: str | None
    receipts: list[KeptReceipt]


class ForgetHeadOutput(Output, frozen=True):
    """How many chains were forgotten."""

    vault_id: VaultId
    case: str | None
    item: str | None
    forgotten: Count


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
