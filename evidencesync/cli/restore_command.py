"""`restore`: makes a working copy of an acquisition, with the metadata that the source had."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.help_text import SIGNING, WHAT
from evidencesync.cli.lines import wrapped
from evidencesync.cli.log_choice import LogOption, log_places, logged
from evidencesync.cli.number_format import kinds_text, parse_rate
from evidencesync.cli.options import ItemChoice, OwnSigners, RemoteChoice, SignChoice, VaultAddress, vault_address
from evidencesync.cli.own_state import RunFolders
from evidencesync.cli.progress_display import shown
from evidencesync.cli.reading import ReadableVault, readable_vault
from evidencesync.cli.restore_view import RestoreView
from evidencesync.errors import EvidenceSyncError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.home import expand

if TYPE_CHECKING:
    from evidencesync.acquire.far_contents import FarCounts
    from evidencesync.acquire.local_basis import LocalBasis
    from evidencesync.cli.file_outputs import LackOutput, RestoreOutput
    from evidencesync.cli.settings import Settings
    from evidencesync.cli.verify_record import Verifier
    from evidencesync.evidence.identity import ItemName
    from evidencesync.restore.contents import OpenContents
    from evidencesync.restore.restore import Restored, RestoreRequest
    from evidencesync.vault.item import VaultItem

_NAMED: Final = 10  # of each kind, for people; `--json` has more
_NAMED_HARMLESS: Final = 3  # of what is no failure: an ordinary user lacks the owner of nearly every entry
_ALL: Final = "all"
_MAX_SCOPE: Final = 2000  # characters of the paths that a record names


@dataclasses.dataclass(frozen=True, slots=True)
class AcquisitionChoice(ItemChoice):
    """Which acquisition of an exhibit."""

    GROUP: ClassVar = WHAT

    acquisition: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=9999, help="Number of the acquisition.  [default: the last]")
    ] = None


@dataclasses.dataclass(frozen=True, slots=True)
class CopyChoice:
    """Which metadata the copy gets, and what happens if a file is damaged in the vault."""

    log: LogOption = None
    devices: Annotated[bool, typer.Option("--devices", help="Make device nodes, too (as root).")] = False
    set_id: Annotated[
        bool,
        typer.Option("--set-id", help="Set set-id bits and file capabilities, too, where the original owner could be set."),
    ] = False
    by_name: Annotated[
        bool, typer.Option("--by-name", help="Set owners by name where this system knows the name.  [default: by number]")
    ] = False
    on_damage: Annotated[
        str,
        typer.Option(
            metavar="fail|skip",
            help="If a file is damaged in the vault: restore nothing (fail), or leave it out and end with 30 (skip).",
        ),
    ] = "fail"
    no_read_back: Annotated[
        bool, typer.Option("--no-read-back", help="Do not read the copy back from the disk. BLAKE3 is compared while writing.")
    ] = False
    trusted: OwnSigners = None
    basis: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="For a vault on another machine: a folder here, such as an older restore. What it has is not sent again.",
        ),
    ] = None
    limit_rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            envvar="EVIDENCESYNC_LIMIT_RATE",
            help="From a vault on another machine, bytes a second at most: 5MB, 2MiB (2M is the same), or a number.",
        ),
    ] = None

    def rate(self, settings: Settings) -> int | None:
        """The rate in bytes a second (None: no limit). Raises UsageError."""
        limit = self.limit_rate or settings.limit_rate
        return parse_rate(limit) if limit else None


@dataclasses.dataclass(frozen=True, slots=True)
class CopyRecordChoice(SignChoice):
    """Whether the copy is recorded, and who signs the record. The key is proved to a vault on another machine, too."""

    GROUP: ClassVar = SIGNING

    record: Annotated[bool, typer.Option("--record", help="Append a signed record of the copy to the item's custody chain.")] = (
        False
    )


def add_commands(app: typer.Typer) -> None:
    """Adds `restore`."""
    command(
        app,
        "restore",
        "evidencesync restore /srv/vault ~/copies/laptop --case 2024-017 --item LAPTOP-1",
        "evidencesync restore /srv/vault ~/copies/mail --case 2024-017 --item LAPTOP-1 --acquisition 2 home/ana/mail etc/passwd",
        "evidencesync restore /srv/vault ~/copies/laptop --case 2024-017 --item LAPTOP-1 --record -i ~/.ssh/ana",
        "# From another machine; what an older copy has is not sent again:",
        "evidencesync restore ana@vault.lab:/srv/vault ~/copies/new --case 2024-017 --item LAPTOP-1 --basis ~/copies/laptop",
        "# As root, with all metadata:",
        "evidencesync restore /srv/vault /mnt/lab/copy --case 2024-017 --item SERVER --devices --set-id",
    )(restore_copy)


def restore_copy(
    run: Run,
    vault: VaultAddress,
    destination: Annotated[str, typer.Argument(metavar="DEST", help="The folder to make. It may exist if it is empty.")],
    item: AcquisitionChoice,
    choice: CopyChoice,
    recording: CopyRecordChoice,
    ssh: RemoteChoice,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Files and folders, relative to the source.  [default: all]")
    ] = None,
) -> ExitCode:
    """Makes a working copy with the original metadata. The vault is only read, and the copy shares no file with it.

    The documents are checked first, as by `verify`. Every byte is compared with the manifest as it is written, and read back.
    DEST appears when the copy is complete, or not at all. Metadata and files that this system cannot store are counted and
    named. The code is 3 if a file is missing for that reason, or because it could not be read when it was acquired.
    """
    if choice.on_damage not in ("fail", "skip"):
        raise UsageError(f"--on-damage is fail or skip, not {safe_text(choice.on_damage, 40)}", hint="Leave it out for fail.")

    def work(logging: Run) -> ExitCode:
        return _restore(logging, vault, destination, item, choice, recording, ssh, paths or [])

    name = item.name()
    of = {"case": name.case.text, "item": name.item.text, "what": safe_text(destination, 300), "vault": safe_text(vault, 300)}
    return logged(run, choice.log, "restore", work, log_places(None, RunFolders(None, None)), of=of)


def _restore(
    run: Run,
    vault: str,
    destination: str,
    item: AcquisitionChoice,
    choice: CopyChoice,
    recording: CopyRecordChoice,
    ssh: RemoteChoice,
    paths: list[str],
) -> ExitCode:
    """Makes the copy, and prints what it lacks."""
    from evidencesync.acquire.known_heads import open_item
    from evidencesync.cli.verify_record import verifier_with
    from evidencesync.restore.restore import RestoreProgress, restore

    limit = choice.rate(run.settings.values)
    verifier = verifier_with(run, recording, ssh.identity_file(run.settings)) if recording.record else None
    reader = recording if verifier is None else verifier.signer
    name, progress = item.name(), RestoreProgress(notify=run.console.print_message)
    with contextlib.ExitStack() as stack:
        basis = _open_basis(vault, choice.basis)
        if basis is not None:
            stack.callback(basis.close)
        whole = (item.acquisition or 0,)
        numbers = item.case, item.item
        opened = readable_vault(run, vault, reader, ssh, numbers, whole, asks_more=True, limit_rate=limit)
        readable = stack.enter_context(opened)
        found = open_item(readable.memory, readable.vault, name)
        number = found.choose_acquisition(item.acquisition)
        view = RestoreView(progress, not choice.no_read_back)
        with shown(run.console, view):
            request = _make_request(readable, found, number, choice, destination, paths)
            open_contents, counts = _contents(run, readable, found.name, number, basis, limit)
            view.far = counts
            restored = restore(request, progress, open_contents)
        output = _output(request, restored, found.name, number, outside=choice.trusted is not None, counts=counts)
        codes = {restored.refusals.exit_code}
        if verifier is not None:
            output, code = _record(output, readable, found.name, verifier)
            codes.add(code)
    run.events.record(
        "restored", acquisition=number, files=sum(output.entries.values()), bytes=output.bytes, verdict=output.verdict
    )
    run.console.print_result(output, restore_lines(output))
    return most_severe(codes)


def _open_basis(vault: str, basis: str | None) -> LocalBasis | None:
    """Opens the folder of --basis. Raises UsageError, also for a vault on this machine, where nothing is sent."""
    if basis is None:
        return None
    if vault_address(vault).local:
        raise UsageError(
            "--basis is for a vault on another machine: from one on this machine nothing is sent", hint="Leave it out."
        )
    from evidencesync.acquire.local_basis import LocalBasis

    return LocalBasis(os.fsencode(expand(basis)))


def _contents(
    run: Run, readable: ReadableVault, name: ItemName, number: int, basis: LocalBasis | None, limit_rate: int | None
) -> tuple[OpenContents, FarCounts | None]:
    """Where the bytes of files come from; and, for a vault on another machine, the counts of what travels."""
    far = readable.far
    if far is None:
        from evidencesync.restore.contents import VaultContents

        return VaultContents.open, None
    from evidencesync.acquire.custody import RETRIES
    from evidencesync.acquire.evidence import EvidenceStream
    from evidencesync.acquire.far_contents import FarContents, FarCounts

    stream = EvidenceStream(far, name.case.text, name.item.text, number, RETRIES)
    stream.events, counts = run.events, FarCounts(stream=stream)
    if limit_rate is not None:
        stream.limit_ahead(limit_rate)
    return lambda acquired: FarContents(acquired, stream, number, counts, basis), counts


def _make_request(
    readable: ReadableVault, item: VaultItem, number: int, choice: CopyChoice, destination: str, paths: list[str]
) -> RestoreRequest:
    """What the command line asks for. Checks the acquisition's documents first, as `verify` does, and raises what is wrong."""
    import time

    from evidencesync.cli.trust_files import load_trusted
    from evidencesync.restore.metadata import MetadataOptions
    from evidencesync.restore.restore import RestoreRequest
    from evidencesync.verify.audit import verified_manifest

    signers = load_trusted(Path(choice.trusted)) if choice.trusted is not None else None
    root, fetched = readable.vault.layout.root, readable.far is not None
    return RestoreRequest(
        vault=root,
        folder=item.layout.acquisition(number),
        manifest_sha256=verified_manifest(root, item.name, number, signers, readable.memory, time.time_ns(), fetched=fetched),
        destination=os.fsencode(expand(destination)) if destination else b"",
        paths=tuple(map(os.fsencode, paths)),
        read_back=not choice.no_read_back,
        devices=choice.devices,
        on_damage="skip" if choice.on_damage == "skip" else "fail",
        metadata=MetadataOptions(by_name=choice.by_name, set_id=choice.set_id),
    )


