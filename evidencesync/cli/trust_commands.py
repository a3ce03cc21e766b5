"""`trust`: says whose keys may sign in a vault, and for what, wherever the vault lies."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.grants import GrantChange, GrantChoice
from evidencesync.cli.options import RemoteChoice, SignChoice, VaultAddress, vault_address
from evidencesync.cli.reading import ReaderChoice, readable_vault
from evidencesync.cli.trust_change import Changed, change_trust, give_signers, proposal_output, proposal_text, require_vault
from evidencesync.cli.trust_files import load_public_key, named_key
from evidencesync.cli.vault_key_command import rotate_vault_key
from evidencesync.errors import CommandKind, NotThereError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.number_format import count_text
from evidencesync.exit_codes import ExitCode, most_severe

if TYPE_CHECKING:
    from evidencesync.custody.publickey import PublicKey
    from evidencesync.custody.trust_requests import ChangeOfTrust
    from evidencesync.vault.vault import Vault

_MOST_COUNTED: Final = 2000  # records that are read to say how many a key has signed
_Who = Annotated[str, typer.Argument(metavar="WHO", help="A public key file (.pub), a fingerprint (SHA256:...), or a principal.")]
_Record = Annotated[int, typer.Option(metavar="N", min=1, max=999_999, help="Number of the record that proposes it.")]
_Principal = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The signer's name for this key, such as ana@lab.  [default: the key's comment]"),
]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `trust`."""
    trust = group(app, "trust", "Says who may sign. Each change is a signed record of the vault.")
    far = "ana@vault.lab:/srv/vault"
    for name, function, *examples in (
        (
            "add",
            add,
            "/srv/vault ana.pub --principal ana@lab",
            "/srv/vault cleo.pub --may read,verify --case '2024-*' --until 2026-12-31",
            f"{far} ben.pub --principal ben@lab",
        ),
        (
            "change",
            change,
            "/srv/vault ana@lab --case '2024-0??' --case '2025-*'",
            f"{far} ben@lab --may read --all-cases --until never",
        ),
        ("list", list_signers, "/srv/vault", f"{far} --json"),
        ("retire", retire, "/srv/vault ana@lab", f"{far} ben@lab"),
        ("revoke", revoke, "/srv/vault ana.pub --reason 'laptop stolen'"),
        ("rotate-vault-key", rotate_vault_key, "/srv/vault"),
        ("two-person", two_person, "/srv/vault --for seal,trust", f"{far} --for nothing"),
        ("consent", consent, f"{far} --record 12"),
        ("withdraw", withdraw, f"{far} --record 12"),
    ):
        kind = CommandKind.SHOWS if function is list_signers else CommandKind.CHANGES
        command(trust, name, *(f"evidencesync trust {name} {example}" for example in examples), kind=kind)(function)


def add(
    run: Run,
    vault: VaultAddress,
    key: Annotated[str, typer.Argument(metavar="KEY.pub", help="The examiner's public key file.")],
    grant: GrantChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
    principal: _Principal = None,
) -> ExitCode:
    """Trusts an examiner's key from now on: to push, and to sign manifests and custody records.

    It may acquire, read and verify, and add to chains of custody, in every case; or what you say. What comes next is printed, as
    by `init`. From afar this is for who has the role `admin`.
    """
    allowed = grant.grant()
    require_vault(vault)
    public, name = named_key(Path(key), principal)

    def compose(opened: Vault) -> ChangeOfTrust | None:
        from evidencesync.custody.trust_requests import added

        if grant == GrantChoice() and _is_trusted(opened, public, name):
            run.console.print_message("note: the vault trusts this key already, and nothing is changed.")
            return None  # who adds a key again may look for its line
        return added(public, name, allowed)

    with change_trust(run, vault, sign, ssh, compose) as done:
        steps = [f"next       have its line added there: {_line(done, public, name)}"]
        if done.address.local:
            from evidencesync.cli.first_steps import FirstSteps

            steps = list(FirstSteps.into(done.vault.layout.root, [(public, name)]).lines())
        return give_signers(run, done, steps)


def _line(done: Changed, key: PublicKey, principal: str) -> str:
    """The line for authorized_keys of a far vault's account."""
    served = shell_text("evidencesync", "serve", "--vault", done.address.path_there).replace('"', '\\"')
    return f'restrict,command="{served}" {key.line(principal)}'


def _is_trusted(vault: Vault, key: PublicKey, principal: str) -> bool:
    """Whether a key is trusted now, and under that name."""
    return any(
        known.signer.key == key
        and known.signer.valid_before is None
        and not known.revoked
        and principal in known.signer.principals
        for known in vault.trust.signers()
    )


def change(run: Run, vault: VaultAddress, who: _Who, grant: GrantChange, sign: SignChoice, ssh: RemoteChoice) -> ExitCode:
    """Says what a trusted key may do from now on, in which cases and until when. What is not named stays as it is.

    What was signed before stays as it was: it is judged by what the key might do then. From afar this is for who has the role
    `admin`.
    """

    def compose(opened: Vault) -> ChangeOfTrust:
        from evidencesync.custody.trust_requests import changed

        public = _find_key(opened, who)
        return changed(public.fingerprint, grant.grant(opened.load_trust().grant_of(public)))

    grant.check()
    with change_trust(run, vault, sign, ssh, compose) as done:
        return give_signers(run, done)


