"""Acquires a capture: what comes on standard input, or what a command prints, here or on another machine.

It is read once, and cannot be read again. So the command starts when the vault is ready, and never twice; and whatever ends it,
what has come is acquired, flagged where it may not be all. A command's standard error is kept beside its output.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from evidencesync.acquire.capture_log import CaptureLog
from evidencesync.acquire.earlier import EarlierFiles
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.reading import PageBuilder, SourceRead, SourceTally, StreamBegun, StreamEnded
from evidencesync.acquire.remote_command import FarShell
from evidencesync.acquire.signing import Provenance
from evidencesync.acquire.source_access import Emit, Reading
from evidencesync.acquire.spool import Spool
from evidencesync.acquire.streaming import Digests
from evidencesync.connection.progress import Progress
from evidencesync.custody.captures import lacking_words
from evidencesync.custody.documents import Origin, SshPeer
from evidencesync.custody.manifest import encode_footer
from evidencesync.delta.chunker import Segment, SegmentCutter
from evidencesync.errors import NothingLeftError
from evidencesync.evidence.capture import Capture, CaptureEnd, CaptureSource
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest, blake3_of, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import to_json_fields
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_FILE_SIZE, MIB, SMALL_FILE
from evidencesync.source.command import CommandEnd, CommandLine, RunningCommand
from evidencesync.source.origin import this_machine
from evidencesync.source.pipe import OpenedPipe

ERRORS_SUFFIX: Final = b".stderr"
_ENDS_ALL: Final = frozenset[CaptureEnd](
    {"idle", "link-lost", "interrupted"}
)  # of the command itself, and so of both its streams
_EMPTY: Final = "Did the program before the pipe start? To acquire nothing on purpose, add --allow-empty."
_NEVER_RAN: Final = frozenset({126, 127})  # a shell's word for a program that it cannot execute, or does not find
_NOT_RUN: Final = "Is the program there, and spelt so? May this account run it?"
_BLOCK: Final = 4 * MIB
_SHOWN: Final = 200  # characters of what a server says of itself
Now = Callable[[], UtcTime]


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What is captured: the command (None: standard input), the name in the acquisition, and when it is given up.

    `idle_seconds`: how long nothing may come; None: for ever. `expected_bytes`: how much must come, where that is known.
    `may_be_empty`: whether standard input on which nothing comes is acquired.
    """

    name: bytes
    line: CommandLine | None
    idle_seconds: float | None
    expected_bytes: int | None
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Captured:
    """One pipe that has ended: what came, when, and how it ended. `beginning` has all of a small content."""

    size: int
    blake3: Blake3Digest
    sha256: Sha256Digest
    beginning: bytes
    end: CaptureEnd
    started: UtcTime
    ended: UtcTime