def _record(output: RestoreOutput, readable: ReadableVault, name: ItemName, verifier: Verifier) -> tuple[RestoreOutput, ExitCode]:
    """Appends a `restored` record. The copy exists already: if the record fails, the output states the problem."""
    import msgspec

    from evidencesync.acquire.custody import RETRIES, RecordDraft

    draft, far = RecordDraft("restored", record_details(output), output.acquisition), readable.far
    try:
        if far is None:
            appended = verifier.append(readable.vault.layout.root, name, draft)
        else:
            timeout_seconds = far.request.timeout_seconds
            appended = verifier.append_over(
                far.connect, far.request.vault, name, draft, timeout_seconds=timeout_seconds, retries=RETRIES
            )
    except EvidenceSyncError as error:
        return msgspec.structs.replace(output, record_problem=verifier.problem(error)), error.exit_code
    return msgspec.structs.replace(output, record=appended.record.sequence), ExitCode.COMPLETE


def record_details(output: RestoreOutput) -> dict[str, str]:
    """The details of the record about the copy."""
    import evidencesync

    return {
        "verdict": output.verdict,
        "host": platform.node() or "unknown",
        "destination": output.destination,
        "scope": output.scope,
        "manifest_sha256": output.manifest_sha256,
        "entries": str(sum(output.entries.values())),
        "bytes": str(output.bytes),
        "read_back": "yes" if output.read_back else "no",
        "lacks": ", ".join(f"{lack} {count}" for lack, count in output.lacks.items()) or "nothing",
        "trust": "signers from outside the vault" if output.trust == "outside" else "the vault's own list of signers",
        "tool": f"evidencesync {evidencesync.__version__}",
    }


