"""Checks who asked for a change of trust: the signed request that the record of the change keeps."""

from __future__ import annotations

from typing import Final, NamedTuple

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.trust_requests import SignedRequest
from evidencesync.errors import MalformedDocumentError, SignatureError
from evidencesync.vault.trust_drafts import STATED_DIGESTS
from evidencesync.verify.allowed import Needed
from evidencesync.verify.checks import Check
from evidencesync.verify.findings import Reporter

TO_ADMINISTER: Final = Needed("admin", None)
_STATED: Final = frozenset(STATED_DIGESTS.values())


class Asker(NamedTuple):
    """Who signed the request for a change. Whether they were trusted, and might administer, is judged with all signers."""

    key: PublicKey
    principal: str


def check_request(report: Reporter, check: Check, name: str, record: CustodyRecord, *, low_s: bool) -> Asker | None:
    """Returns who asked for the change in a record of the vault; None where it names nobody, and after a finding.

    1. What it keeps is a request in the strict form.  2. Its signature is good.  3. It asked for this change, at this place of
    this chain.
    """
    try:
        signed = SignedRequest.kept_in(record.details)  # 1
        key = None if signed is None else signed.signer(low_s=low_s)  # 2
    except MalformedDocumentError as error:
        report.report(check, "malformed-document", f"{name}: {error.message}", name)
        return None
    except SignatureError as error:
        report.report(check, "bad-signature", f"{name}: {error.message}", name)
        return None
    if signed is None or key is None:
        return None
    if (reason := signed.reason_not_for(record, _STATED)) is not None:  # 3
        report.report(check, "not-allowed", f"{name}: {reason}", name)
        return None
    return Asker(key, signed.request.actor.principal)
