"""Prints the events of a watch, one line each, and its summary at the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from evidencesync.cli.outputs import ChangesOutput, ErrorDetail, NotebookFingerprint, Output, PushVerdict, error_output
from evidencesync.cli.summary import changed_text, changes_output, verdict_of
from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.custody.documents import AcquisitionNumber, Earlier, VaultId
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Count
from evidencesync.evidence.number_format import count_text, duration_text, notebook_fingerprint, size_text, time_text
from evidencesync.evidence.utc_time import UtcTime, format_utc_time

if TYPE_CHECKING:
    from evidencesync.acquire.request import PushOutcome
    from evidencesync.cli.console import Console
    from evidencesync.errors import EvidenceSyncError
    from evidencesync.evidence.identity import ItemName
    from evidencesync.localstate.receipts import FinishedReceipt
    from evidencesync.source.changes import SourceSnapshot

MOST_LISTED = 1000
"""Acquisitions that a watch remembers; with 96 a day that is ten days."""


class WatchedAcquisition(Output, frozen=True):
    """One acquisition that a watch has made. `seconds` is what the push took; `receipts` where its documents are kept."""

    acquisition: AcquisitionNumber
    published: UtcTime
    verdict: PushVerdict
    files: Count
    bytes: Count
    wire_sent: Count
    seconds: float
    flags: dict[str, Count]
    manifest_sha256: HexDigest
    receipt_sha256: HexDigest
    chain_head_sha256: HexDigest
    fingerprint: NotebookFingerprint
    receipts: str
    changes: ChangesOutput | None
    earlier: Earlier | None = None


class WatchOutput(Output, frozen=True):
    """What a watch has done, printed when it ends. `made` counts its acquisitions, `acquisitions` lists the last 1000 of them.

    `failures` counts pushes that failed. `all_in_vault`: the last look at the source has seen what was pushed before. `error` is
    null where the watch was ended while nothing was left to do.
    """

    case: str
    item: str
    vault_id: VaultId | None
    started: UtcTime
    ended: UtcTime
    made: Count
    failures: Count
    all_in_vault: bool
    acquisitions: Annotated[list[WatchedAcquisition], msgspec.Meta(max_length=MOST_LISTED)]
    error: ErrorDetail | None


_VERDICTS: Final = {"complete": "complete", "gaps": "WITH GAPS", "source-changed": "SOURCE CHANGED"}


class WatchEvents:
    """Prints events, and remembers the last acquisitions for the summary. A `Listener` for the loop."""

    def __init__(self, console: Console, name: ItemName, told: Events = NO_EVENTS) -> None:
        """`told`: where a log for machines gets what happens between two pushes."""
        self._told = told
        self._console = console
        self._name = name
        self._started = time.time_ns()
        self._began = time.monotonic()
        self._last: deque[WatchedAcquisition] = deque(maxlen=MOST_LISTED)
        self._made = self._failures = self._traces = 0
        self._vault_id: str | None = None
        self._lacks: str | None = None
        self._contradictions: list[str] = []
        self._since = self._day = ""

    @property
    def last(self) -> WatchedAcquisition | None:
        """The last acquisition of this watch."""
        return self._last[-1] if self._last else None

    def print_event(self, text: str) -> None:
        """Prints an event."""
        self._print_day(self._console.print_message)
        self._console.print_message(f"{_now()[11:19]}  {text}")

    def print_warning(self, text: str) -> None:
        """Prints an event that `--quiet` does not drop."""
        self._print_day(self._console.print_notice)
        self._console.print_notice(f"{_now()[11:19]}  {text}")

    def _print_day(self, show: Callable[[str], None]) -> None:
        """Prints the date before the first event of a day: with each event stands its time alone."""
        day = _now()[:10]
        if day != self._day:
            self._day = day
            show(f"{day}  (times are UTC)")

    def unchanged(self) -> None:
        """See Listener."""
        self._told.record("unchanged")
        self.print_event("unchanged since it was last pushed from here; waiting for a change")

    def changed(self, snapshot: SourceSnapshot) -> None:
        """See Listener."""
        seen = count_text(snapshot.entries, "entry", "entries")
        self.print_event(f"to be pushed: {'changed again' if self._made else 'new or changed'}, {seen} in all")
        if snapshot.traces and not self._traces:
            self._traces = snapshot.traces
            self.print_warning(
                f"the system does not let folders be listed without a trace here: access times of {snapshot.traces} may change"
            )

    def gone(self) -> None:
        """See Listener."""
        self._told.record("waiting", message="the source is not there")
        self.print_warning("the source is not there; waiting for it")

    def back(self) -> None:
        """See Listener."""
        self.print_event("the source is there again")

    def failed(self, error: EvidenceSyncError, pause: float) -> None:
        """See Listener."""
        self._failures += 1
        self._told.record("refused", code=int(error.exit_code), slug=error.slug, message=error.message)
        advice = error.hint_for(self._console.kind)
        hint = f" ({advice})" if advice and self._failures == 1 else ""
        code = int(error.exit_code)
        self.print_warning(f"push failed [{code} {error.slug}]: {error.message}{hint}; next attempt in {duration_text(pause)}")

    def record(self, outcome: PushOutcome, kept: FinishedReceipt) -> None:
        """Remembers a published acquisition. `pushed` prints it."""
        self._last.append(_acquisition(outcome, kept))
        self._made += 1
        self._vault_id = outcome.vault_id
        self._lacks = kept.lacks
        self._contradictions = outcome.contradictions
        self._since = f"; {changed_text(outcome.changes) or 'nothing changed'}" if outcome.changes is not None else ""

    def pushed(self) -> None:
        """See Listener."""
        made = self._last[-1]
        flags = "".join(f", {count} {flag}" for flag, count in made.flags.items())
        spared = f" ({count_text(made.earlier.files, 'file')} not read again)" if made.earlier is not None else ""
        show = self.print_event if made.verdict == "complete" else self.print_warning
        show(
            f"acquisition {made.acquisition}: published, {_VERDICTS[made.verdict]}{flags}{self._since}; "
            f"{count_text(made.files, 'file')}, {size_text(made.bytes)}{spared}; {size_text(made.wire_sent)} sent "
            f"in {duration_text(made.seconds)}"
        )
        show(f"  fingerprint {made.fingerprint}")
        if self._lacks is not None:
            self.print_warning(f"its receipt is kept without the manifest and the vault's records: {safe_text(self._lacks, 200)}")
        for text in self._contradictions:
            self.print_warning(safe_text(text, 300))

    def finish(self, error: EvidenceSyncError | None, *, all_in_vault: bool) -> None:
        """Prints the summary on stdout, and the error that has ended the watch."""
        output = WatchOutput(
            case=self._name.case.text,
            item=self._name.item.text,
            vault_id=self._vault_id,
            started=format_utc_time(self._started),
            ended=_now(),
            made=self._made,
            failures=self._failures,
            all_in_vault=all_in_vault,
            acquisitions=list(self._last),
            error=error_output(error, self._console.kind).error if error is not None else None,
        )
        self._console.print_result(output, self._lines(output))
        if error is not None:
            self._told.record("refused", code=int(error.exit_code), slug=error.slug, message=error.message)
        if error is not None and not self._console.as_json:
            self._console.print_error(error)

    def _lines(self, output: WatchOutput) -> Iterator[str]:
        watched = duration_text(time.monotonic() - self._began)
        failed = f", {count_text(output.failures, 'push', 'pushes')} failed" if output.failures else ""
        yield f"{self._name}: watched for {watched}, {count_text(output.made, 'acquisition')} made{failed}"
        if (last := self.last) is not None:
            yield f"  last         acquisition {last.acquisition}, {_VERDICTS[last.verdict]}, {time_text(last.published)}"
            yield f"  fingerprint  {last.fingerprint}"
            yield f"  chain head   {last.chain_head_sha256}"
            yield f"  receipt      {last.receipts}"
        yield f"  in vault     {'all that was seen' if output.all_in_vault else 'NOT what was seen last'}"


def _acquisition(outcome: PushOutcome, kept: FinishedReceipt) -> WatchedAcquisition:
    tally = outcome.tally.manifest
    return WatchedAcquisition(
        acquisition=outcome.acquisition,
        published=_now(),
        verdict=verdict_of(outcome),
        files=tally.contents,
        bytes=tally.bytes,
        wire_sent=outcome.wire_sent,
        seconds=round(outcome.seconds, 6),
        flags=dict(tally.flags),
        manifest_sha256=outcome.manifest_sha256,
        receipt_sha256=outcome.receipt_sha256,
        chain_head_sha256=outcome.chain_head_sha256,
        fingerprint=notebook_fingerprint(outcome.manifest_sha256),
        receipts=safe_text(str(kept.folder)),
        changes=changes_output(outcome),
        earlier=tally.earlier,
    )


def _now() -> str:
    return format_utc_time(time.time_ns())