def _output(
    request: RestoreRequest, restored: Restored, name: ItemName, number: int, *, outside: bool, counts: FarCounts | None
) -> RestoreOutput:
    from evidencesync.cli.file_outputs import LackOutput, RestoreOutput
    from evidencesync.evidence.path import to_json_fields

    refusals = restored.refusals
    code = refusals.exit_code
    return RestoreOutput(
        case=name.case.text,
        item=name.item.text,
        acquisition=number,
        destination=safe_text(os.path.realpath(request.destination)),
        scope=_scope_text(request.paths),
        manifest_sha256=request.manifest_sha256,
        trust="outside" if outside else "vault",
        verdict="damaged" if code is ExitCode.DIGEST else "gaps" if code is ExitCode.GAPS else "complete",
        entries=restored.counts,
        files=restored.counts.get("file", 0),
        bytes=restored.bytes,
        shared_bytes=restored.shared_bytes,
        read_back=restored.read_back,
        record=None,
        record_problem=None,
        lacks=dict(refusals.counts),
        lacking=[LackOutput(one.lack, *to_json_fields(one.path), one.reason) for one in refusals.named],
        received_bytes=None if counts is None else counts.received,
        basis_bytes=None if counts is None else counts.basis,
        wire_received=None if counts is None else counts.wire_received,
    )


