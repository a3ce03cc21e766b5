"""`receipts`: lists and checks the receipts and remembered heads that this machine keeps of its pushes, and forgets heads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.lines import width_of, wrapped
from evidencesync.cli.options import local_vault, vault_address
from evidencesync.cli.own_state import chosen_receipts, head_memory
from evidencesync.cli.reading import unread_is_incomplete
from evidencesync.errors import CommandKind, IncompleteError, NotThereError, StorageError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.meant import did_you_mean, nearest
from evidencesync.evidence.number_format import count_text, notebook_fingerprint, time_text
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.files.shortages import is_shortage, unexpected
from evidencesync.home import expand

if TYPE_CHECKING:
    from evidencesync.cli.custody_outputs import KeptReceipt, ReceiptsCheckOutput, SeenHeadOutput
    from evidencesync.cli.outputs import Problem
    from evidencesync.custody.chain import ChainOrder
    from evidencesync.errors import EvidenceSyncError
    from evidencesync.evidence.identity import ItemName
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.localstate.receipt_checks import CheckedReceipt
    from evidencesync.vault.vault import Vault

_VERDICTS: Final[dict[ExitCode, Literal["pass", "incomplete"]]] = {
    ExitCode.COMPLETE: "pass",
    ExitCode.GAPS: "incomplete",
    ExitCode.NOT_THERE: "incomplete",
}
"""The verdict by the exit code; `fail` for all others."""

_Receipts = Annotated[
    str | None,
    typer.Option(
        "--receipts",
        metavar="DIR",
        envvar="EVIDENCESYNC_RECEIPTS",
        help="Where receipts are kept.  [default: ~/.local/share/evidencesync/receipts]",
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Adds `receipts list`, `receipts check` and `receipts forget-head`."""
    receipts = group(
        app,
        "receipts",
        "Shows what this machine keeps of its pushes: signed documents, and how far it has seen the chains of vaults.",
    )
    command(
        receipts,
        "list",
        "evidencesync receipts list",
        "evidencesync receipts list --receipts /media/usb/receipts --json",
        kind=CommandKind.SHOWS,
    )(list_receipts)
    command(
        receipts,
        "check",
        "evidencesync receipts check",
        "evidencesync receipts check ~/.local/share/evidencesync/receipts/2024-017-LAPTOP-1-0001 --trusted my_signers",
        "# Whether the vault still has what it signed for:",
        "evidencesync receipts check --vault /srv/vault",
    )(check_receipts)
    command(
        receipts,
        "forget-head",
        "evidencesync receipts forget-head 348ba87bfcd2cca1f5e9938fc0b1b3ee",
        "evidencesync receipts forget-head 348ba87bfcd2cca1f5e9938fc0b1b3ee --case 2024-017 --item LAPTOP-1 --yes",
        kind=CommandKind.CHANGES,
    )(forget_head)


def list_receipts(run: Run, receipts: _Receipts = None) -> ExitCode:
    """Lists the receipts that are kept here, and the remembered chain heads. Nothing is verified: see `receipts check`.

    One line for each; with -v all that it says, and where it is kept.
    """
    from evidencesync.cli.custody_outputs import ReceiptsListOutput
    from evidencesync.localstate.receipt_checks import read_kept

    found = [read_kept(folder) for folder in _folders(run, receipts, [], may_be_missing=True)]
    heads, problems = _heads(head_memory(run))
    output = ReceiptsListOutput([_output(one) for one in found], heads, [_problem(error) for error in problems])
    brief = not run.console.verbose
    lines = [line for one in output.receipts for line in (_brief_lines(one) if brief else _receipt_lines(one))] or ["no receipts"]
    if output.receipts and brief:
        lines.insert(0, "receipts (times are UTC, when received; with -v all that they say)")
    for head in heads:
        whose = "the vault's own chain" if head.case is None else f"{safe_text(head.case)} / {safe_text(head.item or '')}"
        lines += wrapped("", f"{whose}: seen up to record {head.sequence} on {time_text(head.seen)}")
        lines += [] if brief else [f"  vault        {head.vault_id}", f"  chain head   {head.sha256}"]
    lines += [f"CANNOT BE READ: {one.message}" for one in output.problems]
    run.console.print_result(output, lines)
    return most_severe({error.exit_code for error in [*problems, *(bad for one in found for bad in one.problems)]})


