"""`verify` of a vault on another machine: it verifies itself, and signs the verdict, which is checked and kept here."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from evidencesync.cli.lines import wrapped
from evidencesync.errors import EvidenceSyncError, InternalError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from evidencesync.acquire.reading_session import ReadingSession
    from evidencesync.acquire.verdict import SignedVerdict, VerdictRequest
    from evidencesync.cli.command import Run
    from evidencesync.cli.options import KeyChoice, PartChoice, RemoteChoice
    from evidencesync.cli.reading import ReadableVault
    from evidencesync.cli.verify_record import Append, Verifier
    from evidencesync.connection.link import Link
    from evidencesync.custody.sshsig import SigningKey
    from evidencesync.custody.timestamp import Roots
    from evidencesync.outside import NewFile
    from evidencesync.ssh.address import Address
    from evidencesync.verify.findings import ByVault, FarVerdict, Outcome, Verdict

_SIGNATURE: Final = ".sig"
_ITS_WORD: Final = (
    "that signature, and what this machine remembers of the vault, were checked here; its documents and evidence were not"
)


def verify_afar(
    run: Run,
    address: Address,
    part: PartChoice,
    reader: KeyChoice | SigningKey,
    ssh: RemoteChoice,
    *,
    all_digests: bool,
    output: str | None,
    to_record: str | None = None,
) -> tuple[FarVerdict, ExitCode]:
    """Has a far vault verified, and compares its verdict with what this machine remembers of the vault.

    `to_record`: see VerdictRequest. `output`: the file in which the signed verdict is kept; also returns the exit code of keeping
    it. Raises what the vault refuses us with, and what is wrong with its answer.
    """
    from evidencesync.acquire.custody import RETRIES
    from evidencesync.acquire.verdict import VerdictRequest
    from evidencesync.cli.own_state import audit_memory
    from evidencesync.cli.reading import reader_key
    from evidencesync.localstate.heads import RecalledHeads
    from evidencesync.verify.audit import AuditScope
    from evidencesync.verify.from_afar import compared

    recalled = RecalledHeads(audit_memory(run))
    with contextlib.ExitStack() as stack:
        place = None if output is None else stack.enter_context(_place_for(output))  # before a check that may take hours
        request = VerdictRequest(
            vault=os.fsencode(address.path),
            signer=reader_key(run, reader, ssh),
            session=secrets.token_hex(16),
            scope=AuditScope(part.case, part.item, part.acquisition),
            all_digests=all_digests,
            timeout_seconds=ssh.timeout_seconds(run.settings),
            retries=RETRIES,
            to_record=to_record,
        )
        signed = _ask(run, connecting(run, address, ssh), request, recalled.recall_before)
        verdict = compared(signed.verdict, signed.keys, recalled, time.time_ns())
        return _kept(run, address, verdict, signed, place)


@dataclasses.dataclass(frozen=True, slots=True)
class OwnCheck:
    """How fetched documents are checked here. `signers`: an allowed_signers file; `now_ns`: the time of the check."""

    part: PartChoice
    signers: bytes | None = None
    all_digests: bool = False
    roots: Roots | None = None
    require_timestamp: bool = False
    expect_head: str | None = None
    now_ns: int | None = None


def fetched_vault(
    run: Run, text: str, part: PartChoice, reader: KeyChoice | SigningKey, ssh: RemoteChoice
) -> AbstractContextManager[ReadableVault]:
    """Opens a vault with all of the manifests of a part of it; one on another machine can be verified by `verify_fetched`."""
    from evidencesync.cli.reading import readable_vault

    whole = None if part.acquisition is None else [part.acquisition]
    return readable_vault(run, text, reader, ssh, (part.case, part.item), whole, rows=False, asks_more=True)


def verify_fetched(run: Run, readable: ReadableVault, check: OwnCheck, output: str | None = None) -> tuple[FarVerdict, ExitCode]:
    """Checks the documents of a far vault, which were fetched, and has the vault read its evidence over the same link.

    `output` as in `verify_afar`; so are what is returned, and what is raised.
    """
    from evidencesync.acquire.custody import RETRIES
    from evidencesync.acquire.verdict import VerdictRequest
    from evidencesync.cli.progress_display import VerifyView, shown
    from evidencesync.verify.audit import AuditScope, audit_vault
    from evidencesync.verify.context import VerifyProgress
    from evidencesync.verify.from_afar import joined

    if readable.far is None or readable.address is None:
        raise InternalError("documents that were not fetched are to be checked as such")
    far, part = readable.far, check.part

    def is_wanted() -> bool:
        far.session.keep_alive()
        return True

    with contextlib.ExitStack() as stack:
        place = None if output is None else stack.enter_context(_place_for(output))
        progress = VerifyProgress(is_wanted=is_wanted)
        with shown(run.console, VerifyView(progress, "checking documents")):
            here = audit_vault(
                readable.vault.layout.root,
                case=part.case,
                item=part.item,
                acquisition=part.acquisition,
                trusted=check.signers,
                expect_head=check.expect_head,
                memory=readable.memory,
                all_digests=check.all_digests,
                roots=check.roots,
                require_timestamp=check.require_timestamp,
                progress=progress,
                now_ns=time.time_ns() if check.now_ns is None else check.now_ns,
                fetched=True,
            )
        request = VerdictRequest(
            vault=far.request.vault,
            signer=far.request.signer,
            session=far.request.session,
            scope=AuditScope(part.case, part.item, part.acquisition),
            all_digests=check.all_digests,
            timeout_seconds=far.request.timeout_seconds,
            retries=RETRIES,
        )
        signed = _ask(run, far.connect, request, lambda _: None, far.session)
        verdict = joined(here, readable.vault.keys.current, signed.verdict, signed.keys, readable.memory, time.time_ns())
        return _kept(run, readable.address, verdict, signed, place, here.verdict)


def _kept(
    run: Run,
    address: Address,
    verdict: Verdict,
    signed: SignedVerdict,
    place: NewFile | None,
    documents: Outcome | None = None,
) -> tuple[FarVerdict, ExitCode]:
    """The verdict with who has verified what; and the exit code of keeping the vault's signed one."""
    from evidencesync.verify.findings import ByVault, FarVerdict

    code = ExitCode.COMPLETE if place is None else _keep(run, signed, place)
    kept = None if place is None or code is not ExitCode.COMPLETE else place.shown
    said, shown = signed.verdict, safe_text(address.display())
    by = ByVault(shown, said.vault_key, said.tool, said.begun, said.ended, kept, said.verdict.verdict, documents)
    return FarVerdict(**msgspec.structs.asdict(verdict), by_vault=by), code