def _scope_text(paths: Sequence[bytes]) -> str:
    """Returns what was chosen: `all`, or the paths as a shell reads them.

    A path that is itself called `all` is quoted, like one with a space: a signed record must not say more than was restored.
    """
    if not paths:
        return _ALL
    words = (safe_text(path) for path in paths)
    text = " ".join(f"'{word}'" if word == _ALL else shlex.quote(word) for word in words)
    half = _MAX_SCOPE // 2
    return text if len(text) <= _MAX_SCOPE else f"{text[:half]} … {text[-half:]}"


def restore_lines(output: RestoreOutput) -> Iterator[str]:
    """The output for people: what the copy lacks, what is in it, and the verdict last."""
    from evidencesync.restore.refusals import LACKS

    for lack, count in output.lacks.items():
        if lack == "owner" and _needs_root(output):
            yield f"owners and groups were not restored: this needs root ({count_text(count, 'entry', 'entries')})"
            continue
        yield f"{LACKS[lack][0]}: {count:,}"
        most = _NAMED_HARMLESS if LACKS[lack][1] is ExitCode.COMPLETE else _NAMED
        named = [one for one in output.lacking if one.lack == lack][:most]
        for one in named:
            yield f"    {_shown_path(one)}" + (f"  ({one.reason})" if one.reason else "")
        if count > len(named):
            yield f"    ... and {count - len(named):,} more"
    item = f"{safe_text(output.case)} / {safe_text(output.item)}"
    yield f"{item}, acquisition {output.acquisition}, restored to {output.destination}"
    shared = f", {size_text(output.shared_bytes)} of it in blocks shared with the vault" if output.shared_bytes else ""
    yield f"  {kinds_text(output.entries)}; {size_text(output.bytes)}{shared}{_travelled_text(output)}"
    compared = "compared with the manifest as it was written" + (", and read back" if output.read_back else "; not read back")
    yield f"  manifest {output.manifest_sha256}"
    yield f"  every byte {compared}"
    if output.record is not None:
        yield f"  recorded in the custody chain: record {output.record}"
    if output.record_problem is not None:
        yield from wrapped("  ", f"NOT RECORDED in the custody chain: {output.record_problem.message}")
    yield f"  {output.verdict}"


def _needs_root(output: RestoreOutput) -> bool:
    """Whether owners could not be set because an ordinary user never may: then each entry says the same."""
    denied = os.strerror(errno.EPERM)
    return os.geteuid() != 0 and all(denied in (one.reason or "") for one in output.lacking if one.lack == "owner")


def _travelled_text(output: RestoreOutput) -> str:
    """How much of a copy from another machine travelled; nothing for one from this machine."""
    if output.received_bytes is None or output.wire_received is None:
        return ""
    basis = f", {size_text(output.basis_bytes)} of it from the basis" if output.basis_bytes else ""
    compressed = ", compressed" if output.wire_received < output.received_bytes else ""
    return f"{basis}; travelled {size_text(output.wire_received)}{compressed}"


def _shown_path(one: LackOutput) -> str:
    from evidencesync.evidence.path import from_json_fields

    return safe_text(from_json_fields(one.path, one.path_b64)) or "."
