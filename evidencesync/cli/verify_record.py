"""`verify --record`: appends the verdict as a signed record to the chain of every item that was verified.

Also the signer with whom `report --sign`, `export --record` and `restore --record` append their records.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

import evidencesync
from evidencesync.cli.custody_outputs import RecordedItem, RecordedVerdict
from evidencesync.cli.options import DEFAULT_TIMEOUT_SECONDS
from evidencesync.cli.outputs import Problem
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.display import escape_line, safe_text
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.verify.findings import FarVerdict

if TYPE_CHECKING:
    from evidencesync.acquire.custody import Appended, RecordDraft
    from evidencesync.acquire.custody_exchange import ChainRecord, CustodyRequest
    from evidencesync.cli.command import Run
    from evidencesync.cli.options import PartChoice, SignChoice
    from evidencesync.connection.link import Link
    from evidencesync.custody.sshsig import SigningKey
    from evidencesync.custody.trust import TrustLists
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.verify.findings import ByVault, Finding, Findings, Head, Verdict

_UNFINISHED: Final = frozenset({ExitCode.INTERNAL, ExitCode.USAGE, ExitCode.INTERRUPTED})


@dataclasses.dataclass(frozen=True, slots=True)
class Verifier:
    """The person who verifies, with a key that is ready to sign, and the remembered heads of this machine.

    `warn` is called with what goes wrong after a record was added, `print_hint` with the error of one that was not.
    """

    examiner: str
    organisation: str | None
    signer: SigningKey
    memory: HeadMemory
    warn: Callable[[str], None]
    print_hint: Callable[[EvidenceSyncError], None]

    def problem(self, error: EvidenceSyncError) -> Problem:
        """What an output states of an error with which a record was refused. The hint is printed."""
        self.print_hint(error)
        return Problem(error.slug, escape_line(error.message))

    def append(self, vault: Path, name: ItemName, draft: RecordDraft) -> ChainRecord:
        """Appends a record to the chain of an item of a vault on this machine. Raises what the vault refuses it with."""
        from evidencesync.acquire.connect import connect_to_vault
        from evidencesync.ssh.address import Address
        from evidencesync.ssh.options import SshOptions

        address = Address.parse(str(vault.absolute()))
        return self.append_over(lambda: connect_to_vault(address, SshOptions()), bytes(vault), name, draft)

    def append_over(
        self,
        connect: Callable[[], Link],
        vault: bytes,
        name: ItemName,
        draft: RecordDraft,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = 0,
    ) -> ChainRecord:
        """The same of a vault anywhere; `vault` is its path as the other end knows it."""
        from evidencesync.acquire.custody import append_record

        request = self.request(vault, name, timeout_seconds=timeout_seconds, retries=retries)
        return self.taken(append_record(connect, request, lambda _: draft))

    def request(self, vault: bytes, name: ItemName, *, timeout_seconds: float, retries: int) -> CustodyRequest:
        """Whose chain is asked for, and by whom."""
        import secrets

        from evidencesync.acquire.custody_exchange import CustodyRequest

        return CustodyRequest(
            vault=vault,
            name=name,
            examiner=self.examiner,
            signer=self.signer,
            session=secrets.token_hex(16),
            memory=self.memory,
            organisation=self.organisation,
            timeout_seconds=timeout_seconds,
            retries=retries,
        )

    def taken(self, appended: Appended) -> ChainRecord:
        """The record that the vault took. Warns where this machine could not remember the new head."""
        if appended.unremembered is not None:
            self.warn(f"the record is in the chain, but its head was not remembered here: {appended.unremembered}")
        return appended.record


def verifier_with(run: Run, choice: SignChoice, identity: Path | None) -> Verifier:
    """The person and the key that sign a record; `identity`: the key for SSH. It may ask for a passphrase: call it early.

    Raises SigningKeyError, UsageError.
    """
    from evidencesync.cli.own_state import head_memory
    from evidencesync.cli.terminal import make_asker
    from evidencesync.ssh.keys import load_signer

    asker, person = make_asker(run.console.terminal), choice.person(run.settings.values)
    return Verifier(
        person.name,
        person.organisation,
        load_signer(choice.key_choice(run.settings), identity, asker),
        head_memory(run),
        run.console.warn,
        run.console.print_hint,
    )


def require_recorder(load_trust: Callable[[], TrustLists], verifier: Verifier, case: str | None, without: str) -> None:
    """Raises what the vault will refuse a record with, before a check that may take hours.

    `case` is None for a record in any case. `without` says how no record is asked for. Trust that cannot be read is left to
    that check.
    """
    import time

    from evidencesync.errors import UntrustedSignerError

    try:
        trust = load_trust()
    except EvidenceSyncError:
        return
    try:
        trust.check_recorder(verifier.signer.public_key, case, time.time_ns())
    except UntrustedSignerError as error:
        if error.hint == UntrustedSignerError.default_hint:  # said of the keys of others in another way
            error.hint = f"{without} {UntrustedSignerError.default_hint}"
        raise


Append = Callable[[ItemName, "RecordDraft"], "ChainRecord"]
"""Appends a record to the chain of an item of one vault. Raises what the vault refuses it with."""


def record_verdict(verdict: Verdict, part: PartChoice, verifier: Verifier, append: Append) -> RecordedVerdict:
    """Appends a `verified` record to every item that was verified. A failure is reported for its item; the others go on."""
    recorded = [
        _record_item(verdict, head, part, verifier, append)
        for head in verdict.heads
        if head.case is not None and head.item is not None
    ]
    return RecordedVerdict(**msgspec.structs.asdict(verdict), recorded=recorded)


def exit_code(verdict: RecordedVerdict) -> ExitCode:
    """The verdict's own exit code, or a more severe one if it could not be recorded."""
    codes = {ExitCode(verdict.exit_code)}
    codes |= {ExitCode(one.problem_code) for one in verdict.recorded if one.problem_code is not None}
    if verdict.exit_code:
        codes -= _UNFINISHED - {ExitCode(verdict.exit_code)}
    return most_severe(codes)


