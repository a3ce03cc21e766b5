"""Checks who asked for a change of trust: the signed request that the record of the change keeps."""

from __future__ import annotations

from typing import Final, NamedTuple

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.trust_requests import PROPOSAL, SignedRequest
from evidencesync.custody.two_people import Proposals
from evidencesync.errors import MalformedDocumentError, SignatureError
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.vault.trust_drafts import STATED_DIGESTS
from evidencesync.verify.allowed import Needed
from evidencesync.verify.checks import Check
from evidencesync.verify.findings import Reporter

TO_ADMINISTER: Final = Needed("admin", None)
STATED: Final = frozenset(STATED_DIGESTS.values())
"""The details in which a record states the lists of trust."""


class Asker(NamedTuple):
    """Who signed the request for a change. Whether they were trusted, and might administer, is judged with all signers."""

    key: PublicKey
    principal: str


def check_request(
    report: Reporter, check: Check, name: str, record: CustodyRecord, proposals: Proposals | None, sha256: str, *, low_s: bool
) -> Asker | None:
    """Returns who asked for the change in a record of the vault; None where it names nobody, and after a finding.

    1. What it keeps is a request in the strict form.  2. Its signature is good.  3. It asked for this change, at this place of
    this chain.  4. What needs two people had both. `proposals`: by the records before it; None where these are not all known.
    """
    signed = _kept_request(report, check, name, record, proposals, low_s=low_s)
    if proposals is not None:
        try:
            refused = proposals.add(record, sha256, parse_utc_time(record.time), signed)
        except MalformedDocumentError as error:
            refused = error.message
        if refused is not None:
            report.report(check, "not-allowed", f"{name}: {refused}", name)  # 4
    return None if signed is None else Asker(signed.signer(low_s=low_s), signed.request.actor.principal)


def _kept_request(
    report: Reporter, check: Check, name: str, record: CustodyRecord, proposals: Proposals | None, *, low_s: bool
) -> SignedRequest | None:
    try:
        signed = SignedRequest.kept_in(record.details)  # 1
        if signed is not None:
            signed.signer(low_s=low_s)  # 2
    except MalformedDocumentError as error:
        report.report(check, "malformed-document", f"{name}: {error.message}", name)
        return None
    except SignatureError as error:
        report.report(check, "bad-signature", f"{name}: {error.message}", name)
        return None
    if signed is None:
        return None
    found = proposals.find(signed.request.details) if proposals is not None else None
    if proposals is None and PROPOSAL in record.details:
        return signed  # the proposal may be in a record that could not be read
    if (reason := signed.reason_not_for(record, STATED, found.change if found is not None else None)) is not None:  # 3
        report.report(check, "not-allowed", f"{name}: {reason}", name)
        return None
    return signed
