"""Says why nothing of our protocol has come from the other end: its shell has started another program, or nothing at all."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from evidencesync.errors import ConnectError, EvidenceSyncError, LinkLostError, NoRemoteError, ProtocolError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import seconds_text
from evidencesync.protocol.framing import FrameDecoder

HINT: Final = "Check that evidencesync is installed there, or name it with --remote-command."
_WAITS_HINT: Final = (
    "Run it by hand to see what it waits for: ssh HOST evidencesync --version. Another command is named with --remote-command."
)
_SHOWN: Final = 300


@runtime_checkable
class ToldLink(Protocol):
    """A link whose other end is a program: how that has ended is known."""

    @property
    def ending(self) -> str:
        """Exit status and last messages of the program, safe to show; empty where they are not known."""


def ending_of(link: object) -> str:
    """Returns how the program at the other end of a link has ended; empty where that is not known."""
    return link.ending if isinstance(link, ToldLink) else ""


def not_started(noise: bytes, hint: str, ending: str = "") -> EvidenceSyncError:
    """Returns the error for a stream that ended before our preamble. Other output means that another program answers there."""
    how = f"; the remote command ended {ending}" if ending else ""
    if not noise.strip():
        return ConnectError(f"the other end did not start evidencesync{how}", hint=hint)
    return NoRemoteError(f"the other end did not start evidencesync{_said(noise)}{how}", hint=hint)


def decoded(frames: FrameDecoder, block: bytes, hint: str) -> list[tuple[int, memoryview]]:
    """Returns the frames that are complete now. Raises what `FrameDecoder.update` raises.

    But more output before our preamble than any greeting is another program, and no attack: it is a NoRemoteError.
    """
    try:
        return list(frames.update(block))
    except ProtocolError as error:
        if frames.started:
            raise
        said = _said(frames.noise)
        raise NoRemoteError(f"what answers there is not evidencesync, and it does not end{said}", hint=hint) from error


def silent(frames: FrameDecoder | None, who: str, seconds: float) -> LinkLostError:
    """Returns the error for an end that says nothing more. One that never began may be a menu, or a question for a password."""
    if frames is None or frames.started:
        return LinkLostError(f"{who} has been silent for {seconds_text(round(seconds))}")
    return LinkLostError(
        f"evidencesync has not begun at the other end in {seconds_text(round(seconds))}{_said(frames.noise)}", hint=_WAITS_HINT
    )


def _said(noise: bytes) -> str:
    said = safe_text(noise[:_SHOWN].strip())
    return f"; it said: {said}" if said else ""