def list_signers(run: Run, vault: VaultAddress, reader: ReaderChoice, ssh: RemoteChoice) -> ExitCode:
    """Lists the trusted keys, how long each is trusted, and what it may do. The vault's own key comes first.

    Ends with 34 if this machine has seen later records of the vault's own chain, or others: a key may be listed that was revoked.
    """
    from evidencesync.acquire.known_heads import KnownHeads, code_of

    with readable_vault(run, vault, reader, ssh, (None, None), own=True) as opened:
        problems = KnownHeads(opened.memory, opened.vault).problems
        give_signers(run, Changed(vault_address(vault), opened.vault, []))
    for error in problems:
        run.console.warn(f"this may not be the list that was last made: {error.message}")
    return most_severe({code_of(error) for error in problems})


def retire(run: Run, vault: VaultAddress, who: _Who, sign: SignChoice, ssh: RemoteChoice) -> ExitCode:
    """Ends the trust in a key from now on: what it has signed until now stays valid.

    From afar this is for who has the role `admin`.
    """

    def compose(opened: Vault) -> ChangeOfTrust:
        from evidencesync.custody.trust_requests import retired

        return retired(_find_key(opened, who).fingerprint)

    with change_trust(run, vault, sign, ssh, compose) as done:
        _warn_of_nobody(run, done.vault)
        return give_signers(run, done)


def _warn_of_nobody(run: Run, vault: Vault) -> None:
    if len([one for one in vault.trust.signers() if not one.revoked and one.signer.valid_before is None]) == 1:
        run.console.warn("the vault trusts nobody now but itself: nobody can push into it, or add to a chain of custody")


def revoke(
    run: Run,
    vault: VaultAddress,
    who: _Who,
    sign: SignChoice,
    ssh: RemoteChoice,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. (Without a terminal nobody is asked.)")] = False,
) -> ExitCode:
    """Ends the trust in everything that a key has ever signed: for a key that somebody else may have used.

    It cannot be undone, so at a terminal you are asked first. For a key that was good until now, see `trust retire`. From afar
    this is for who has the role `admin`, with another key.
    """
    from evidencesync.custody.typed import check_text

    reason = check_text(reason.strip(), "--reason", may_be_empty=True)
    fails: list[str] = []

    def compose(opened: Vault) -> ChangeOfTrust:
        from evidencesync.custody.trust_requests import revoked

        public = _find_key(opened, who)
        wanted = revoked(public, reason)
        opened.trust.check(wanted)
        if not fails:
            fails.append(f"{_signed_by(opened, public)} from now on")
            if not yes:
                other = shell_text("evidencesync", "trust", "retire", vault, who)
                run.console.print_message(f"note: {fails[0]}; to end the trust from now on alone: {other}")
                run.console.confirm(f"Revoke {public.fingerprint} for good? Nothing that it has ever signed will be trusted.")
        return wanted

    with change_trust(run, vault, sign, ssh, compose) as done:
        return give_signers(run, done, fails)


def two_person(
    run: Run,
    vault: VaultAddress,
    sign: SignChoice,
    ssh: RemoteChoice,
    needs: Annotated[str, typer.Option("--for", metavar="WHAT", help="seal, trust, or both with a comma between; or nothing.")],
) -> ExitCode:
    """Says what needs two people from now on: one proposes it, and it has no effect before another one consents.

    `trust`: every change of trust, by two administrators. `seal`: to seal an item, by two who may add to its chain. To take it
    back, two administrators are needed, too.
    """
    from evidencesync.custody.rule_of_two import typed_rule

    rule = typed_rule(needs)

    def compose(_: Vault) -> ChangeOfTrust:
        from evidencesync.custody import trust_requests

        return trust_requests.two_person(rule)

    with change_trust(run, vault, sign, ssh, compose) as done:
        return give_signers(run, done)


def consent(run: Run, vault: VaultAddress, record: _Record, sign: SignChoice, ssh: RemoteChoice) -> ExitCode:
    """Consents to a change of trust that another administrator has proposed: now it has its effect.

    It is signed for exactly that proposal, with another key, by another person than the proposal.
    """
    return _about_proposal(run, vault, record, sign, ssh, "consented")


def withdraw(run: Run, vault: VaultAddress, record: _Record, sign: SignChoice, ssh: RemoteChoice) -> ExitCode:
    """Ends a proposal to change trust, which then has no effect. Every administrator can do this."""
    return _about_proposal(run, vault, record, sign, ssh, "withdrawn")


def _about_proposal(
    run: Run, vault: str, record: int, sign: SignChoice, ssh: RemoteChoice, action: Literal["consented", "withdrawn"]
) -> ExitCode:
    def compose(opened: Vault) -> ChangeOfTrust:
        import time

        from evidencesync.custody.trust_requests import about_proposal
        from evidencesync.custody.two_people import SEE_PROPOSALS

        found = {one.record: one for one in opened.trust.proposals().is_open(time.time_ns())}
        if record not in found:
            raise NotThereError(f"record {record} is no proposal that is open", hint=SEE_PROPOSALS)
        run.console.print_message(f"note: {action}: {proposal_text(proposal_output(found[record]))}")
        return about_proposal(action, record, found[record].sha256)

    with change_trust(run, vault, sign, ssh, compose) as done:
        return give_signers(run, done)


def _signed_by(vault: Vault, key: PublicKey) -> str:
    """Says that the records fail which a key has signed; how many, unless that takes long or one cannot be read."""
    from evidencesync.errors import EvidenceSyncError
    from evidencesync.vault.ledger import iter_records

    records = (stored.record for name in vault.items() for stored in iter_records(vault.item(name).ledger))
    signed = 0
    with contextlib.suppress(EvidenceSyncError):
        for record in itertools.islice(records, _MOST_COUNTED):
            signed += record.actor.key == key.fingerprint
        if not vault.fetched and next(records, None) is None:  # from afar, no item's chain is here
            return count_text(signed, "record signed by this key fails", "records signed by this key fail")
    return "all records signed by this key fail"


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
