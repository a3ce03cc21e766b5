"""Pulls from any SSH server with SFTP into a vault on this machine, without an agent on the server.

To the vault it is a push from this process, which hashes and cuts the bytes that arrive. Nothing about the vault reaches the
server: it is only asked for names, attributes and bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from evidencesync.acquire.dry_run import DryRun
from evidencesync.acquire.earlier import EarlierFiles
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome, PushRequest
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.acquire.sftp_connection import SftpConnection
from evidencesync.acquire.sftp_entries import TIMES_OF_SFTP
from evidencesync.acquire.sftp_reading import SftpReading
from evidencesync.acquire.sftp_walk import SftpRoot, survey_sftp
from evidencesync.acquire.signing import Provenance
from evidencesync.acquire.source_access import Emit, Reading
from evidencesync.connection.link import Link
from evidencesync.connection.progress import Progress
from evidencesync.connection.sender_connection import Pulled
from evidencesync.connection.writer import RateLimit
from evidencesync.custody.documents import Origin, SshPeer
from evidencesync.custody.manifest import WholeEntry
from evidencesync.errors import ProtocolError, SourceNotFoundError, SourceReadError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.path import to_json_fields
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_PATH
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import NOT_THERE
from evidencesync.ssh.sftp import SftpSource

_LONGEST_PATH = 2000  # characters of a path in a note


def pull_agentless(
    server: SftpSource,
    vault: Callable[[Pulled, SshPeer | None], Link],
    request: PushRequest,
    progress: Progress,
    recorder: SessionRecorder = SessionRecorder(),  # noqa: B008 - frozen, and empty
    again: Callable[[], SftpSource] | None = None,
) -> PushOutcome:
    """Makes one acquisition of `request.source`, as the server calls it. Closes the connection to it.

    What cannot be read whole is recorded without content, or, with `on_read_error` as `fail`, nothing is published.
    `recorder` is used as for a push. `again` makes another connection to the same server after a lost one: then reading continues
    where it was.

    Raises SourceNotFoundError, UsageError, LinkLostError where the server is lost, and what `push` raises.
    """
    connection = SftpConnection(server, again, request.retries, progress)
    try:
        source_access = _SftpAccess(connection, request)
        link = vault(Pulled(connection.peer.host_key if connection.peer else None, None), connection.peer)
        outcome = push(
            link,
            msgspec.structs.replace(request, limit_rate=None, retries=0),
            progress,
            source_access=source_access,
            recorder=recorder,
        )
    finally:
        connection.close()
    return msgspec.structs.replace(outcome, wire_sent=connection.wire_sent, wire_received=connection.wire_received)


def survey_agentless(
    server: SftpSource, again: Callable[[], SftpSource], retries: int, source: bytes, rules: FilterRules, seen: DryRun
) -> Iterator[WholeEntry]:
    """Yields the entries of a source, as the server calls it, and counts them in `seen`. No file is opened.

    Closes the connection at the end. Raises SourceNotFoundError, UsageError, LinkLostError where the server is lost.
    """
    connection = SftpConnection(server, again, retries, Progress())
    try:
        yield from survey_sftp(connection, _find(connection, source)[0], rules, seen)
    finally:
        connection.close()


class _SftpAccess:
    """See `acquire.source_access.SourceAccess`."""

    is_read_once = False

    def __init__(self, connection: SftpConnection, request: PushRequest) -> None:
        self._connection = connection
        self._request = request
        self._software = connection.server.server
        self._root, self._note = _find(connection, request.source)

    def reading(self, emit: Emit, progress: Progress, now: Callable[[], UtcTime], earlier: EarlierFiles | None = None) -> Reading:
        """See `SourceAccess`. SFTP tells neither change times nor inodes: everything is read."""
        del earlier
        rate_limit = RateLimit(self._request.limit_rate)
        fails = self._request.on_read_error == "fail"
        return SftpReading(self._connection, self._root, self._request.rules, emit, progress, now, rate_limit, fails=fails)

    def drop_stored(self, segments: int) -> None:
        """See `SourceAccess`."""

    def provenance(self, handshake: Handshake, peer: SshPeer | None) -> Provenance:
        """Returns the provenance: of the machine only what SSH shows is known, and nothing of its clock."""
        del handshake, peer  # they are about the vault, which is here
        far = self._connection.peer
        if far is None:
            raise ProtocolError("an SFTP server without a host key")
        path, path_b64 = to_json_fields(self._root.path)
        system = safe_text(f"not known (SFTP, {self._software})", 200)
        origin = Origin(host=far.host, operating_system=system, path=path, path_b64=path_b64)
        instead: Literal["fail", "without-content"] = "fail" if self._request.on_read_error == "fail" else "without-content"
        return Provenance(origin, "pull", "arrival", far, None, self._note, instead, times=TIMES_OF_SFTP)

    def count(self, progress: Progress, is_over: Callable[[], bool]) -> None:
        """Tells the size of a single file. A folder is not counted, and that is said: the server would be asked for all twice."""
        del is_over
        if self._root.status.kind == "file":
            progress.total_files, progress.total_bytes = 1, self._root.status.size
        progress.is_total_unknown = progress.total_bytes is None


def _find(connection: SftpConnection, asked: bytes) -> tuple[SftpRoot, str | None]:
    """Finds the named source. A symbolic link that was named itself is resolved, once, by the server; a note records it."""
    try:
        status = connection.ask(lambda server: server.status(asked or b"."))
        path = connection.ask(lambda server: server.real_path(asked))
        note = None
        if status.kind == "symlink":
            status = connection.ask(lambda server: server.status(path))
            named, real = safe_text(asked, _LONGEST_PATH), safe_text(path, _LONGEST_PATH)
            note = f"the source was named through a symbolic link: {named} leads to {real}"
    except SourceReadError as error:
        hint = NOT_THERE if error.errno == errno.ENOENT else None
        raise SourceNotFoundError(f"cannot open the source: {error.message}", hint=hint) from error
    if len(path) > MAX_PATH:
        raise ProtocolError("the server names an impossible path")
    if status.kind == "directory":
        connection.root = path
    elif status.kind == "file":
        with contextlib.suppress(SourceReadError):  # a folder that cannot be listed: then no year is told
            status = dataclasses.replace(status, year=connection.ask(lambda server: server.year_of(path)))
    else:
        raise UsageError(f"the source is neither a folder nor a regular file: {safe_text(path, 300)}")
    return SftpRoot(path, status), note
