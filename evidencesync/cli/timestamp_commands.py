"""The group `timestamp`: requests, attaches and shows RFC 3161 timestamps of manifests' signatures."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, TsaRoots, VaultAddress, vault_address
from evidencesync.cli.reading import ReadableVault, ReaderChoice, readable_vault, unread_is_incomplete
from evidencesync.errors import CommandKind, EvidenceSyncError, InternalError, TimestampError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.home import expand, expand_new_file, read_named
from evidencesync.limits import MAX_TIMESTAMP

if TYPE_CHECKING:
    from evidencesync.cli.custody_outputs import ShownTimestamp, TimestampOutput, TimestampShowOutput, TokenOutput
    from evidencesync.cli.verify_record import Verifier
    from evidencesync.custody.timestamp import Request, Roots, Token
    from evidencesync.vault.item import VaultItem
    from evidencesync.vault.timestamps import Answer, Who
    from evidencesync.vault.vault import Vault

_REQUEST_SUFFIX: Final = ".tsq"
_Acquisition = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=9999, help="Number of the acquisition.  [default: the last]")
]
_Digest = Annotated[str, typer.Option(metavar="sha512|sha256", help="Digest algorithm of the request.")]


@dataclasses.dataclass(frozen=True, slots=True)
class AskChoice:
    """Which time-stamping authority is asked, and how."""

    tsa: Annotated[str, typer.Option(metavar="URL", help="The authority's address (https or http). Only a digest is sent to it.")]
    digest: _Digest = "sha512"


@dataclasses.dataclass(frozen=True, slots=True)
class AgainstChoice:
    """What an authority's answer is compared with."""

    request: Annotated[
        str | None, typer.Option(metavar="FILE", help="The request.  [default: beside RESPONSE, with .tsq, if it is there]")
    ] = None
    tsa_root: TsaRoots = None


def add_commands(app: typer.Typer) -> None:
    """Adds the group `timestamp`."""
    timestamp = group(app, "timestamp", "Lets an independent authority say when evidence was signed at the latest.")
    command(
        timestamp,
        "request",
        "evidencesync timestamp request /srv/vault --case 2024-017 --item LAPTOP-1 -o laptop.tsq",
        "evidencesync timestamp request ana@vault.lab:/srv/vault --case 2024-017 --item LAPTOP-1 -o laptop.tsq",
        "curl -H 'Content-Type: application/timestamp-query' --data-binary @laptop.tsq https://tsa.example -o laptop.tsr",
    )(request)
    command(
        timestamp,
        "attach",
        "evidencesync timestamp attach /srv/vault laptop.tsr --case 2024-017 --item LAPTOP-1 --tsa-root authority.pem",
        "evidencesync timestamp attach ana@vault.lab:/srv/vault laptop.tsr --case 2024-017 --item LAPTOP-1 --tsa-root tsa.pem",
        kind=CommandKind.CHANGES,
    )(attach_file)
    command(
        timestamp,
        "fetch",
        "evidencesync timestamp fetch /srv/vault --case 2024-017 --item LAPTOP-1 --tsa https://tsa.example",
        kind=CommandKind.CHANGES,
    )(fetch)
    command(timestamp, "show", "evidencesync timestamp show /srv/vault --case 2024-017 --item LAPTOP-1", kind=CommandKind.SHOWS)(
        show
    )


def request(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    reader: ReaderChoice,
    ssh: RemoteChoice,
    acquisition: _Acquisition = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="The file to write.  [default: CASE-ITEM-NNNN.tsq, here]")
    ] = None,
    digest: _Digest = "sha512",
) -> ExitCode:
    """Writes a request for a timestamp to a file, without any network. Take it to a machine that may ask an authority.

    It holds a digest of the manifest's signature and a random number, and nothing about the evidence.
    """
    from evidencesync.cli.custody_outputs import TimestampRequestOutput
    from evidencesync.cli.own_state import open_known_item
    from evidencesync.evidence.digest import sha256_of
    from evidencesync.vault.layout import acquisition_folder

    with readable_vault(run, vault, reader, ssh, (item.case, item.item)) as opened:
        found, _ = open_known_item(run, opened.vault, opened.memory, item.name())
        number = found.choose_acquisition(acquisition)
        asked = _make_request(found, number, digest)
        data = asked.encode()
        names = found.name.case.folder, found.name.item.folder, acquisition_folder(number)
        file = expand_new_file(output if output is not None else "-".join(names) + _REQUEST_SUFFIX)
        _write_new(file, opened.vault.layout.root, data)
    shown = safe_text(str(file), 300)
    made = TimestampRequestOutput(
        case=found.name.case.text,
        item=found.name.item.text,
        acquisition=number,
        request=shown,
        request_sha256=sha256_of(data).hex(),
        digest=cast('Literal["sha256", "sha512"]', asked.digest),
        imprint=asked.imprint.hex(),
        nonce=str(asked.nonce),
    )
    run.console.print_result(
        made,
        [
            f"{shown}: asks for a timestamp of {found.name}, acquisition {number}",
            f"  send it with  {_curl(file)}",
            "  keep it for `attach`, beside the answer",
        ],
    )
    return ExitCode.COMPLETE