def appending(run: Run, address: Address, ssh: RemoteChoice, verifier: Verifier) -> Append:
    """Returns what appends a record to the chain of an item of a far vault."""
    from evidencesync.acquire.custody import RETRIES

    return lambda name, draft: verifier.append_over(
        connecting(run, address, ssh),
        os.fsencode(address.path),
        name,
        draft,
        timeout_seconds=ssh.timeout_seconds(run.settings),
        retries=RETRIES,
    )


def append_to(run: Run, readable: ReadableVault, ssh: RemoteChoice, verifier: Verifier) -> Append:
    """The same for an item of a vault that is open, wherever it lies."""
    if readable.address is not None:
        return appending(run, readable.address, ssh, verifier)
    return partial(verifier.append, readable.vault.layout.root)


def connecting(run: Run, address: Address, ssh: RemoteChoice) -> Callable[[], Link]:
    """Returns what connects to a far vault."""
    from evidencesync.acquire.connect import connect_to_vault
    from evidencesync.cli.terminal import person_at

    return lambda: connect_to_vault(address, ssh.options(run.settings, person_at(run.console)))


def _ask(
    run: Run,
    connect: Callable[[], Link],
    request: VerdictRequest,
    recall: Callable[[str], None],
    session: ReadingSession | None = None,
) -> SignedVerdict:
    from evidencesync.acquire.verdict import fetch_verdict
    from evidencesync.cli.progress_display import VerifyView, shown
    from evidencesync.verify.context import VerifyProgress

    progress = VerifyProgress()
    with shown(run.console, VerifyView(progress)):
        return fetch_verdict(connect, request, recall, progress, run.console.print_message, session=session)


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


def by_vault_lines(by: ByVault) -> list[str]:
    """Who has verified what, for people."""
    kept = [] if by.kept is None else [f"its signed verdict is kept: {by.kept}, {by.kept}{_SIGNATURE}"]
    tool = safe_text(by.tool)
    if by.documents is None:
        with_key = wrapped("  ", f"with its own key {by.key}, {tool}")
        return [f"verified by the vault at {by.address}", *with_key, *wrapped("  ", _ITS_WORD), *kept]
    signed = f"signed with its own key {by.key}, {tool}, for these documents; what it says of its bytes is its word"
    return [
        f"documents: fetched, and checked here: {by.documents.upper()}",
        f"evidence:  read by the vault at {by.address}: {by.verdict.upper()}",
        *wrapped("  ", signed),
        *kept,
    ]