def _record_item(verdict: Verdict, head: Head, part: PartChoice, verifier: Verifier, append: Append) -> RecordedItem:
    from evidencesync.acquire.custody import RecordDraft

    name = ItemName(Title(head.case or ""), Title(head.item or ""))
    own = _own_findings(verdict, name)
    details = verdict_details(verdict, own, head, part.scope)
    try:
        sequence = append(name, RecordDraft("verified", details, part.acquisition)).record.sequence
    except EvidenceSyncError as error:
        problem = verifier.problem(error)
        return RecordedItem(name.case.text, name.item.text, own.outcome, int(own.exit_code), None, problem, int(error.exit_code))
    return RecordedItem(name.case.text, name.item.text, own.outcome, int(own.exit_code), sequence, None, None)


def verdict_details(verdict: Verdict, own: Findings, head: Head, scope: str) -> dict[str, str]:
    """The details of the record. The outcome is that of the item and of the vault as a whole; counts are those of the run."""
    from evidencesync.verify.findings import own_records

    severities = Counter(finding.severity for finding in own.found)
    checked = verdict.checked
    vault_records = own_records(checked, verdict.heads)
    return {
        "verdict": own.outcome,
        "exit_code": str(int(own.exit_code)),
        "scope": scope,
        "digests": ", ".join(verdict.digests),
        "errors": str(severities["error"]),
        "warnings": str(severities["warning"]),
        "acquisitions": str(checked.acquisitions),
        "records": str(checked.records - vault_records),
        "vault_records": str(vault_records),
        "files": str(checked.files),
        "bytes": str(checked.bytes),
        "trust": "signers from outside the vault" if verdict.trust == "outside" else "the vault's own list of signers",
        "chain_head": f"{head.sequence} {head.sha256}",
        "tool": f"evidencesync {evidencesync.__version__}",
        **({"checked_by": _who_checked(verdict.by_vault)} if isinstance(verdict, FarVerdict) else {}),
    }


def _who_checked(by: ByVault) -> str:
    the_vault = f"the vault itself, {by.tool}"
    return the_vault if by.documents is None else f"documents: the person who signs this; evidence: {the_vault}"


def _own_findings(verdict: Verdict, name: ItemName) -> Findings:
    """The findings that concern an item: its own, those of its case, and those of the vault.

    If some findings of the run are not listed, it is not known which items they concern: then all findings count.
    """
    from evidencesync.verify.findings import Findings

    own = Findings()
    is_cut = any(finding.slug == "not-listed" for finding in verdict.findings)
    for finding in verdict.findings:
        if is_cut or _concerns(finding, name):
            own.add(finding)
    return own


def _concerns(finding: Finding, name: ItemName) -> bool:
    """Whether a finding is about an item. It names case and item by numbers, or by folders if there are no documents."""
    case = finding.case in (None, name.case.text, name.case.folder)
    return case and finding.item in (None, name.item.text, name.item.folder)


def recorded_lines(verdict: RecordedVerdict) -> list[str]:
    """The records that were appended, for people."""
    lines = []
    for one in verdict.recorded:
        whose = f"{safe_text(one.case)} / {safe_text(one.item)}"
        if one.problem is None:
            lines.append(f"recorded in the chain of {whose}: record {one.record}, {one.verdict}")
        else:
            lines.append(f"NOT RECORDED in the chain of {whose}: {one.problem.message}")
    return lines