class CaptureReading:
    """Reads one capture, and emits it as a source with one file, or with a command's two. See `Reading`."""

    def __init__(
        self, request: CaptureRequest, start: Callable[[], RunningCommand | int], emit: Emit, progress: Progress, now: Now
    ) -> None:
        """`start` starts the command, or returns the descriptor of standard input."""
        self.tally = SourceTally(events=progress.events)
        self._request = request
        self._start = start
        self._emit = emit
        self._progress = progress
        self._now = now
        self._pages = PageBuilder(emit, self.tally, fails=False)
        self._hashing = ThreadPoolExecutor(1, "sha256")
        self._command: RunningCommand | None = None
        self._pipe: OpenedPipe | None = None
        self._has_stream = False

    def run(self) -> None:
        """Reads and emits everything except the manifest's header. Raises what `start` and `emit` raise."""
        try:
            self.take()
            self._pages.flush()
            self._pages.emit_page(encode_footer(self.tally.manifest.footer(self._now())))
            self.tally.is_whole = True
            self._emit(SourceRead(), 0)
        finally:
            self._hashing.shutdown(wait=True)

    def take(self) -> None:
        """Reads what is captured, and adds its lines. Raises as `run` does."""
        started = self._start()
        if isinstance(started, int):
            self._take_input(started)
            return
        self._command = started
        try:
            self._take_command(started)
        finally:
            started.stop()

    def stop(self) -> None:
        """Ends the command, if one runs. May be called by another thread than that of `run`."""
        if self._command is not None:
            self._command.stop()

    def end_here(self) -> bool:
        """Ends the capture after what has come; returns False where none is being read. May be called in a signal's handler."""
        pipe = self._pipe
        if pipe is not None:
            pipe.end_here()
        return pipe is not None

    def _take_input(self, descriptor: int) -> None:
        came = self._read(OpenedPipe(descriptor, self._request.idle_seconds), self._request.name)
        if came.size == 0 and came.end == "end-of-data" and not self._request.may_be_empty:
            raise NothingLeftError("nothing has come on standard input", hint=_EMPTY)
        self._add(self._request.name, came, "standard-input", CommandEnd(), 0)

    def _take_command(self, command: RunningCommand) -> None:
        name = self._request.name
        self._pages.add(b"", Entry("directory", path=""), None)
        came = self._read(OpenedPipe(command.output, self._request.idle_seconds, command.is_over), name)
        command.begin_receiving()
        if came.end in ("idle", "interrupted"):
            command.stop()
        ended = command.end(self._request.idle_seconds)
        if ended.lost and came.end == "end-of-data":
            came = replace(came, end="link-lost")
        data, dropped = command.errors.taken()
        if ended.exit_status in _NEVER_RAN and came.size == 0:
            why = safe_text(data.decode(errors="replace").strip(), _SHOWN)
            raise NothingLeftError(f"the command was not run (exit status {ended.exit_status}): {why}", hint=_NOT_RUN)
        self._add(name, came, "standard-output", ended, 0)
        end: CaptureEnd = "left-open" if ended.left_open else "end-of-data"
        said = self._take_errors(data, name + ERRORS_SUFFIX, came.end if came.end in _ENDS_ALL else end, came.started)
        self._add(name + ERRORS_SUFFIX, said, "standard-error", ended, dropped)

    def _read(self, pipe: OpenedPipe, name: bytes) -> Captured:
        """Reads a pipe to its end, hashes it, and emits its segments as they are complete. A small content goes with its line."""
        self._progress.path, self._pipe = name, pipe
        started = self._now()
        cutter, digests, beginning, size = SegmentCutter(), Digests(self._hashing), b"", 0
        cut: list[Segment] = []
        while True:
            room = cutter.buffer(_BLOCK)
            length = pipe.read_into(room)
            if not length:
                break
            beginning += bytes(room[: min(length, SMALL_FILE - len(beginning))])
            if size <= SMALL_FILE < size + length:
                self._emit(StreamBegun(MAX_FILE_SIZE, name), 0)
                self._has_stream = True
            size += length
            digests.update(room[:length])
            cut += cutter.commit(length)
            if size > SMALL_FILE:
                self._emit_segments(cut)
                cut = []
        self._pipe = None
        if pipe.end == "interrupted":
            self._progress.notify("ended here: what has come is acquired; Ctrl-C once more stops the run")
        blake3, sha256 = digests.finish()
        if size > SMALL_FILE:
            self._emit_segments(cutter.finish())
            self._emit(StreamEnded(size, blake3), 0)
        self._progress.files += 1
        return Captured(size, blake3, sha256, beginning, pipe.end, started, self._now())

    def _take_errors(self, said: bytes, name: bytes, end: CaptureEnd, started: UtcTime) -> Captured:
        """Emits what a command has printed on standard error, which is in memory."""
        blake3, sha256 = blake3_of(said), sha256_of(said)
        if len(said) > SMALL_FILE:
            if not self._has_stream:  # the first stream is the output's in any case: what is left of a capture is told by that
                self._emit(StreamBegun(0, self._request.name), 0)
                self._emit(StreamEnded(0, blake3_of(b"")), 0)
            cutter = SegmentCutter()
            self._emit(StreamBegun(len(said), name), 0)
            cutter.buffer(len(said))[:] = said
            self._emit_segments([*cutter.commit(len(said)), *cutter.finish()])
            self._emit(StreamEnded(len(said), blake3), 0)
        return Captured(len(said), blake3, sha256, said[:SMALL_FILE], end, started, self._now())

    def _add(self, name: bytes, came: Captured, source: CaptureSource, ended: CommandEnd, dropped: int) -> None:
        """Adds the line of one pipe. What did not come whole is flagged as not read."""
        line = self._request.line
        capture = Capture(
            source,
            came.started,
            came.ended,
            came.end,
            shell_command=line.shell if line is not None else None,
            arguments=list(line.words) if line is not None and line.shell is None else None,
            exit_status=ended.exit_status,
            signal=ended.signal,
            expected_bytes=None if source == "standard-error" else self._request.expected_bytes,
            dropped_bytes=dropped or None,
        )
        is_whole = capture.is_whole(came.size)
        if not is_whole:
            self.tally.partial += 1
            self.tally.lacking.append((name, lacking_words(capture, came.size)))
        path, path_b64 = to_json_fields(name)
        entry = Entry(
            "file",
            path,
            path_b64,
            size=came.size,
            blake3=came.blake3.hex(),
            sha256=came.sha256.hex(),
            flags=None if is_whole else ["unreadable"],
            capture=capture,
        )
        self._pages.add(name, entry, came.beginning if came.size <= SMALL_FILE else None)

    def _emit_segments(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._emit(segment, segment.held_bytes)


class CaptureEvents:
    """Emits for one session what was read of a capture, and what comes. See `Reading`."""

    def __init__(self, reading: CaptureReading, log: CaptureLog, emit: Emit, *, begins: bool) -> None:
        self.tally = reading.tally
        self._reading = reading
        self._log = log
        self._emit = emit
        self._begins = begins

    def run(self) -> None:
        """Emits everything. Raises what the reading has raised, and what `emit` raises, as where the session has ended."""
        if self._begins:
            threading.Thread(target=self._read, name="capture", daemon=True).start()
        for event, size in self._log.events():
            self._emit(event, size)

    def _read(self) -> None:
        try:
            self._reading.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of `run`
            self._log.fail(error)


class CaptureAccess:
    """See `acquire.source_access.SourceAccess`. `close` in any case: it ends a command that still runs."""

    is_read_once: Final = True

    def __init__(
        self,
        request: CaptureRequest,
        start: Callable[[], RunningCommand | int],
        provenance: Callable[[Handshake, SshPeer | None], Provenance],
        *,
        may_go_on: bool = False,
        spool: Spool | None = None,
    ) -> None:
        """`start`: see CaptureReading. `provenance`: of this machine or of another one. The others: see CaptureLog."""
        self._request = request
        self._start = start
        self._provenance = provenance
        self._log = CaptureLog(may_go_on=may_go_on, spool=spool)
        self._reading: CaptureReading | None = None

    def reading(self, emit: Emit, progress: Progress, now: Now, earlier: EarlierFiles | None = None) -> Reading:
        """See `SourceAccess`. There is one reading; the second time its events are emitted again, from the first one on."""
        del earlier  # nothing of it was there before
        if self._reading is None:
            self._reading = CaptureReading(self._request, self._start, self._log.add, progress, now)
            return CaptureEvents(self._reading, self._log, emit, begins=True)
        return CaptureEvents(self._reading, self._log, emit, begins=False)

    def drop_stored(self, segments: int) -> None:
        """See `SourceAccess`."""
        self._log.drop_stored(segments)

    def keep_rest(self) -> tuple[int, int] | None:
        """See CaptureLog."""
        return self._log.keep_rest()

    def provenance(self, handshake: Handshake, peer: SshPeer | None) -> Provenance:
        """See `SourceAccess`."""
        return self._provenance(handshake, peer)

    def count(self, progress: Progress, is_over: Callable[[], bool]) -> None:
        """See `SourceAccess`."""
        del is_over
        progress.total_files, progress.total_bytes = 1, self._request.expected_bytes
        progress.is_total_unknown = progress.total_bytes is None

    def end_here(self) -> bool:
        """See CaptureReading."""
        return self._reading is not None and self._reading.end_here()

    def close(self) -> None:
        """Ends the command, if it still runs."""
        self._log.close()
        if self._reading is not None:
            self._reading.stop()


def from_here(handshake: Handshake, peer: SshPeer | None) -> Provenance:
    """Returns the provenance of a capture on this machine."""
    return Provenance(this_machine(), "push" if peer else "local", "source", peer, handshake.clock_offset, None, "kept")


def from_far(shell: FarShell) -> Callable[[Handshake, SshPeer | None], Provenance]:
    """Returns what gives the provenance of a command on another machine: only what SSH shows of that is known."""
    far = shell.peer
    system = safe_text(f"not known (SSH, {far.algorithms.get('server_version', '')})", _SHOWN)
    provenance = Provenance(Origin(host=far.host, operating_system=system), "pull", "arrival", far, None, None, "kept")
    return lambda _handshake, _peer: provenance
