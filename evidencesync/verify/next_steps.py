"""Says what a person does now who has read findings of a check: one sentence or two for each kind, by its slug."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from evidencesync.verify.findings import Finding, gravity

_MOST: Final = 3  # kinds of advice
_KEEP: Final = "Keep the vault as it is: do not push, repair or clean it."
_ELSEWHERE: Final = "The same file may be whole in another acquisition that no finding names, or in a second copy of the vault."
_RECEIPTS: Final = "What examiners keep tells what was there: evidencesync receipts check --vault VAULT"

_BYTES: Final = (
    "Do not repair or clean the vault: what is damaged stays as it is. While the source is at hand, push it again: nothing is "
    f"built upon a damaged file. {_ELSEWHERE}"
)
_DOCUMENTS: Final = f"{_KEEP} Verify a second copy of the vault, which may have the document whole. {_RECEIPTS}"
_EXTRA: Final = (
    "Leave it where it is until it is known who put it there: ask who has access to the vault's machine. "
    "It is no evidence, and nothing of it is restored or reported as such."
)
_SIGNED: Final = f"{_KEEP} Rely on nothing that the finding names until it is known who signed it: ask the examiner. {_RECEIPTS}"
_WHO: Final = (
    "Ask the key's owner for its fingerprint in another way than over this machine, and whoever keeps the vault why it is not "
    "trusted. Who is trusted shows: evidencesync trust list VAULT"
)
_MAY: Final = (
    "Ask whoever keeps the vault whether the signer might do this then, and why the vault took it. "
    "What each key may do shows: evidencesync trust list VAULT"
)
_TRUST: Final = f"{_KEEP} Ask whoever keeps the vault who has changed it, and bring your own list: --trusted FILE."
_CHAIN: Final = (
    f"{_KEEP} Records are damaged, gone, or were exchanged: bring a second copy of the vault, and verify that. {_RECEIPTS}"
)
_OLDER: Final = (
    "Keep this copy as it is, and look for the newer one. If it was restored from a backup on purpose, compare it with the "
    "receipts: evidencesync receipts check --vault VAULT"
)
_UNREAD: Final = (
    "It is not known whether this is as it was. Look at the disk (dmesg) and at the permissions; copy the vault to a disk that "
    "reads well (rsync -aH), and verify the copy."
)
_COMPARE: Final = "Look first at the finding that names what it would be compared with; then verify again."
_TIMES: Final = (
    "The evidence itself is not in doubt by this: only when it was signed. Ask the authority for a new timestamp, and see what "
    "is there: evidencesync timestamp show VAULT --case CASE --item ITEM"
)
_ROOT: Final = "Bring the authority's root certificate, from the authority itself: --tsa-root FILE."
_CUSTODY: Final = (
    "Ask the persons whom the record names, and state what they say in a new record: "
    "evidencesync custody correct VAULT --case CASE --item ITEM --record N --text TEXT"
)
_NOTHING: Final = "Nothing was acquired there, or it lies elsewhere: see evidencesync list VAULT"
_VERSION: Final = "Verify with the newer evidencesync that has written it."
_MEMORY: Final = "The vault itself was checked. See what this machine keeps of it: evidencesync receipts list"

NEXT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("file-damaged", "file-truncated", "file-extended", "missing-file"), _BYTES),
    **dict.fromkeys(
        ("missing-document", "missing-acquisition", "malformed-document", "document-damaged", "sums-differ", "receipt-mismatch"),
        _DOCUMENTS,
    ),
    **dict.fromkeys(("extra-entry", "wrong-type"), _EXTRA),
    **dict.fromkeys(("bad-signature", "wrong-signer", "revoked-signer", "wrong-place"), _SIGNED),
    "untrusted-signer": _WHO,
    "not-allowed": _MAY,
    **dict.fromkeys(("trust-file", "trust-changed"), _TRUST),
    **dict.fromkeys(("chain-broken", "missing-record", "record-differs", "not-in-chain", "forked"), _CHAIN),
    **dict.fromkeys(("rolled-back", "older-copy"), _OLDER),
    **dict.fromkeys(("no-hand-over", "wrong-recipient", "wrong-reference"), _CUSTODY),
    "unreadable": _UNREAD,
    "not-compared": _COMPARE,
    **dict.fromkeys(
        ("bad-timestamp", "missing-timestamp", "timestamp-not-recorded", "timestamp-differs", "no-timestamp"), _TIMES
    ),
    "untrusted-authority": _ROOT,
    "nothing-to-verify": _NOTHING,
    "later-format": _VERSION,
    "memory-damaged": _MEMORY,
}
"""What to do, by the slug of a finding. What is missing here comes with a hint of its own, or does not make a verdict worse."""

NO_MORE_RECORDS: Final = (_TRUST, _CHAIN, _OLDER)
"""What to do where a vault may refuse every further record."""


def next_steps(findings: Iterable[Finding]) -> list[str]:
    """What to do now, the gravest first: about the errors, else about the rest. VAULT, CASE and ITEM stand in commands.

    Where something forbids to push, nothing else tells to push again.
    """
    known = sorted((finding for finding in findings if finding.slug in NEXT), key=gravity)
    errors = [finding for finding in known if finding.severity == "error"] or known
    steps = list(dict.fromkeys(NEXT[finding.slug] for finding in errors))
    if any(step.startswith(_KEEP) for step in steps):
        steps = [_ELSEWHERE if step == _BYTES else step for step in steps]
    return steps[:_MOST]
