"""Checks timestamps, and compares the times that all parties state (check 12).

1. What the chain records is there, and what is there is recorded: the same bytes.  2. A token is in its strict form, its own
signature verifies, and it is over the manifest's signature.  3. It answers the request beside it.  4. A certificate path leads
from its authority to a given root, at the token's own time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from evidencesync.custody.documents import CustodyRecord, Receipt
from evidencesync.custody.manifest import ManifestReader
from evidencesync.custody.times import SECOND, AcquisitionTimes, Step, contradiction, measured_clocks
from evidencesync.errors import LimitExceededError, TimestampError
from evidencesync.evidence.utc_time import shown_time
from evidencesync.limits import MAX_TIMESTAMP
from evidencesync.vault.layout import MANIFEST_SIGNATURE, TIMESTAMP, TIMESTAMP_REQUEST
from evidencesync.verify.chains import ChainedAcquisition
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context
from evidencesync.verify.documents import CheckedFolder, read_document, reason
from evidencesync.verify.findings import Reporter

if TYPE_CHECKING:
    from evidencesync.custody.timestamp import Token

_BACK: Final = ": `timestamp attach` puts it back, if response and request were kept elsewhere"


@dataclass(frozen=True, slots=True)
class CheckedToken:
    """A token without any problem. `trusted`: a path led from its authority to a given root.

    `latest_ns` is `gen_time_ns`, and as much as the authority says that its clock may be slow: the upper bound that it proves.
    """

    gen_time_ns: int
    latest_ns: int
    trusted: bool


class Later(NamedTuple):
    """The chain's current records of an acquisition's timestamps, and whether a writer is adding to the item now."""

    records: tuple[CustodyRecord, ...]
    is_written: bool


@dataclass(frozen=True, slots=True)
class Stamps:
    """The chain's records of an acquisition's timestamps when it was read.

    `known`: whether all records could be read; an unread record is not reported as missing. `later` reads the chain on: a
    writer that attaches a timestamp puts its files in place first, and then its record into the chain.
    """

    records: tuple[CustodyRecord, ...]
    known: bool
    later: Callable[[], Later]


def check_timestamp(
    context: Context, folder: CheckedFolder, number: int, stamps: Stamps, stamped: bytes | None
) -> CheckedToken | None:
    """Checks the timestamp of an acquisition, if it has one; returns None where it has no valid one."""
    report = folder.report
    token: CheckedToken | None = None
    there = [name for name in (TIMESTAMP, TIMESTAMP_REQUEST) if name.encode() in folder.names]
    records, is_written = stamps.records, False
    if there and not records and stamps.known:
        records, is_written = stamps.later()
        for name in (TIMESTAMP, TIMESTAMP_REQUEST):
            if records and name not in there:
                folder.look_for(name)
    if is_written and not records:
        for name in there:
            text = f"no custody record names {name}: somebody writes to the item at this moment, and may attach it"
            report.report(Check.PUBLISHING, "unfinished-change", text, name)
    elif records or there:
        token = _check_files(context, folder, records, stamped, known=stamps.known)
    unread = any(report.is_unread(name) for name in (TIMESTAMP, TIMESTAMP_REQUEST, MANIFEST_SIGNATURE))
    if context.require_timestamp and (token is None or not token.trusted) and not unread:
        report.report(
            Check.TIME, "no-timestamp", f"acquisition {number} has no timestamp by a trusted authority", MANIFEST_SIGNATURE
        )
    return token


def check_times(
    report: Reporter,
    chained: ChainedAcquisition | None,
    before: ChainedAcquisition | None,
    listed: ManifestReader,
    receipt: Receipt | None,
    token: CheckedToken | None,
) -> None:
    """Warns where a later step is dated earlier than the one before it, or implausibly late.

    `before` is the acquisition before this one in its chain. The times of signatures are those that the chain states.
    """
    times = msgspec.structs.replace(
        AcquisitionTimes.of(listed.header, listed.footer, receipt=receipt),
        signed_ns=chained.acquired_at if chained is not None else None,
        received_ns=chained.received_at if chained is not None else None,
    )
    if chained is not None and before is not None:
        for did, earlier, later in (
            ("the examiner signed", before.acquired_at, chained.acquired_at),
            ("the vault received", before.received_at, chained.received_at),
        ):
            _warn(report, contradiction(Step(f"{did} the acquisition before", earlier), Step(f"{did} this one", later)))
    measured = measured_clocks(listed.header)
    for text in times.contradictions(measured):
        _warn(report, text)
    if token is None:
        return
    made = Step("the timestamp was made", token.latest_ns)
    for did, at in (("the examiner signed", times.signed_ns), ("the vault received", times.received_ns)):
        _warn(report, contradiction(Step(did, at), made), measured)


def _warn(report: Reporter, text: str | None, more: str = "") -> None:
    if text is not None:
        report.report(Check.TIME, "times-contradict", text + more)


def _check_files(
    context: Context, folder: CheckedFolder, records: tuple[CustodyRecord, ...], stamped: bytes | None, *, known: bool
) -> CheckedToken | None:
    from evidencesync.custody.timestamp import Request, Token, timestamp_details  # slow to import, and seldom needed

    report = folder.report
    response, request = (_load(folder, name) for name in (TIMESTAMP, TIMESTAMP_REQUEST))
    sound = _check_there(folder, records, response, request, known=known)  # 1
    if response is None:
        return None
    try:
        token = Token.decode(response)  # 2
        if stamped is None:
            report.report(Check.TIME, "not-compared", f"{TIMESTAMP} is over a signature that cannot be read", TIMESTAMP)
            return None
        token.check_stamped(stamped)
    except TimestampError as error:
        report.report(Check.TIME, "bad-timestamp", f"{TIMESTAMP}: {error.message}", TIMESTAMP)
        return None
    try:
        if request is not None:
            token.check_answers(Request.decode(request))  # 3
    except TimestampError as error:
        report.report(Check.TIME, "bad-timestamp", f"{TIMESTAMP_REQUEST}: {error.message}", TIMESTAMP_REQUEST)
        sound = False
    if report.is_unread(TIMESTAMP_REQUEST):
        return None  # its content cannot be compared with the records
    details, missing = timestamp_details(token, response, request), set[str]()
    if request is None:
        missing = {"request_sha256"}  # reported already; the response is compared all the same
    sound = _check_records(report, records, details, missing) and sound  # 1
    return _check_authority(context, report, token) if sound else None  # 4


def _load(folder: CheckedFolder, name: str) -> bytes | None:
    """Reads one of the files, if it is there. None after a finding as well."""
    file = folder.open(name) if name.encode() in folder.names else None
    if file is None:
        return None
    with file:
        try:
            return read_document(file, MAX_TIMESTAMP)
        except OSError as error:
            folder.report.report(Check.STRUCTURE, "unreadable", f"{name}: {reason(error)}", name)
        except LimitExceededError:
            folder.report.report(Check.TIME, "bad-timestamp", f"{name} is longer than {MAX_TIMESTAMP} bytes", name)
    return None


def _check_there(
    folder: CheckedFolder,
    records: tuple[CustodyRecord, ...],
    response: bytes | None,
    request: bytes | None,
    *,
    known: bool,
) -> bool:
    """Whether files and records match: each is there if the other is."""
    report = folder.report
    recorded = {TIMESTAMP: bool(records), TIMESTAMP_REQUEST: any("request_sha256" in one.details for one in records)}
    sound = True
    for name, data in ((TIMESTAMP, response), (TIMESTAMP_REQUEST, request)):
        there = name.encode() in folder.names
        if recorded[name] and not there and folder.listed and folder.look_for(name) is None:
            report.report(Check.TIME, "missing-timestamp", f"the custody chain records {name}, which is not there{_BACK}", name)
        elif there and not recorded[name] and known:
            text = f"no custody record names {name}; if attaching it was cut short, run the same command again"
            report.report(Check.TIME, "timestamp-not-recorded", text, name)
        sound = sound and there == recorded[name] and (data is not None) == there
    return sound


def _check_records(report: Reporter, records: tuple[CustodyRecord, ...], details: dict[str, str], missing: set[str]) -> bool:
    """Whether every record about the token names it, and states what the token states; but for what is `missing`."""
    differing = []
    for record in records:
        keys = (details.keys() | record.details) - missing
        wrong = ", ".join(sorted(key for key in keys if details.get(key) != record.details.get(key)))
        if not wrong:
            continue
        differing.append(record)
        text = f"custody record {record.sequence} is about another timestamp than {TIMESTAMP}: {wrong}"
        report.report(Check.TIME, "timestamp-differs", text, TIMESTAMP)
    return not differing


def _check_authority(context: Context, report: Reporter, token: Token) -> CheckedToken | None:
    exact = "" if not token.accuracy_ns else f", give or take {token.accuracy_ns / SECOND:g} s"
    said = f"{token.authority} says that the manifest's signature existed at {shown_time(token.gen_time_ns)}{exact}"
    if context.roots is None:
        text = f"{said}; whether that is so, and who says it, was not checked"
        report.report(Check.TIME, "authority-not-checked", text, TIMESTAMP)
        return CheckedToken(token.gen_time_ns, token.latest_ns, trusted=False)
    try:
        context.roots.check(token)  # 4
    except TimestampError as error:
        report.report(Check.TIME, "untrusted-authority", f"{TIMESTAMP}: {error.message}", TIMESTAMP)
        return None
    report.report(Check.TIME, "timestamp", f"{said}, number {token.serial} under {token.policy}", TIMESTAMP)
    return CheckedToken(token.gen_time_ns, token.latest_ns, trusted=True)
