"""`verify` of a vault on another machine: it verifies itself, and signs the verdict, which is checked and kept here."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING, Final

import msgspec

from evidencesync.errors import EvidenceSyncError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from evidencesync.acquire.verdict import SignedVerdict, VerdictRequest
    from evidencesync.cli.command import Run
    from evidencesync.cli.custody_outputs import ByVault, FarVerdict
    from evidencesync.cli.options import KeyChoice, PartChoice, RemoteChoice
    from evidencesync.cli.verify_record import Append, Verifier
    from evidencesync.connection.link import Link
    from evidencesync.custody.sshsig import SigningKey
    from evidencesync.localstate.heads import RecalledHeads
    from evidencesync.outside import NewFile
    from evidencesync.ssh.address import Address

_SIGNATURE: Final = ".sig"


def verify_afar(
    run: Run,
    address: Address,
    part: PartChoice,
    reader: KeyChoice,
    ssh: RemoteChoice,
    *,
    all_digests: bool,
    output: str | None,
    signer: SigningKey | None = None,
) -> tuple[FarVerdict, ExitCode]:
    """Has a far vault verified, and compares its verdict with what this machine remembers of the vault.

    `output`: the file in which the signed verdict is kept; also returns the exit code of keeping it. `signer`: the reader's key,
    where it is loaded already. Raises what the vault refuses us with, and what is wrong with its answer.
    """
    from evidencesync.acquire.custody import RETRIES
    from evidencesync.acquire.verdict import VerdictRequest
    from evidencesync.cli.custody_outputs import FarVerdict
    from evidencesync.cli.own_state import audit_memory
    from evidencesync.cli.terminal import make_asker
    from evidencesync.localstate.heads import RecalledHeads
    from evidencesync.ssh.keys import load_signer
    from evidencesync.verify.audit import AuditScope
    from evidencesync.verify.from_afar import compared

    recalled = RecalledHeads(audit_memory(run))
    with contextlib.ExitStack() as stack:
        place = None if output is None else stack.enter_context(_place_for(output))  # before a check that may take hours
        key, identity = reader.key_choice(run.settings), ssh.identity_file(run.settings)
        request = VerdictRequest(
            vault=os.fsencode(address.path),
            signer=signer or load_signer(key, identity, make_asker(run.console.terminal)),
            session=secrets.token_hex(16),
            scope=AuditScope(part.case, part.item, part.acquisition),
            all_digests=all_digests,
            timeout_seconds=ssh.timeout_seconds(run.settings),
            retries=RETRIES,
        )
        signed = _ask(run, address, ssh, request, recalled)
        verdict = compared(signed.verdict, recalled, time.time_ns())
        code = ExitCode.COMPLETE if place is None else _keep(run, signed, place)
        kept = None if place is None or code is not ExitCode.COMPLETE else place.shown
    return FarVerdict(**msgspec.structs.asdict(verdict), by_vault=_by_vault(address, signed, kept)), code


def appending(run: Run, address: Address, ssh: RemoteChoice, verifier: Verifier) -> Append:
    """Returns what appends a record to the chain of an item of a far vault."""
    from evidencesync.acquire.custody import RETRIES

    return lambda name, draft: verifier.append_over(
        _connecting(run, address, ssh),
        os.fsencode(address.path),
        name,
        draft,
        timeout_seconds=ssh.timeout_seconds(run.settings),
        retries=RETRIES,
    )


def _connecting(run: Run, address: Address, ssh: RemoteChoice) -> Callable[[], Link]:
    from evidencesync.acquire.connect import connect_to_vault
    from evidencesync.cli.terminal import person_at

    return lambda: connect_to_vault(address, ssh.options(run.settings, person_at(run.console)))


def _ask(run: Run, address: Address, ssh: RemoteChoice, request: VerdictRequest, recalled: RecalledHeads) -> SignedVerdict:
    from evidencesync.acquire.verdict import fetch_verdict
    from evidencesync.cli.progress_display import VerifyView, shown
    from evidencesync.verify.context import VerifyProgress

    progress = VerifyProgress()
    with shown(run.console, VerifyView(progress)):
        return fetch_verdict(_connecting(run, address, ssh), request, recalled.recall_before, progress, run.console.print_message)


def _place_for(output: str) -> NewFile:
    """The file for the signed verdict, beside which its signature lies. Raises UsageError where it cannot be made."""
    from evidencesync.home import expand_new_file
    from evidencesync.outside import NewFile

    place = NewFile(expand_new_file(output), hint="Name another file: -o FILE")
    try:
        place.claim(_SIGNATURE)
    except UsageError:
        place.close()
        raise
    return place


def _keep(run: Run, signed: SignedVerdict, place: NewFile) -> ExitCode:
    """Writes the signed verdict. What was found is more than where it is kept: a file that cannot be written is a warning."""
    try:
        with place.writing() as file:
            file.write(signed.document)
        with place.writing(_SIGNATURE) as file:
            file.write(signed.signature)
    except EvidenceSyncError as error:
        place.take_back()
        run.console.warn(f"the signed verdict was not kept: {error.message}")
        return error.exit_code
    return ExitCode.COMPLETE


def _by_vault(address: Address, signed: SignedVerdict, kept: str | None) -> ByVault:
    from evidencesync.cli.custody_outputs import ByVault

    said = signed.verdict
    return ByVault(safe_text(address.display()), said.vault_key, said.tool, said.begun, said.ended, kept)


def by_vault_lines(by: ByVault) -> list[str]:
    """Who has verified, for people."""
    kept = [] if by.kept is None else [f"its signed verdict is kept: {by.kept}, {by.kept}{_SIGNATURE}"]
    return [
        f"verified by the vault at {by.address} with its own key {by.key}, {safe_text(by.tool)}",
        "  that signature, and what this machine remembers of the vault, were checked here; its documents and evidence were not",
        *kept,
    ]