def attach_file(
    run: Run,
    vault: VaultAddress,
    response: Annotated[str, typer.Argument(metavar="RESPONSE", help="The authority's answer, as a file (.tsr).")],
    item: ItemChoice,
    sign: SignChoice,
    ssh: RemoteChoice,
    against: AgainstChoice,
    acquisition: _Acquisition = None,
) -> ExitCode:
    """Checks an authority's answer, stores it beside the manifest's signature, and signs a custody record that names it.

    The answer must be granted, cover this manifest's signature, match the request and be validly signed; with --tsa-root, by an
    authority that you trust. An answer that is there already is never replaced. A vault on another machine checks it, too.
    """
    from evidencesync.vault.timestamps import Answer

    with _opened(run, vault, item, acquisition, sign, ssh) as stamped:
        given = expand(response)
        beside = given.with_suffix(_REQUEST_SUFFIX)
        named = None if against.request is None else expand(against.request)
        asked = named or (beside if os.path.isfile(beside) else None)
        answer = Answer(_read(given), None if asked is None else _read(asked))
        if asked is None:
            run.console.warn("there is no request to compare with: whether this answers your request is not checked")
        return _attach(run, stamped, answer, against.tsa_root)


def fetch(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    sign: SignChoice,
    asking: AskChoice,
    ssh: RemoteChoice,
    acquisition: _Acquisition = None,
    tsa_root: TsaRoots = None,
) -> ExitCode:
    """Asks an authority over the network, and attaches its answer as `attach` does.

    This is the only command that uses a network without SSH: this machine asks the authority, wherever the vault lies. It sends
    a digest of the manifest's signature and a random number, and nothing about the evidence. Run again after it was cut short,
    it completes what it began.
    """
    from evidencesync.authority import ask_authority
    from evidencesync.vault.timestamps import HAS_ONE, Answer, is_attached, load_answer

    with _opened(run, vault, item, acquisition, sign, ssh) as stamped:
        found, number = stamped.item, stamped.number
        kept = load_answer(found, number)
        if kept is not None and is_attached(stamped.vault, found, number):
            hint = "See it: evidencesync timestamp show VAULT --case CASE --item ITEM"
            raise TimestampError(HAS_ONE.format(number=number), hint=hint)
        if kept is None:
            asked = _make_request(found, number, asking.digest).encode()
            kept = Answer(ask_authority(asking.tsa, asked, ssh.timeout_seconds(run.settings)), asked)
        return _attach(run, stamped, kept, tsa_root)


def show(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    reader: ReaderChoice,
    ssh: RemoteChoice,
    acquisition: _Acquisition = None,
    tsa_root: TsaRoots = None,
) -> ExitCode:
    """Shows the timestamps of an item's acquisitions (or of one), and whether they are over its manifests' signatures.

    They are not compared with the custody chain: see `evidencesync verify`.
    """
    from evidencesync.cli.custody_outputs import TimestampShowOutput
    from evidencesync.cli.own_state import open_known_item
    from evidencesync.cli.trust_files import load_roots

    with unread_is_incomplete(), readable_vault(run, vault, reader, ssh, (item.case, item.item)) as opened:
        found, code = open_known_item(run, opened.vault, opened.memory, item.name())
        last = found.choose_acquisition(acquisition)
        numbers = [last] if acquisition is not None else found.require_all_acquisitions()
        roots = load_roots(run.settings, tsa_root)
        problems = {code}
        shown = [_show_one(found, number, roots, problems) for number in numbers]
    output = TimestampShowOutput(found.name.case.text, found.name.item.text, shown)
    run.console.print_result(output, _show_lines(output))
    return most_severe(problems)


# --- What the commands share ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Stamped:
    """The acquisition that a timestamp is for, and who attaches it. `verifier`: who, where the vault is on another machine."""

    readable: ReadableVault
    item: VaultItem
    number: int
    sign: SignChoice
    ssh: RemoteChoice
    verifier: Verifier | None

    @property
    def vault(self) -> Vault:
        """The vault; of one on another machine, its documents."""
        return self.readable.vault


