"""Converts errors to Failure messages and back, and keeps a peer from claiming what it cannot know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from evidencesync.errors import (
    AuthenticationError,
    ConnectError,
    DroppedError,
    EvidenceSyncError,
    ForkedError,
    HostKeyError,
    NoRemoteError,
    NotAllowedError,
    PeerError,
    ProtocolError,
    RememberedHeadsError,
    RolledBackError,
    UnkeptReceiptError,
    UntrustedSignerError,
    VersionError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.framing import HANDSHAKE
from evidencesync.protocol.messages import PROTOCOL_VERSION, ROLES_VERSION, VERSIONS, Failure

_DONE: Final = frozenset({ExitCode.COMPLETE, ExitCode.GAPS, ExitCode.SOURCE_CHANGED})
"""Exit codes that mean that an acquisition was published: a peer's Failure must never produce one."""

_OURS_ALONE: Final = (
    AuthenticationError,
    DroppedError,
    ForkedError,
    HostKeyError,
    NoRemoteError,
    RememberedHeadsError,
    RolledBackError,
    UnkeptReceiptError,
)
"""Errors that only this machine can know: host keys, remembered heads, kept receipts. From a peer they become a PeerError."""

_NO_SOURCE_KNOWS: Final = frozenset(
    {
        ExitCode.KEY,
        ExitCode.DIGEST,
        ExitCode.MISSING_OR_EXTRA,
        ExitCode.SIGNATURE,
        ExitCode.TIMESTAMP,
        ExitCode.CHAIN,
    }
)
"""Exit codes about keys, vaults and chains: a source's end has none of these."""

_NOT_UNDERSTOOD: Final = re.compile(
    rf"a (?:{'|'.join(message.__name__ for message in HANDSHAKE)}) message is malformed|unknown message type [0-9]+"
)
"""How every build reports a message that it does not know. Ours are well-formed, so that peer is of another version."""

_OLD_SLUGS: Final = frozenset(
    """authentication bad-signature bad-timestamp cannot-connect chain-broken configuration digest-mismatch
    forked host-key-changed host-key-unknown internal-error interrupted invalid-name limit-exceeded link-lost
    locked malformed-document missing-or-extra missing-part name-clash no-space not-there path-escape
    peer-error protocol-violation receipt-not-kept remembered-heads rolled-back sealed session-gone
    signing-key source-gaps source-not-found source-unreadable storage trust-file unrepresentable-name
    untrusted-signer usage vault-not-found version-mismatch wrong-passphrase""".split()
)
"""The slugs that version 1 knows. An end that speaks version 1 alone takes any other slug for that of a hostile peer."""


def version_in_common(versions: Sequence[int]) -> int | None:
    """Returns the newest version that both ends speak; None where there is none."""
    return max((version for version in versions if version in VERSIONS), default=None)


def failure_of(error: EvidenceSyncError, version: int | None) -> Failure:
    """Returns the Failure message for an error, with a slug that the peer's version knows; None: its version is not known yet."""
    slug = error.slug
    if version is None or version == PROTOCOL_VERSION:
        kinds = (kind for kind in type(error).__mro__ if issubclass(kind, EvidenceSyncError))
        slug = next((kind.slug for kind in kinds if kind.slug in _OLD_SLUGS), "internal-error")
    elif version < ROLES_VERSION and isinstance(error, NotAllowedError):
        slug = UntrustedSignerError.slug
    return Failure(slug, error.message[:1000], error.hint[:1000] if error.hint else None)


def all_errors() -> tuple[type[EvidenceSyncError], ...]:
    """Returns every class of the tree, base first, in the order of definition."""
    found: list[type[EvidenceSyncError]] = [EvidenceSyncError]
    for known in found:
        found.extend(known.__subclasses__())
    return tuple(dict.fromkeys(found))


def error_from_slug(slug: str, message: str, hint: str | None) -> EvidenceSyncError:
    """Makes the error that a peer reported. An unknown slug becomes a PeerError: unknown is never harmless."""
    by_slug = {error.slug: error for error in all_errors()}
    return by_slug.get(slug, PeerError)(message, hint=hint)


def error_of(failure: Failure) -> EvidenceSyncError:
    """Returns the error to raise for a peer's Failure, with text that is safe for a terminal.

    An unknown slug, or one that would make this end's run look successful, becomes a PeerError. A peer that does not understand
    our handshake is of another version, and not accused.
    """
    message, hint = safe_text(failure.message), safe_text(failure.hint) if failure.hint else None
    if failure.slug == ProtocolError.slug and _NOT_UNDERSTOOD.fullmatch(message):
        return VersionError(f"the other end speaks another version: {message}")
    error = error_from_slug(failure.slug, message, hint)
    return PeerError(message, hint=hint) if error.exit_code in _DONE else error


def error_of_far_end(failure: Failure, *, is_source: bool = False) -> EvidenceSyncError:
    """Returns the error to raise for the Failure of a vault's or a source's end: what it cannot know becomes a PeerError.

    So no other machine can make this one report that a host key has changed, or that a vault was rolled back.
    """
    error = error_of(failure)
    if isinstance(error, _OURS_ALONE) or (is_source and error.exit_code in _NO_SOURCE_KNOWS):
        return PeerError(error.message, hint=error.hint)
    return error


def another_service(asked: str, served: str) -> ConnectError:
    """Makes the error for the wrong service, as where a command in authorized_keys starts one that was not asked for.

    That is a key or an address in the wrong place, and accuses neither end.
    """
    return ConnectError(
        f"{asked} was asked for, and this server serves {served}",
        hint="If a command in its authorized_keys says so for this key, use another key: -i FILE.",
    )
