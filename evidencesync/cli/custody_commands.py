"""`custody`: shows an item's chain and adds to it, wherever the vault lies."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.details_choice import DetailsChoice
from evidencesync.cli.lines import wrapped
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, VaultAddress, vault_address
from evidencesync.cli.reading import unread_is_incomplete
from evidencesync.errors import CommandKind, NeedsTwoError, NotThereError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode, most_severe

if TYPE_CHECKING:
    from evidencesync.acquire.custody import Appended, Compose, RecordDraft
    from evidencesync.acquire.custody_exchange import CustodyRequest, ShownChain
    from evidencesync.connection.link import Link
    from evidencesync.custody.documents import RecordType
    from evidencesync.ssh.address import Address

_Text = Annotated[str | None, typer.Option(metavar="TEXT", help="Free text, on one line.")]
_Condition = Annotated[str | None, typer.Option(metavar="TEXT", help="Condition of the item.")]
_Proposal = Annotated[
    int | None, typer.Option("--record", metavar="N", min=1, max=999_999, help="Number of the proposal.  [default: the open one]")
]
_SealNumber = Annotated[str | None, typer.Option(metavar="N", help="Number of the item's seal.")]


@dataclasses.dataclass(frozen=True, slots=True)
class HandOverChoice:
    """Who receives an item, and how it is handed over."""

    to: Annotated[str, typer.Option(metavar="PRINCIPAL", help="Name of the receiver, as the vault trusts their key.")]
    outside: Annotated[
        bool,
        typer.Option("--outside", help="The receiver has no key that the vault trusts, such as a court."),
    ] = False
    in_place_of: Annotated[
        str | None, typer.Option(metavar="PRINCIPAL", help="Who holds the item, where somebody else hands it over for them.")
    ] = None
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="The reason.")] = None
    mechanism: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How the item is handed over: in person, by courier, ...")
    ] = None
    condition: _Condition = None
    seal_number: _SealNumber = None
    text: _Text = None


@dataclasses.dataclass(frozen=True, slots=True)
class FoundChoice:
    """The condition of an item when it is accepted, and where it is kept."""

    condition: _Condition = None
    seal_number: _SealNumber = None
    location: Annotated[str | None, typer.Option(metavar="TEXT", help="Where the item is now.")] = None
    storage: Annotated[str | None, typer.Option(metavar="TEXT", help="Where and how the item is kept.")] = None
    text: _Text = None


def add_commands(app: typer.Typer) -> None:
    """Adds the group `custody`."""
    custody = group(app, "custody", "Shows an item's chain of custody, and adds signed records to it.")
    item = "--case 2024-017 --item LAPTOP-1"
    far = "ana@vault.lab:/srv/vault"
    for name, function, *examples in (
        ("show", show, f"/srv/vault {item}", f"{far} {item} --json"),
        (
            "note",
            note,
            f"{far} {item} --text 'screws missing at the bottom'",
            f"/srv/vault {item} --detail make=Dell --detail 'serial_number=7XK2'",
            f"/srv/vault {item} --case-file laptop1.toml",
        ),
        ("correct", correct, f"{far} {item} --record 1 --detail serial_number=7XK3 --text 'misread: 3, not 2'"),
        (
            "hand-over",
            hand_over,
            f"{far} {item} --to ben@lab --reason analysis --mechanism courier --condition sealed --seal-number 4711",
        ),
        ("accept", accept, f"{far} {item} --condition 'seal intact' --seal-number 4711"),
        ("seal", seal, f"{far} {item} --reason 'case closed'"),
        ("consent", consent, f"{far} {item}"),
        ("withdraw", withdraw, f"{far} {item} --record 12"),
    ):
        kind = CommandKind.SHOWS if function is show else CommandKind.CHANGES
        command(custody, name, *(f"evidencesync custody {name} {example}" for example in examples), kind=kind)(function)


def show(run: Run, vault: VaultAddress, item: ItemChoice, sign: SignChoice, ssh: RemoteChoice) -> ExitCode:
    """Shows an item's chain of custody: every record, who holds the item, and what is known of it.

    A vault on this machine needs no key. It is checked that each record follows the one before and is signed by the key that
    it names. Whether those keys are trusted is checked by `evidencesync verify`.
    """
    from evidencesync.acquire.custody import read_chain, read_local_chain
    from evidencesync.cli.custody_outputs import show_lines, show_output
    from evidencesync.cli.damaged_items import showing_what_is_there
    from evidencesync.cli.own_state import audit_memory
    from evidencesync.verify.checks import MEANINGS

    address = vault_address(vault)
    with unread_is_incomplete():
        if address.local:
            from evidencesync.vault.vault import Vault

            opened, name = Vault.open(Path(address.path)), item.name()
            with showing_what_is_there(run, opened, name):
                chain = read_local_chain(opened, name, audit_memory(run))
        else:
            chain = read_chain(*_prepare(run, address, item, sign, ssh))
    output = show_output(chain)
    run.console.print_result(output, show_lines(output))
    return most_severe({MEANINGS[problem.slug].code for problem in output.problems})


def note(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    details: DetailsChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
    text: _Text = None,
    acquisition: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=9999, help="Number of the acquisition that the note is about.")
    ] = None,
) -> ExitCode:
    """Notes something about an item: a text, details of case and item, or both."""
    stated = {**_texts(text=text), **details.details(item.name())}
    if not stated:
        raise UsageError(
            "there is nothing to note",
            hint="Give --detail or --case-file, or say it: evidencesync custody note VAULT --case CASE --item ITEM --text TEXT",
        )
    return _append(run, vault, item, sign, ssh, _fixed("noted", stated, acquisition), ("noted", stated, acquisition))


def correct(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    details: DetailsChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
    record: Annotated[int, typer.Option(metavar="N", min=1, max=999_999, help="Number of the record that is wrong.")],
    text: _Text = None,
) -> ExitCode:
    """Corrects a custody record. Nothing is edited: the correction is a new record.

    A detail with an empty value (NAME=) is withdrawn.
    """
    stated = {**_texts(text=text), **details.details(item.name(), may_withdraw=True)}
    if not stated:
        raise UsageError(
            "a correction needs to say what is right",
            hint=f"Say it: evidencesync custody correct VAULT --case CASE --item ITEM --record {record} --text TEXT",
        )
    stated = {"record": str(record), **stated}
    draft = _fixed("corrected", stated)

    def compose(chain: ShownChain) -> RecordDraft:
        from evidencesync.custody.statements import SEE_CHAIN
        from evidencesync.evidence.meant import numbers_text

        if record > len(chain.records):
            there = numbers_text(range(1, len(chain.records) + 1), "record")
            raise NotThereError(f"{chain.name} has no custody record {record}", hint=f"{there}{SEE_CHAIN}")
        return draft(chain)

    return _append(run, vault, item, sign, ssh, compose, ("corrected", stated))


def hand_over(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    handing: HandOverChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
) -> ExitCode:
    """Hands an item over to another person. It is complete when that person accepts it, with a signed record.

    A new hand-over replaces one that nobody has accepted. The vault must trust a key of the receiver, who could not accept
    otherwise; if it does not, nothing is signed. For a receiver without such a key, use --outside.
    """
    from evidencesync.custody.details import OUTSIDE
    from evidencesync.custody.principals import check_receiver

    given = dataclasses.asdict(handing)
    outside = {OUTSIDE: "yes"} if given.pop("outside") else {}
    details = {**_texts(**given), **outside}
    check_receiver(handing.to, outside=handing.outside)

    def compose(_: ShownChain) -> RecordDraft:
        from evidencesync.acquire.custody import RecordDraft

        _require_known(vault, details)
        return RecordDraft("handed-over", details)

    return _append(run, vault, item, sign, ssh, compose, ("handed-over", details))


def _require_known(vault: str, details: Mapping[str, str]) -> None:
    """Raises, before anything is signed, if a vault on this machine does not know the receiver. A remote vault checks later."""
    address = vault_address(vault)
    if address.local:
        import time

        from evidencesync.custody.statements import check_recipient
        from evidencesync.vault.vault import Vault

        check_recipient(details, Vault.open(Path(address.path)).load_trust(), time.time_ns())


def accept(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    found: FoundChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
    record: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=999_999, help="Number of the hand-over.  [default: the open one]")
    ] = None,
) -> ExitCode:
    """Accepts a hand-over, and states the condition of the item. Only the person that the hand-over names can do this."""
    stated = _texts(**dataclasses.asdict(found))

    def compose(chain: ShownChain) -> RecordDraft:
        from evidencesync.acquire.custody import RecordDraft
        from evidencesync.custody.statements import SEE_CHAIN

        handed = chain.history.statements.pending
        if handed is None:
            raise NotThereError(f"no hand-over of {chain.name} is open", hint=SEE_CHAIN)
        if record not in (None, handed.record):
            hint = f"The one that is open is record {handed.record}, to {safe_text(handed.to, 80)}: --record {handed.record}"
            raise NotThereError(f"record {record} of {chain.name} is no hand-over that is open", hint=hint)
        return RecordDraft("accepted", {"record": str(handed.record), **stated})

    return _append(run, vault, item, sign, ssh, compose, ("accepted", stated, record))


def seal(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="The reason.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. (Without a terminal nobody is asked.)")] = False,
) -> ExitCode:
    """Closes an item for good: it takes no more acquisitions. Notes, corrections and hand-overs remain possible.

    It cannot be undone, so at a terminal you are asked first. Where the vault demands two people, it becomes a proposal, and the
    item is sealed when another person consents.
    """
    if not yes:
        run.console.confirm(f"Seal {safe_text(str(item.name()), 200)} for good? It takes no more acquisitions.")
    stated = _texts(reason=reason)
    draft = _fixed("sealed", stated)

    def compose(chain: ShownChain) -> RecordDraft:
        handed = chain.history.statements.pending
        if handed is not None:
            run.console.warn(f"the hand-over to {safe_text(handed.to, 80)} (record {handed.record}) is not accepted yet")
        return draft(chain)

    def propose(_: ShownChain) -> RecordDraft:
        import time

        from evidencesync.acquire.custody import RecordDraft
        from evidencesync.custody.seal_proposals import PROPOSES, SEALED
        from evidencesync.custody.trust_requests import LAPSES
        from evidencesync.custody.two_people import lapse_text

        run.console.print_message("note: the vault demands two people: this is a proposal until another person consents")
        return RecordDraft("proposed", {PROPOSES: SEALED, LAPSES: lapse_text(time.time_ns()), **stated})

    instead = propose, ("proposed", stated)
    return _append(run, vault, item, sign, ssh, compose, ("sealed", stated), instead)


def consent(
    run: Run, vault: VaultAddress, item: ItemChoice, sign: SignChoice, ssh: RemoteChoice, record: _Proposal = None
) -> ExitCode:
    """Consents to a proposal of another person to seal the item, and so seals it for good.

    It is signed for exactly that proposal, with another key, by another person than the proposal.
    """
    return _about_proposal(run, vault, item, sign, ssh, record, "sealed")


def withdraw(
    run: Run, vault: VaultAddress, item: ItemChoice, sign: SignChoice, ssh: RemoteChoice, record: _Proposal = None
) -> ExitCode:
    """Ends a proposal to seal the item, which then has no effect. Who may add to its chain can do this."""
    return _about_proposal(run, vault, item, sign, ssh, record, "withdrawn")


def _about_proposal(
    run: Run,
    vault: str,
    item: ItemChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
    record: int | None,
    kind: Literal["sealed", "withdrawn"],
) -> ExitCode:
    def compose(chain: ShownChain) -> RecordDraft:
        from evidencesync.acquire.custody import RecordDraft
        from evidencesync.custody.statements import SEE_CHAIN
        from evidencesync.custody.trust_requests import PROPOSAL, PROPOSAL_SHA256

        there = chain.history.statements.seals.pending
        found = there.get(record) if record is not None else next(iter(there.values()), None)
        if found is None or (record is None and len(there) > 1):
            which = "more than one proposal" if len(there) > 1 and record is None else "no such proposal"
            raise NotThereError(f"{which} to seal {chain.name} is open", hint=SEE_CHAIN)
        return RecordDraft(kind, {PROPOSAL: str(found.record), PROPOSAL_SHA256: found.sha256})

    return _append(run, vault, item, sign, ssh, compose, (kind, "proposal", record))


# --- Adding ------------------------------------------------------------------------------------------------------------


def _texts(**given: str | None) -> dict[str, str]:
    """The given texts, by their names in a record. Raises UsageError."""
    from evidencesync.custody.typed import check_text

    return {name: check_text(text.strip(), f"--{name.replace('_', '-')}") for name, text in given.items() if text is not None}


def _fixed(kind: RecordType, details: dict[str, str], acquisition: int | None = None) -> Compose:
    """A draft that does not depend on the chain. Raises UsageError where a record has no room for it."""
    from evidencesync.acquire.custody import RecordDraft
    from evidencesync.custody.details import check_room

    check_room(details)  # texts and details together
    draft = RecordDraft(kind, details, acquisition)
    return lambda _: draft


def _append(
    run: Run,
    vault: str,
    item: ItemChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
    compose: Compose,
    statement: tuple[object, ...],
    instead: tuple[Compose, tuple[object, ...]] | None = None,
) -> ExitCode:
    """Appends a record to an item's chain, and prints it. The `statement` identifies the same command when it is run again.

    `instead`: what is appended where the vault demands two people.
    """
    import json

    from evidencesync.acquire.custody import append_record

    connect, request = _prepare(run, vault_address(vault), item, sign, ssh)
    try:
        appended = append_record(connect, request, compose, statement=json.dumps(statement, sort_keys=True))
    except NeedsTwoError:
        if instead is None:
            raise
        appended = append_record(connect, request, instead[0], statement=json.dumps(instead[1], sort_keys=True))
    if appended.is_earlier:
        number = appended.record.record.sequence
        run.console.warn(
            f"record {number} was in the chain already: an earlier run of this command added it, and was cut off. "
            "It was not added again; to state it once more, run the command again"
        )
    if appended.unremembered is not None:
        run.console.warn(f"the record is in the chain, but its head was not remembered here: {appended.unremembered}")
    _give_appended(run, appended)
    return ExitCode.COMPLETE


def _prepare(
    run: Run, address: Address, item: ItemChoice, sign: SignChoice, ssh: RemoteChoice
) -> tuple[Callable[[], Link], CustodyRequest]:
    """How to connect to the vault, and the request for one item's chain. May ask for a passphrase."""
    import secrets

    from evidencesync.acquire.connect import connect_to_vault
    from evidencesync.acquire.custody import RETRIES
    from evidencesync.acquire.custody_exchange import CustodyRequest
    from evidencesync.cli.own_state import head_memory
    from evidencesync.cli.terminal import make_asker, person_at
    from evidencesync.ssh.keys import load_signer

    asker = make_asker(run.console.terminal)
    name, person = item.name(), sign.person(run.settings.values)
    signer = load_signer(sign.key_choice(run.settings), ssh.identity_file(run.settings), asker)
    request = CustodyRequest(
        vault=os.fsencode(address.path),
        name=name,
        examiner=person.name,
        signer=signer,
        session=secrets.token_hex(16),
        memory=head_memory(run),
        organisation=person.organisation,
        timeout_seconds=ssh.timeout_seconds(run.settings),
        retries=0 if address.local else RETRIES,
    )

    def connect() -> Link:
        return connect_to_vault(address, ssh.options(run.settings, person_at(run.console)))

    return connect, request


def _give_appended(run: Run, appended: Appended) -> None:
    from evidencesync.cli.custody_outputs import CustodyAppendOutput, record_text

    chain, record = appended.chain, appended.record.record
    output = CustodyAppendOutput(
        vault_id=chain.vault_id,
        case=chain.name.case.text,
        item=chain.name.item.text,
        record=record,
        sha256=appended.record.sha256,
        chain_head_sha256=chain.head_sha256 or appended.record.sha256,
    )
    lines = [
        f"{chain.name}: record {record.sequence} ({record.type}) is in the chain",
        *(wrapped("  says         ", says) if (says := record_text(record)) else ()),
        f"  signed with  {record.actor.key} ({safe_text(record.actor.principal)})",
        f"  chain head   {output.chain_head_sha256}",
    ]
    run.console.print_result(output, lines)