@contextlib.contextmanager
def _opened(
    run: Run, vault: str, item: ItemChoice, acquisition: int | None, sign: SignChoice, ssh: RemoteChoice
) -> Iterator[_Stamped]:
    from evidencesync.cli.own_state import open_known_item
    from evidencesync.cli.verify_record import verifier_with

    is_here = vault_address(vault).local
    verifier = None if is_here else verifier_with(run, sign, ssh.identity_file(run.settings))  # this key reads, too
    reader = sign if verifier is None else verifier.signer
    with readable_vault(run, vault, reader, ssh, (item.case, item.item)) as opened:
        found, _ = open_known_item(run, opened.vault, opened.memory, item.name())
        yield _Stamped(opened, found, found.choose_acquisition(acquisition), sign, ssh, verifier)


def _make_request(item: VaultItem, number: int, digest: str) -> Request:
    import secrets

    from evidencesync.custody.timestamp import Request
    from evidencesync.vault.timestamps import load_begun_request, load_stamped

    if digest not in ("sha256", "sha512"):
        raise UsageError(f"--digest is sha512 or sha256, not {safe_text(digest, 40)}", hint="Leave it out for sha512.")
    begun = load_begun_request(item, number)
    return begun or Request.over(load_stamped(item, number), cast('Literal["sha256", "sha512"]', digest), secrets.randbits(63))


def _curl(file: Path) -> str:
    """How a request is sent to an authority, whose URL only the person knows."""
    answer = shell_text(str(file.with_suffix(".tsr")))
    kind = "curl -H 'Content-Type: application/timestamp-query'"
    return f"{kind} --data-binary {shell_text(f'@{file}')} -o {answer} https://TSA"


def _attach(run: Run, stamped: _Stamped, answer: Answer, tsa_root: Sequence[Path] | None) -> ExitCode:
    from evidencesync.cli.custody_outputs import TimestampOutput
    from evidencesync.cli.trust_files import load_roots
    from evidencesync.vault.timestamps import load_stamped

    roots, name = load_roots(run.settings, tsa_root), stamped.item.name
    token = answer.check(load_stamped(stamped.item, stamped.number), roots)  # before anybody is asked for a passphrase
    if roots is None:
        run.console.warn("no --tsa-root was given: who made the timestamp is not checked")
    sequence, sha256 = (_attach_here if stamped.verifier is None else _attach_afar)(run, stamped, answer, roots)
    output = TimestampOutput(
        case=name.case.text,
        item=name.item.text,
        acquisition=stamped.number,
        token=_token_output(token, answer, checked=roots is not None),
        record=sequence,
        chain_head_sha256=sha256,
    )
    run.console.print_result(output, _attached_lines(output))
    return ExitCode.COMPLETE


def _attach_here(run: Run, stamped: _Stamped, answer: Answer, roots: Roots | None) -> tuple[int, str]:
    """Attaches it in a vault on this machine; returns the number and the digest of its record."""
    import time

    from evidencesync.acquire.known_heads import VaultAtHand
    from evidencesync.cli.own_state import remember_heads, usable_memory
    from evidencesync.vault.timestamps import attach

    with usable_memory(run) as memory:
        who, seen = _who(run, stamped.sign), VaultAtHand(memory, stamped.vault, stamped.item.name)
        now_ns = time.time_ns()
        done = attach(stamped.vault, stamped.item, stamped.number, answer, who, roots, at_ns=now_ns, before_writing=seen.require)
        remember_heads(run, seen, now_ns)
    return done.record.record.sequence, done.record.sha256


def _attach_afar(run: Run, stamped: _Stamped, answer: Answer, roots: Roots | None) -> tuple[int, str]:
    """The same in a vault on another machine."""
    from evidencesync.acquire.custody import RETRIES, attach_timestamp
    from evidencesync.acquire.stamping import Stamping
    from evidencesync.cli.verify_afar import connecting

    verifier, address = stamped.verifier, stamped.readable.address
    if verifier is None or address is None:
        raise InternalError("a timestamp is to be attached afar, and the vault is here")
    stamping = Stamping.of(stamped.item, stamped.number, answer, roots)
    timeout_seconds = stamped.ssh.timeout_seconds(run.settings)
    request = verifier.request(os.fsencode(address.path), stamped.item.name, timeout_seconds=timeout_seconds, retries=RETRIES)
    taken = verifier.taken(attach_timestamp(connecting(run, address, stamped.ssh), request, stamping))
    return taken.record.sequence, taken.sha256


