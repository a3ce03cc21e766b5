"""Judges a seal in a vault that demands two people for it, by the history of the rule in the vault's own chain."""

from __future__ import annotations

from typing import NamedTuple

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.roles import RoleHistory
from evidencesync.custody.seal_proposals import SealProposal, SealProposals
from evidencesync.custody.trust_requests import PROPOSAL
from evidencesync.evidence.utc_time import shown_time
from evidencesync.verify.checks import Check
from evidencesync.verify.findings import Reporter
from evidencesync.verify.signed_at import SignedAt


class Seal(NamedTuple):
    """A `sealed` record: the proposal that it consents to, if there is one, and whether it names any.

    One that it names and that is not there is an error of the chain, or could not be read: nobody says that one person acted.
    """

    proposal: SealProposal | None
    names_one: bool


def seal_of(record: CustodyRecord, proposals: SealProposals) -> Seal:
    """Reads a `sealed` record, before it is added to its chain."""
    return Seal(proposals.find(record.details), PROPOSAL in record.details)


def check_seal(report: Reporter, check: Check, name: str, seal: Seal, history: RoleHistory, at: SignedAt) -> None:
    """Checks that a seal had two people where the vault demanded them. A history that is not known has findings of its own."""
    found = seal.proposal
    if not history.is_known:
        return
    needed = not seal.names_one and history.needed_two("seal", at.ns, at.stated_by)
    if needed:
        text = f"the vault demanded two people to seal an item at {shown_time(at.ns)}, and only one has signed"
        report.report(check, "not-allowed", f"{name}: {text}", name)
    elif needed is None:
        text = "only one has signed; whether the vault demanded two then is not known: its record of the rule is dated later"
        report.report(check, "not-compared", f"{name}: {text}", name)
    elif found is not None and at.ns >= found.lapses_ns:  # by its signer's clock it was in time: what came first is not known
        text = (
            f"the proposal in record {found.record} lapsed at {shown_time(found.lapses_ns)}, and the vault states the seal later"
        )
        report.report(check, "not-compared", f"{name}: {text}", name)
