"""The thread that takes in what the vault's end says, and turns it into messages."""

from __future__ import annotations

import threading
from typing import TypeVar

from evidencesync.connection.inbox import Inbox
from evidencesync.connection.link import Link
from evidencesync.errors import ConnectError, EvidenceSyncError, LinkLostError, NoRemoteError, ProtocolError
from evidencesync.evidence.display import safe_text
from evidencesync.files.shortages import unexpected
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import FrameDecoder
from evidencesync.protocol.messages import DATA_FRAME, Failure, Message, decode_message

LocalT = TypeVar("LocalT")


def listen(link: Link, inbox: Inbox[LocalT, Message]) -> threading.Thread:
    """Starts taking in messages; whatever ends that is raised where the inbox is emptied."""
    thread = threading.Thread(target=_listen, args=(link, inbox, inbox.begin_link()), name="listener", daemon=True)
    thread.start()
    return thread


def _listen(link: Link, inbox: Inbox[LocalT, Message], number: int) -> None:
    frames = FrameDecoder()
    try:
        while block := link.read():
            inbox.peer_arrived += len(block)
            whole = list(frames.feed(block))
            if whole:  # counted by their own lengths: a long message may have come in many blocks
                inbox.put_peer(number, [_message(kind, body) for kind, body in whole], sum(len(body) for _, body in whole))
        raise end_of(frames)
    except EvidenceSyncError as error:
        inbox.fail_peer(number, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine must not wait for ever
        inbox.fail_peer(number, unexpected(error))


def _message(frame_type: int, body: memoryview) -> Message:
    if frame_type == DATA_FRAME:
        raise ProtocolError("the vault's end sent data")
    message = decode_message(frame_type, body)
    if isinstance(message, Failure):
        raise error_of(message)
    return message


def end_of(frames: FrameDecoder) -> EvidenceSyncError:
    """What it means that the stream has ended here."""
    if frames.started:
        return LinkLostError("the connection ended before the vault had answered")
    return not_started(frames.noise, "Check that evidencesync is installed there, or name it with --remote-command.")


def not_started(noise: bytes, hint: str) -> EvidenceSyncError:
    """A stream that ended before our own first word. Where there were other words, something else answers there."""
    if not noise.strip():
        return ConnectError("the other end did not start evidencesync", hint=hint)
    return NoRemoteError(f"the other end did not start evidencesync; it said: {safe_text(noise[:300].strip())}", hint=hint)