def check_receipts(
    run: Run,
    folders: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FOLDER]...", help="Folders of receipts to check.  [default: all that are kept]"),
    ] = None,
    receipts: _Receipts = None,
    trusted: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Your allowed_signers file: who may sign. Without it, no key counts as trusted or untrusted."
        ),
    ] = None,
    vault: Annotated[
        str | None,
        typer.Option(metavar="VAULT", help="Also check that this local vault still has every record that it signed."),
    ] = None,
) -> ExitCode:
    """Checks receipts without the vault: signatures, the manifest, and records against each other.

    One line for each that is good; with -v all that it says, and where it is kept.

    Ends with 34 if the vault lacks a record that it has signed, or has a different one.
    """
    import time

    from evidencesync.cli.custody_outputs import ReceiptsCheckOutput
    from evidencesync.cli.trust_files import load_trusted
    from evidencesync.custody.trust import TrustedSigners
    from evidencesync.localstate.receipt_checks import check_kept

    signers = TrustedSigners.parse(load_trusted(Path(trusted))) if trusted is not None else None
    if folders is not None and len(folders) == 1 and _holds_receipts(expand(folders[0])):
        receipts, folders = folders[0], None
    kept = _folders(run, receipts, folders or [])
    opened = _open_vault(vault, kept) if vault is not None else None
    order, problems = _order(opened) if opened is not None and signers is not None else (None, [])
    found = [check_kept(folder, signers, time.time_ns(), order) for folder in kept]
    if opened is not None:
        found = _compare_with(opened, found, head_memory(run), named=bool(folders))
        for one in found:
            one.problems += problems
    code = most_severe({error.exit_code for one in found for error in one.problems})
    output = ReceiptsCheckOutput(
        _VERDICTS.get(code, "fail"),
        "outside" if signers is not None else "not judged",
        safe_text(vault) if vault is not None else None,
        [_output(one) for one in found],
    )
    run.console.print_result(output, _check_lines(output, others=len(kept) - len(found), brief=not run.console.verbose))
    return code


def _check_lines(output: ReceiptsCheckOutput, *, others: int, brief: bool) -> Iterator[str]:
    """The outcome of a check for people. `others` is how many receipts of other vaults were not checked."""
    for one in output.receipts:
        yield from _brief_lines(one) if brief and not one.problems else _receipt_lines(one)
    trust = "signers from outside" if output.trust == "outside" else "who signed was not judged: bring --trusted"
    compared = f"; compared with the vault {output.vault}" if output.vault is not None else ""
    if others:
        compared += f"; {count_text(others, 'receipt')} of other vaults not checked"
    yield f"checked {count_text(len(output.receipts), 'receipt')}; {trust}{compared}"
    last = max((one.received for one in output.receipts if one.received is not None), default=None)
    if output.vault is not None and last is not None:
        yield f"  the last receipt is of {time_text(last)}: of what the vault was given later, receipts say nothing"
    yield f"verdict: {output.verdict.upper()}"


