"""What a peer says when it gives up, as an error of ours."""

from __future__ import annotations

from typing import Final

from evidencesync.errors import EvidenceSyncError, ExitCode, PeerError, error_from_slug
from evidencesync.evidence.display import safe_text
from evidencesync.protocol.messages import Failure

_DONE: Final = frozenset({ExitCode.COMPLETE, ExitCode.GAPS, ExitCode.SOURCE_CHANGED})
"""Codes that say that an acquisition was published: never a peer's to give away."""


def error_of(failure: Failure) -> EvidenceSyncError:
    """The error to raise for a peer's Failure, its text safe for a terminal.

    A slug that is not ours, or that would make this end's run look done, becomes a PeerError.
    """
    message, hint = safe_text(failure.message), safe_text(failure.hint) if failure.hint else None
    error = error_from_slug(failure.slug, message, hint)
    return PeerError(message, hint=hint) if error.exit_code in _DONE else error
