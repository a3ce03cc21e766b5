"""Checks all documents of an acquisition before it is restored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from evidencesync.errors import (
    ChainError,
    DigestMismatchError,
    EvidenceSyncError,
    IncompleteError,
    LaterFormatError,
    MissingOrExtraError,
    NotThereError,
    SignatureError,
    TimestampError,
)
from evidencesync.evidence.identity import ItemName
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.localstate.heads import HeadMemory
from evidencesync.verify.audit import audit_documents
from evidencesync.verify.checks import MEANINGS
from evidencesync.verify.findings import shown_place

_HARMLESS: Final = frozenset({"extra-entry"})  # extra entries beside the documents do not concern a restore
_ERRORS: Final[Mapping[ExitCode, type[EvidenceSyncError]]] = MappingProxyType(
    {
        ExitCode.CHAIN: ChainError,
        ExitCode.SIGNATURE: SignatureError,
        ExitCode.TIMESTAMP: TimestampError,
        ExitCode.DIGEST: DigestMismatchError,
        ExitCode.MISSING_OR_EXTRA: MissingOrExtraError,
        ExitCode.NOT_THERE: NotThereError,
        ExitCode.USAGE: LaterFormatError,
        ExitCode.GAPS: IncompleteError,
    }
)


def verified_manifest(
    vault: Path, name: ItemName, acquisition: int, trusted: bytes | None, memory: HeadMemory, now_ns: int
) -> str:
    """Returns the SHA-256 of an acquisition's manifest after all documents about it were checked; else raises.

    Trust, chain, manifest, receipt and sums are checked as `verify` does, and chains are compared with `memory`; evidence
    is not read. `trusted` is an allowed_signers file from outside, which replaces the vault's own lists. What could not be
    checked raises IncompleteError: unknown is never good, nor is it reported as bad.
    """
    verdict, digest = audit_documents(
        vault, case=name.case.text, item=name.item.text, acquisition=acquisition, trusted=trusted, memory=memory, now_ns=now_ns
    )
    errors = [one for one in verdict.findings if one.severity == "error" and one.slug not in _HARMLESS]
    if not errors and digest is not None:
        return digest
    code = most_severe({MEANINGS[one.slug].code for one in errors})
    first = next((one for one in errors if MEANINGS[one.slug].code is code), None)
    if first is None:
        raise SignatureError(f"nothing vouches for acquisition {acquisition} of {name}")
    place = shown_place(first)
    more = f" (and {len(errors) - 1} more findings)" if len(errors) > 1 else ""
    hint = (
        "See all of it: evidencesync verify VAULT. Where you have signers of your own that you trust, bring them: --trusted FILE"
    )
    raise _ERRORS.get(code, SignatureError)(f"{first.message}{f' [{place}]' if place else ''}{more}", hint=hint)