def _who(run: Run, sign: SignChoice) -> Who:

    from evidencesync.cli.terminal import make_asker
    from evidencesync.ssh.keys import load_signer
    from evidencesync.vault.timestamps import Who

    person = sign.person(run.settings.values)
    asker = make_asker(run.console.terminal)
    signer = load_signer(sign.key_choice(run.settings), run.settings.path(run.settings.values.identity), asker)
    return Who(signer, person.name, person.organisation)


def _read(file: Path) -> bytes:
    try:
        data = read_named(file, MAX_TIMESTAMP)
    except OSError as error:
        hint = "It is the file in which the authority's answer was saved (.tsr), or the request that was sent to it (.tsq)."
        raise UsageError(f"{safe_text(str(file), 200)} cannot be read: {error.strerror}", hint=hint) from error
    if len(data) > MAX_TIMESTAMP:
        raise TimestampError(f"{safe_text(str(file), 200)} is longer than any timestamp ({MAX_TIMESTAMP} bytes)")
    return data


def _write_new(file: Path, vault: Path, data: bytes) -> None:
    from evidencesync.outside import NewFile, closed_vault

    with NewFile(file, closed_vault(vault), "Name another file: -o FILE") as place, place.writing() as stream:
        stream.write(data)


def _token_output(token: Token, answer: Answer, *, checked: bool) -> TokenOutput:
    from evidencesync.cli.custody_outputs import Digest, TokenOutput
    from evidencesync.evidence.digest import sha256_of
    from evidencesync.evidence.utc_time import format_utc_time

    return TokenOutput(
        gen_time=format_utc_time(token.gen_time_ns),
        accuracy_seconds=None if token.accuracy_ns is None else token.accuracy_ns / 1e9,
        authority=token.authority,
        policy=token.policy,
        serial=str(token.serial),
        digest=cast("Digest", token.digest),
        imprint=token.imprint.hex(),
        nonce=None if token.nonce is None else str(token.nonce),
        token_sha256=sha256_of(answer.response).hex(),
        request_sha256=None if answer.request is None else sha256_of(answer.request).hex(),
        authority_checked=checked,
    )


def _show_one(item: VaultItem, number: int, roots: Roots | None, problems: set[ExitCode]) -> ShownTimestamp:
    """The timestamp of one acquisition, or its problem: a bad timestamp hides no other. Adds exit codes to `problems`."""
    from evidencesync.cli.custody_outputs import ShownTimestamp
    from evidencesync.cli.outputs import Problem
    from evidencesync.evidence.display import escape_line
    from evidencesync.vault.timestamps import find_record, load_answer, load_stamped, lost_file

    try:
        answer = load_answer(item, number)
        stored = find_record(item, number)
        record = None if stored is None else stored.record.sequence
        problem = None
        if (lost := lost_file(stored, answer)) is not None:
            problems.add(lost.exit_code)
            problem = Problem(lost.slug, escape_line(lost.message))
        if answer is None:
            return ShownTimestamp(number, None, record, problem)
        token = answer.check(load_stamped(item, number), roots)
        return ShownTimestamp(number, _token_output(token, answer, checked=roots is not None), record, problem)
    except EvidenceSyncError as error:
        problems.add(error.exit_code)
        return ShownTimestamp(number, None, None, Problem(error.slug, escape_line(error.message)))


def _token_lines(token: TokenOutput) -> Iterator[str]:
    accuracy = "" if token.accuracy_seconds is None else f", give or take {token.accuracy_seconds:g} s"
    checked = "leads to a root that was given" if token.authority_checked else "NOT CHECKED, for no root was given"
    yield f"  existed at    {token.gen_time}{accuracy}"
    yield f"  authority     {safe_text(token.authority)}: {checked}"
    yield f"  number        {token.serial}, policy {token.policy}"
    yield f"  token         {token.token_sha256}"


def _attached_lines(output: TimestampOutput) -> Iterator[str]:
    yield f"{safe_text(output.case)} / {safe_text(output.item)}, acquisition {output.acquisition}: the timestamp is in place"
    yield from _token_lines(output.token)
    yield f"  record        {output.record}"
    yield f"  chain head    {output.chain_head_sha256}"


def _show_lines(output: TimestampShowOutput) -> Iterator[str]:
    for one in output.acquisitions:
        record = "no record" if one.record is None else f"record {one.record}"
        if one.problem is not None:
            yield f"{one.acquisition:04}  BAD: {one.problem.message}"
            if one.token is not None:
                yield from _token_lines(one.token)
        elif one.token is None:
            yield f"{one.acquisition:04}  no timestamp"
        else:
            yield f"{one.acquisition:04}  {record}"
            yield from _token_lines(one.token)
