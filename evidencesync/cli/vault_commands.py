"""`init`, `trust` and `vault`: makes a vault, and says whose keys may sign and which machine may write."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.grants import GrantChange, GrantChoice, may_text
from evidencesync.cli.lines import wrapped
from evidencesync.cli.options import VaultPath, local_vault
from evidencesync.cli.own_state import adding_to_own_chain, audit_memory
from evidencesync.cli.trust_files import load_public_key, named_key
from evidencesync.errors import CommandKind, UsageError, hinting
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.number_format import count_text, time_text
from evidencesync.exit_codes import ExitCode, most_severe

if TYPE_CHECKING:
    from evidencesync.cli.outputs import SignerOutput, TrustChange
    from evidencesync.custody.publickey import PublicKey
    from evidencesync.vault.trust import KnownSigner
    from evidencesync.vault.vault import Vault

_NAME: Final = 24  # characters of a signer's name that has a column
_MOST_COUNTED: Final = 2000  # records that are read to say how many a key has signed
_Who = Annotated[str, typer.Argument(metavar="WHO", help="A public key file (.pub), a fingerprint (SHA256:...), or a principal.")]
_Principal = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The signer's name for this key, such as ana@lab.  [default: the key's comment]"),
]


def add_commands(app: typer.Typer) -> None:
    """Adds `init`, and the groups `trust` and `vault`."""
    command(
        app,
        "init",
        "evidencesync init /srv/vault --trust ana.pub",
        "evidencesync init /srv/vault --name 'Digital lab' --trust ana.pub --principal ana@lab",
        kind=CommandKind.CHANGES,
    )(init)
    trust = group(app, "trust", "Says who may sign. Each change is a signed record of the vault.")
    examples = (
        "evidencesync trust add /srv/vault ana.pub --principal ana@lab",
        "evidencesync trust add /srv/vault cleo.pub --may read,verify --case '2024-*' --until 2026-12-31",
    )
    command(trust, "add", *examples, kind=CommandKind.CHANGES)(add)
    examples = (
        "evidencesync trust change /srv/vault ana@lab --case '2024-0??' --case '2025-*'",
        "evidencesync trust change /srv/vault ana@lab --may read --all-cases --until never",
    )
    command(trust, "change", *examples, kind=CommandKind.CHANGES)(change)
    command(trust, "list", "evidencesync trust list /srv/vault", kind=CommandKind.SHOWS)(list_signers)
    command(trust, "retire", "evidencesync trust retire /srv/vault ana@lab", kind=CommandKind.CHANGES)(retire)
    command(trust, "revoke", "evidencesync trust revoke /srv/vault ana.pub --reason 'laptop stolen'", kind=CommandKind.CHANGES)(
        revoke
    )
    vault = group(app, "vault", "Says, and changes, which machine writes to a vault on a network file system.")
    examples = ("evidencesync vault writer /mnt/nas/vault", "evidencesync vault writer /mnt/nas/vault --take")
    command(vault, "writer", *examples, kind=CommandKind.CHANGES)(writer)


def init(
    run: Run,
    vault: Annotated[str, typer.Argument(metavar="VAULT", help="The folder to make. It may exist if it is empty.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The vault's name for people.  [default: its folder's name]")
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option(metavar="PUBKEY", help="Public key file of an examiner; may be repeated.")
    ] = None,
    principal: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The signer's name; one for each --trust.  [default: the keys' comments]"),
    ] = None,
) -> ExitCode:
    """Makes a vault: a folder for evidence, with its own key and a list of trusted signers.

    Make it on the machine that will keep the evidence, under the account that will own it. What comes next is printed at the
    end: a line for authorized_keys, with which a trusted key can do this and nothing else, and the commands for the examiner.
    """
    from evidencesync.cli.first_steps import FirstSteps
    from evidencesync.cli.outputs import InitOutput
    from evidencesync.vault.create import create_vault

    keys, principals = trust or [], principal or []
    if principals and len(keys) != len(principals):
        raise UsageError(
            f"--trust was given {count_text(len(keys), 'time')}, and --principal {count_text(len(principals), 'time')}",
            hint="Give one --principal NAME for each --trust PUBKEY, or none: then the keys' comments are their names.",
        )
    folder = local_vault(vault)
    names = principals or itertools.repeat(None, len(keys))
    trusted = [named_key(Path(file), who) for file, who in zip(keys, names, strict=True)]
    made = create_vault(folder, name if name is not None else folder.absolute().name, trusted)
    settings = made.settings
    with _was_made(made):
        signers = _signers(made)
    root = safe_text(str(made.layout.root))
    lines = [
        f"vault      {root}",
        f"name       {safe_text(settings.name)}",
        f"id         {settings.id}",
        f"key        {settings.key}",
        *(f"trusts     {_describe(signer)}" for signer in signers[1:]),
    ]
    steps = FirstSteps.into(made.layout.root, trusted)
    lines += steps.lines() if trusted else [f"next       evidencesync trust add {shell_text(str(made.layout.root))} KEY.pub"]
    output = InitOutput(
        root, settings.id, settings.name, settings.key, settings.created, signers, steps.authorized_keys, steps.commands
    )
    run.console.print_result(output, lines)
    return ExitCode.COMPLETE


@contextlib.contextmanager
def _was_made(vault: Vault) -> Iterator[None]:
    """Gives errors after a vault was made a hint that says so: it cannot be made again."""
    from evidencesync.files.disk import storing

    root = shell_text(str(vault.layout.root))
    hint = f"The vault was made: do not make it again. Look at it when the disk is well: evidencesync verify {root}"
    with hinting(hint), storing("read the new vault"):
        yield


def add(
    run: Run,
    vault: VaultPath,
    key: Annotated[str, typer.Argument(metavar="KEY.pub", help="The examiner's public key file.")],
    grant: GrantChoice,
    principal: _Principal = None,
) -> ExitCode:
    """Trusts an examiner's key from now on: to push, and to sign manifests and custody records.

    It may acquire, read and verify, and add to chains of custody, in every case; or what you say. What comes next is printed, as
    by `init`.
    """
    from evidencesync.cli.first_steps import FirstSteps

    allowed = grant.grant()
    opened = _open(vault)
    public, name = named_key(Path(key), principal)
    from evidencesync.vault.heads import record_heads
    from evidencesync.vault.ledger import recorded

    steps = FirstSteps.into(opened.layout.root, [(public, name)])
    if grant == GrantChoice() and _is_trusted(opened, public, name):
        run.console.print_message("note: the vault trusts this key already, and nothing is changed.")
        return _give_changed(run, opened, [], steps.lines())  # who adds a key again may look for its line
    with adding_to_own_chain(run, opened):
        opened.trust.add(public, name, allowed)
        change = _change(opened, "added", public)
        with recorded(change.record):
            record_heads(opened)
    return _give_changed(run, opened, [change], steps.lines())


def _is_trusted(vault: Vault, key: PublicKey, principal: str) -> bool:
    """Whether a key is trusted now, and under that name."""
    return any(
        known.signer.key == key
        and known.signer.valid_before is None
        and not known.revoked
        and principal in known.signer.principals
        for known in vault.trust.signers()
    )


def change(run: Run, vault: VaultPath, who: _Who, grant: GrantChange) -> ExitCode:
    """Says what a trusted key may do from now on, in which cases and until when. What is not named stays as it is.

    What was signed before stays as it was: it is judged by what the key might do then.
    """
    opened = _open(vault)
    public = _find_key(opened, who)
    allowed = grant.grant(opened.load_trust().grant_of(public))
    from evidencesync.vault.heads import record_heads

    with adding_to_own_chain(run, opened):
        record_heads(opened)  # first: what a crash kept from being stated was there before the change
        opened.trust.change(public, allowed)
        changed = _change(opened, "changed", public)
    return _give_changed(run, opened, [changed])


def list_signers(run: Run, vault: VaultPath) -> ExitCode:
    """Lists the trusted keys, how long each is trusted, and what it may do. The vault's own key comes first.

    Ends with 34 if this machine has seen later records of the vault's own chain, or others: a key may be listed that was revoked.
    """
    from evidencesync.acquire.known_heads import KnownHeads, code_of

    opened = _open(vault)
    problems = KnownHeads(audit_memory(run), opened).problems
    _give_changed(run, opened, [])
    for error in problems:
        run.console.warn(f"this may not be the list that was last made: {error.message}")
    return most_severe({code_of(error) for error in problems})


def retire(run: Run, vault: VaultPath, who: _Who) -> ExitCode:
    """Ends the trust in a key from now on: what it has signed until now stays valid."""
    opened = _open(vault)
    public = _find_key(opened, who)
    from evidencesync.vault.heads import record_heads

    opened.trust.check_retirable(public)
    with adding_to_own_chain(run, opened):
        record_heads(opened)  # first: what a crash kept from being stated was there while the key was trusted
        opened.trust.retire(public)
        change = _change(opened, "retired", public)
    if len([one for one in opened.trust.signers() if not one.revoked and one.signer.valid_before is None]) == 1:
        run.console.warn("the vault trusts nobody now but itself: nobody can push into it, or add to a chain of custody")
    return _give_changed(run, opened, [change])


def revoke(
    run: Run,
    vault: VaultPath,
    who: _Who,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. (Without a terminal nobody is asked.)")] = False,
) -> ExitCode:
    """Ends the trust in everything that a key has ever signed: for a key that somebody else may have used.

    It cannot be undone, so at a terminal you are asked first. For a key that was good until now, see `trust retire`.
    """
    from evidencesync.custody.typed import check_text

    reason = check_text(reason.strip(), "--reason", may_be_empty=True)
    opened = _open(vault)
    public = _find_key(opened, who)
    opened.trust.check_revocable(public)
    fails = f"{_signed_by(opened, public)} from now on"
    if not yes:
        other = shell_text("evidencesync", "trust", "retire", vault, who)
        run.console.print_message(f"note: {fails}; to end the trust from now on alone: {other}")
        run.console.confirm(f"Revoke {public.fingerprint} for good? Nothing that it has ever signed will be trusted.")
    from evidencesync.vault.heads import record_heads
    from evidencesync.vault.ledger import recorded

    with adding_to_own_chain(run, opened):
        opened.trust.revoke(public, reason)
        change = _change(opened, "revoked", public)
        with recorded(change.record):
            record_heads(opened)
    return _give_changed(run, opened, [change], [fails])


def _signed_by(vault: Vault, key: PublicKey) -> str:
    """Says that the records fail which a key has signed; how many, unless that takes long or one cannot be read."""
    from evidencesync.errors import EvidenceSyncError
    from evidencesync.vault.ledger import iter_records

    records = (stored.record for name in vault.items() for stored in iter_records(vault.item(name).ledger))
    signed = 0
    with contextlib.suppress(EvidenceSyncError):
        for record in itertools.islice(records, _MOST_COUNTED):
            signed += record.actor.key == key.fingerprint
        if next(records, None) is None:
            return count_text(signed, "record signed by this key fails", "records signed by this key fail")
    return "all records signed by this key fail"


def writer(
    run: Run,
    vault: VaultPath,
    take: Annotated[bool, typer.Option("--take", help="Make this machine the only one that writes to the vault.")] = False,
) -> ExitCode:
    """Shows which machine writes to a vault; with --take, makes this machine the writer.

    On NFS, CIFS, FUSE and similar file systems, a lock works on one machine only. A vault there has one writing machine, which
    vault.toml names. Other machines may read; if they try to write, they are refused with 11. Use --take only when nothing writes
    on the other machine: a session that runs there ends before it publishes, and the next one reuses what had arrived.
    """
    from evidencesync.cli.outputs import VaultWriterOutput
    from evidencesync.vault.vault import Vault
    from evidencesync.vault.writer import kind_of_vault, this_machine

    opened = Vault.open(local_vault(vault))
    here = this_machine()
    before = opened.settings.writer
    taken = take and (before is None or before.machine != here.id)
    if taken:
        with adding_to_own_chain(run, opened):
            opened.trust.take_writing(here)
        opened = Vault.open(opened.layout.root)
    found, kind = opened.settings.writer, kind_of_vault(opened.layout)
    output = VaultWriterOutput(
        vault_id=opened.settings.id,
        file_system=kind.name,
        locks_between_machines=kind.has_real_locks,
        writer=found.name if found is not None else None,
        writer_machine=found.machine if found is not None else None,
        since=found.since if found is not None else None,
        here=here.name,
        here_machine=here.id,
        may_write=found.machine == here.id if found is not None else kind.has_real_locks,
        taken=taken,
    )
    if found is not None:
        who = f"{safe_text(found.name)}, since {found.since}{' (this machine)' if found.machine == here.id else ''}"
    elif kind.has_real_locks:
        who = "whichever machine has the lock: none is named, and none has to be"
    else:
        who = "no machine is named, so none may write. Name this one: --take"
    locks = "hold for all who can write there" if kind.has_real_locks else "do not hold between machines"
    lines = [f"writes       {who}", f"file system  {kind.name}: locks {locks}", f"here         {here.name} ({here.id})"]
    run.console.print_result(output, lines)
    return ExitCode.COMPLETE


def _open(vault: str) -> Vault:
    from evidencesync.vault.vault import Vault

    return Vault.open(local_vault(vault))


def _find_key(vault: Vault, who: str) -> PublicKey:
    """The key that a command line names. Raises NotThereError for an unknown signer, UsageError for several keys."""
    if not who.startswith("SHA256:") and (who.endswith(".pub") or "/" in who):  # base64, too, has a slash in it
        return load_public_key(Path(who))
    keys = list(dict.fromkeys(signer.key for signer in vault.trust.find(who)))
    if len(keys) > 1:
        raise UsageError(
            f"'{safe_text(who, 80)}' has more than one key: {', '.join(key.fingerprint for key in keys)}",
            hint="Name one of them by its fingerprint.",
        )
    return keys[0]


def _change(vault: Vault, action: Literal["added", "changed", "retired", "revoked"], key: PublicKey) -> TrustChange:
    from evidencesync.cli.outputs import TrustChange

    return TrustChange(action, key.fingerprint, vault.ledger.head().sequence)


def _give_changed(run: Run, vault: Vault, changes: list[TrustChange], steps: Iterable[str] = ()) -> ExitCode:
    from evidencesync.cli.outputs import TrustOutput

    signers = _signers(vault)
    lines = [f"{change.action} {change.key}, custody record {change.record}" for change in changes]
    lines += _signer_lines(signers)
    run.console.print_result(TrustOutput(vault.settings.id, changes, signers), [*lines, *steps])
    return ExitCode.COMPLETE


def _signers(vault: Vault) -> list[SignerOutput]:
    return [_signer_output(known) for known in vault.trust.signers()]


def _signer_output(known: KnownSigner) -> SignerOutput:
    from evidencesync.cli.outputs import SignerOutput

    signer = known.signer
    return SignerOutput(
        principals=list(signer.principals),
        key=signer.key.fingerprint,
        algorithm=signer.key.algorithm,
        namespaces=list(signer.namespaces) if signer.namespaces is not None else None,
        valid_after=signer.valid_after,
        valid_before=signer.valid_before,
        revoked=known.revoked,
        may=list(known.grant.may) if known.told else None,
        cases=list(known.grant.cases) if known.grant.cases is not None else None,
        until=known.grant.until,
    )


def _describe(signer: SignerOutput) -> str:
    return "  ".join([safe_text(",".join(signer.principals)), safe_text(signer.algorithm), signer.key])


def _signer_lines(signers: list[SignerOutput]) -> Iterator[str]:
    """A table of signers; a second line says for how long one is trusted, if not always."""
    names = [safe_text(",".join(signer.principals)) for signer in signers]
    wide = min(max(map(len, names), default=0), _NAME)
    kinds = max((len(signer.algorithm) for signer in signers), default=0)
    for signer, name in zip(signers, names, strict=True):
        yield from wrapped("", f"{name:<{wide}}  {safe_text(signer.algorithm):<{kinds}}  {signer.key}")
        yield from (f"    {held}" for held in (_validity(signer), may_text(signer)) if held is not None)


def _validity(signer: SignerOutput) -> str | None:
    from evidencesync.evidence.utc_time import format_utc_time

    def shown(seconds: int) -> str:
        return time_text(format_utc_time(seconds * 1_000_000_000))

    parts = [f"trusted from {shown(signer.valid_after)}"] if signer.valid_after is not None else []
    parts += [f"until {shown(signer.valid_before)}"] if signer.valid_before is not None else []
    return "  ".join([*parts, *(["REVOKED"] if signer.revoked else [])]) or None