def forget_head(
    run: Run,
    vault_id: Annotated[str, typer.Argument(metavar="VAULT_ID", help="The vault's id, as `receipts list` shows it.")],
    case: Annotated[str | None, typer.Option(metavar="CASE", help="Only an item of this case; needs --item.")] = None,
    item: Annotated[str | None, typer.Option(metavar="ITEM", help="Only this item; needs --case.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> ExitCode:
    """Forgets the remembered chain heads of a vault: for a vault that was restored from a backup on purpose.

    The chains that the vault shows next are then accepted once. Receipts are kept: compare them with the vault first
    (`evidencesync receipts check --vault VAULT`).
    """
    from evidencesync.cli.custody_outputs import ForgetHeadOutput

    if (case is None) != (item is None):
        raise UsageError(
            "--case and --item name one item together", hint="Give both, or neither: then all of the vault is meant."
        )
    memory = head_memory(run)
    if vault_id not in (known := memory.vaults()):
        near = did_you_mean([one for one in known if one.startswith(vault_id)][:2] or nearest(vault_id, known))
        hint = f"{near}The whole id is shown by: evidencesync receipts list -v"
        raise NotThereError(f"nothing is remembered of a vault {safe_text(vault_id, 40)}", hint=hint)
    if not yes and not run.console.ask(f"Forget what this machine has seen of the vault {safe_text(vault_id, 40)}?"):
        forgotten = 0
    else:
        forgotten = memory.forget(vault_id, case, item)
    output = ForgetHeadOutput(vault_id, case, item, forgotten)
    run.console.print_result(output, [f"forgot {count_text(forgotten, 'chain')}"])
    return ExitCode.COMPLETE


def _open_vault(vault: str, kept: list[Path]) -> Vault:
    """Opens the vault. Raises UsageError for one on another machine, with what takes the receipts there."""
    from evidencesync.vault.vault import Vault

    address = vault_address(vault)
    if not address.local:
        folder = os.path.commonpath([one.absolute().parent for one in kept])
        port = () if address.port is None else ("-P", str(address.port))
        taken = shell_text("scp", "-r", *port, folder, f"{address.host_text}:receipts")
        there = shell_text("evidencesync", "receipts", "check", "--receipts", "receipts", "--vault", address.path_there)
        raise UsageError(
            f"the receipts are here, and the vault is on another machine: {address.display()}",
            hint=f"Take the receipts to it, as somebody who has a shell there: {taken}; then, there: {there}",
        )
    with unread_is_incomplete():
        return Vault.open(local_vault(vault))


def _order(vault: Vault) -> tuple[ChainOrder | None, list[EvidenceSyncError]]:
    """When signers were retired, by the vault's own chain; or why that cannot be read, which is no failure of a receipt."""
    from evidencesync.errors import EvidenceSyncError
    from evidencesync.verify.receipt_comparison import chain_order

    try:
        return chain_order(vault), []
    except StorageError as error:
        return None, [IncompleteError(error.message)]
    except EvidenceSyncError as error:
        return None, [error]


def _compare_with(opened: Vault, found: list[CheckedReceipt], memory: HeadMemory, *, named: bool) -> list[CheckedReceipt]:
    """Adds to each receipt what the vault states differently, and what differs from the heads that this machine remembers.

    Returns the compared receipts: receipts of other vaults are left out, unless their folders were named.
    """
    from evidencesync.verify.receipt_comparison import check_against_vault

    if not named:
        found = [one for one in found if one.receipt is None or one.receipt.vault_id == opened.settings.id]
        if not found:
            raise NotThereError("no receipt of this vault is kept here", hint="See which are: evidencesync receipts list")
    for one in found:
        problems = check_against_vault(one, opened)
        if not problems and one.name is not None and one.receipt is not None:  # otherwise the problem is known already
            problems = _against_memory(memory, opened, one.name)
        one.problems += problems
    return found


def _against_memory(memory: HeadMemory, vault: Vault, name: ItemName) -> list[EvidenceSyncError]:
    from evidencesync.acquire.known_heads import VaultAtHand
    from evidencesync.errors import EvidenceSyncError, RememberedHeadsError

    try:
        VaultAtHand(memory, vault, name).require()
    except (StorageError, RememberedHeadsError) as error:
        return [IncompleteError(error.message)]  # a memory that cannot be read accuses neither receipt nor vault
    except EvidenceSyncError as error:
        return [error]
    return []


def _folders(run: Run, receipts: str | None, named: list[str], *, may_be_missing: bool = False) -> list[Path]:
    from evidencesync.localstate.receipt_folders import is_like_receipt, kept_folders, misplaced_in
    from evidencesync.localstate.receipts import default_receipts

    if named:
        if (missing := next((one for one in named if not os.path.lexists(expand(one))), None)) is not None:
            kept = {one.name: str(one) for one in _kept_in(default_receipts(chosen_receipts(run, receipts)))}
            near = did_you_mean(kept[name] for name in nearest(os.path.basename(missing), kept))
            hint = f"{near}See which receipts are kept: evidencesync receipts list"
            raise NotThereError(f"there is no folder {safe_text(missing, 200)}", hint=hint)
        found = [inner for folder in map(expand, named) for inner in (folder, *misplaced_in(folder))]
        _warn_of_misplaced(run, found)
        return found
    folder = default_receipts(chosen_receipts(run, receipts))
    found, others = [], list[Path]()
    try:
        found, others = kept_folders(folder)
    except FileNotFoundError:
        pass  # nothing was kept yet
    except NotADirectoryError as error:
        raise UsageError(f"{safe_text(str(folder), 200)} is no folder", hint="Name another folder: --receipts DIR") from error
    except OSError as error:
        if is_shortage(error):
            raise unexpected(error) from error
        raise IncompleteError(f"the receipts in {safe_text(str(folder), 200)} cannot be read: {error.strerror}") from error
    if (found or others) and not any(map(is_like_receipt, found)):
        shown = safe_text(str(folder), 200)
        raise UsageError(f"{shown} holds folders, and none of them is a receipt", hint="Name another folder: --receipts DIR")
    if not found and not may_be_missing:
        raise NotThereError(f"no receipts are kept in {safe_text(str(folder), 200)}", hint="Name another folder: --receipts DIR")
    if others:
        shown = safe_text(os.fsencode(others[0]), 200)
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        run.console.print_notice(f"no receipt lies in {count_text(len(others), 'folder')} here: {shown}{more}")
    _warn_of_misplaced(run, found)
    return found


def _holds_receipts(folder: Path) -> bool:
    """Whether a folder is no receipt and holds some: a person has named the place where receipts are kept."""
    from evidencesync.localstate.receipt_folders import is_like_receipt

    return not is_like_receipt(folder) and any(map(is_like_receipt, _kept_in(folder)))


def _kept_in(folder: Path) -> list[Path]:
    """The receipts in a folder; none if it cannot be listed."""
    from evidencesync.localstate.receipt_folders import kept_folders

    try:
        return kept_folders(folder).receipts
    except OSError:
        return []


def _warn_of_misplaced(run: Run, found: list[Path]) -> None:
    for one in (one for one in found if one.parent in found):
        shown, parent = (safe_text(os.fsencode(path), 200) for path in (one, one.parent))
        run.console.warn(f"{shown} lies in the folder of another receipt: it is checked for itself; move it out of {parent}")


def _heads(memory: HeadMemory) -> tuple[list[SeenHeadOutput], list[EvidenceSyncError]]:
    from evidencesync.cli.custody_outputs import SeenHeadOutput
    from evidencesync.errors import EvidenceSyncError

    heads: list[SeenHeadOutput] = []
    problems: list[EvidenceSyncError] = []
    for vault_id in memory.vaults():
        try:
            for one in memory.recall_vault(vault_id):
                subject, chain = one.subject, one.chain
                about = (subject.vault_id, one.vault_key, subject.case, subject.item)
                heads.append(SeenHeadOutput(*about, chain.sequence, chain.sha256, one.seen))
        except EvidenceSyncError as error:
            problems.append(error)
    return heads, problems


def _output(one: CheckedReceipt) -> KeptReceipt:
    from evidencesync.cli.custody_outputs import KeptReceipt

    receipt, acquired, received = one.receipt, one.acquired, one.received
    return KeptReceipt(
        folder=safe_text(os.fsencode(one.folder)),
        vault_id=receipt.vault_id if receipt else None,
        vault_key=receipt.vault_key if receipt else None,
        case=receipt.case if receipt else None,
        item=receipt.item if receipt else None,
        acquisition=receipt.acquisition if receipt else None,
        received=receipt.finished if receipt else None,
        examiner=acquired.actor.key if acquired else None,
        principal=acquired.actor.principal if acquired else None,
        read_back=receipt.points.disk.taken if receipt else None,
        manifest_kept=one.manifest_kept,
        records=one.records,
        manifest_sha256=receipt.manifest_sha256 if receipt else None,
        chain_head_sequence=received.sequence if received else None,
        chain_head_sha256=one.head_sha256,
        problems=[_problem(error) for error in one.problems],
        times_contradict=[safe_text(text, 300) for text in one.contradictions],
    )


def _problem(error: EvidenceSyncError) -> Problem:
    from evidencesync.cli.outputs import Problem
    from evidencesync.evidence.display import escape_line

    return Problem(error.slug, escape_line(error.message))


def _brief_lines(one: KeptReceipt) -> Iterator[str]:
    """A receipt on one line, and what is wrong with it on others. A long name takes the place of the fingerprint."""
    if one.case is None or one.item is None or one.manifest_sha256 is None:
        yield from _receipt_lines(one)
        return
    width = width_of(sys.stdout)
    number = f"  {one.acquisition:04}  {time_text(one.received or '').removesuffix(' UTC')}"
    name, fingerprint = f"{safe_text(one.case)} / {safe_text(one.item)}", f"  {notebook_fingerprint(one.manifest_sha256)}"
    room = width - len(number)
    rest = number + fingerprint if len(name) + len(fingerprint) <= room else number
    shown = name if len(name) <= room else f"{name[: room - 3]}..."
    yield f"{shown:<{width - len(number + fingerprint)}}{rest}" if rest != number else f"{shown}{rest}"
    yield from _trouble_lines(one)


def _trouble_lines(one: KeptReceipt) -> Iterator[str]:
    """What a person has to know of a receipt."""
    if one.case is not None and not one.manifest_kept:
        yield "  NOTE         kept without the manifest"
    if one.case is not None and not one.read_back:
        yield "  NOTE         the vault's disk was NOT read back"
    for problem in one.problems:
        yield from wrapped("  ", f"[{problem.slug}] {problem.message}")
    for text in one.times_contradict:
        yield from wrapped("  WARNING      ", text)


def _receipt_lines(one: KeptReceipt) -> Iterator[str]:
    if one.case is None or one.item is None:
        yield one.folder
    else:
        about = f"{safe_text(one.case)} / {safe_text(one.item)}, acquisition {one.acquisition}"
        yield from wrapped("", f"{about}, received {time_text(one.received or '')}")
        yield f"  kept in      {one.folder}"
        yield f"  vault        {one.vault_id}"
        yield f"  vault key    {one.vault_key}"
        yield from wrapped("  signed by    ", f"{safe_text(one.principal or '?')}, {one.examiner}")
        if one.chain_head_sha256 is not None:
            yield f"  chain head   {one.chain_head_sha256} (record {one.chain_head_sequence})"
    yield from _trouble_lines(one)
