"""Judges whether a signer had the role for what was signed, by the history of roles in the vault's own chain.

What counts is what the key might do when the vault took the document: roles are the vault's own rule, so its own statements say
when that was. A change that a later record of its chain states came later, whatever clocks say. Where the vault states no time,
a trusted timestamp does, and else the time of the check.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

from evidencesync.custody.roles import Role, RoleHistory, decode_roles
from evidencesync.custody.trust import TrustLists
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.number_format import count_text
from evidencesync.evidence.utc_time import shown_time
from evidencesync.vault.layout import ROLES
from evidencesync.verify.checks import Check
from evidencesync.verify.findings import Reporter
from evidencesync.verify.signed_at import BY_THE_VAULT, ON_ITS_WAY_NS, SignedAt


class Needed(NamedTuple):
    """The role that a document needs, and the case, by its exact number, that it is about; None: the vault as a whole.

    `claimed_ns`: of a record that the vault dates by what it states later: when its signer says that it was made.
    """

    role: Role
    case: str | None
    claimed_ns: int | None = None


class Refusal(NamedTuple):
    """Why a role is not accepted, or cannot be judged."""

    slug: Literal["not-allowed", "not-compared"]
    text: str


_WITHOUT_TIME: Final = "what dates the signature is damaged, gone or unreadable, so that its signer's role was not judged"


def refusal(
    history: RoleHistory, key: str, needed: Needed, at: SignedAt, statements: Mapping[int, int], *, time_known: bool
) -> Refusal | None:
    """Returns why the signer of a document may not have signed it; None if that was allowed, or the history is not known.

    A history that is not known has findings of its own, and is no pass. `statements`: by number, the times of
    the vault's own records that state documents. `time_known`: whether everything that dates the signature could be read.
    """
    if not history.is_known:
        return None
    role, case, claimed = needed
    when = at.without if at.without is not None and at.without.source == BY_THE_VAULT else at
    stated_ns = statements.get(when.stated_by) if when.stated_by is not None else None
    grant = history.grant_at(key, when.ns, when.stated_by)
    reason = grant.reason_refused(role, case, when.ns)
    if role == "admin" and not history.has_told(key, when.stated_by):
        reason = "may not change trust from afar: nobody has said so, and the vault is older than roles"
    changes = history.changed_in_between(key, when.ns, when.stated_by)
    if changes and stated_ns is not None and stated_ns + ON_ITS_WAY_NS < (changed := changes[-1]).at_ns:
        if reason is None and changed.grant.reason_refused(role, case, when.ns) is None:
            return None
        text = f"roles changed at {shown_time(changed.at_ns)}, before the vault stated this at {shown_time(stated_ns)}"
        return Refusal("not-compared", f"{text}: its clock was set back, and what the signer might do then is not known")
    if reason is None or any(one.grant.reason_refused(role, case, when.ns) is None for one in changes):
        return None  # a clock that was a little ahead dates a change after what the vault took by it
    if not time_known and history.was_ever_granted(key, role, case):
        return Refusal("not-compared", _WITHOUT_TIME)
    early = when.earliest_ns
    if early is not None and history.grant_at(key, early, None).reason_refused(role, case, early) is None:
        text = f"the signer had this role at {shown_time(early)}, which the timestamp states by a clock that may be slow"
        return Refusal("not-compared", text)
    if claimed is not None and grant.has_ended(when.ns) and grant.reason_refused(role, case, min(claimed, when.ns)) is None:
        ended = f"the role had ended at {shown_time(when.ns)}, when {when.source}"
        text = f"its signer dates it {shown_time(claimed)}, and {ended}: which came first is not known"
        return Refusal("not-compared", text)
    return Refusal("not-allowed", f"the key {key} {reason} (judged at {shown_time(when.ns)}, when {when.source})")


def check_roles(report: Reporter, data: bytes, history: RoleHistory, vault_id: str, record: int) -> None:
    """Checks that `roles.json`, as the record with this number states it, says what the records up to it say."""
    try:
        found = decode_roles(data)
    except MalformedDocumentError as error:
        report.report(Check.VAULT, "trust-file", error.message, ROLES)
        return
    if history.is_known and found != history.roles(vault_id, record):
        report.report(
            Check.VAULT, "trust-changed", f"{ROLES} says something else than the records of the vault's own chain", ROLES
        )


def report_untold(report: Reporter, trust: TrustLists, history: RoleHistory, vault_keys: Collection[str]) -> None:
    """Says, as an information, which keys may do everything because nobody has ever said what they may do."""
    if not history.is_known or history.is_limited:
        return
    open_keys = {one.key for one in trust.signers.signers if one.valid_before is None and not trust.revoked.refuses(one.key)}
    untold = {key.fingerprint for key in open_keys} - history.changes.keys() - {*vault_keys}
    if untold:
        keys = count_text(len(untold), "key")
        text = f"nobody has said what {keys} may do, and so each may do everything in every case: the vault is older than roles"
        report.report(Check.VAULT, "roles-not-stated", text)
