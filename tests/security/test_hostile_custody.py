"""Attack: a custody client that states what it may not, and a vault that shows a chain that is none."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.acquire.custody import RecordDraft, append_record
from evidencesync.connection.link import LocalLink
from evidencesync.custody.documents import CUSTODY_NAMESPACE, RECEIPT_NAMESPACE, CustodyRecord, Person, RecordType
from evidencesync.custody.record import SIGNERS, SignedBy, decode_record
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.text import encode_readable
from evidencesync.errors import EvidenceSyncError, LinkLostError, SealedError
from evidencesync.evidence.digest import sha512_of
from evidencesync.exit_codes import ExitCode
from evidencesync.ingest.custody import MOST_APPENDS
from evidencesync.limits import MAX_DETAILS, MAX_FREE_TEXT
from evidencesync.localstate.heads import HeadMemory
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import Alive, Append, Failure, Message, PageOffer, Ready, Records, Standing
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.custody_client import CustodyClient, chain_of, custody_request, state
from tests.support.hostile_client import data_frame, snapshot
from tests.support.hostile_vault import TamperedLink, push_tampered
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = make_bench(tmp_path_factory.mktemp("template"))
    (made.source / "small").write_bytes(b"evidence")
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


@pytest.fixture
def victim(bench: Bench) -> Iterator[Bench]:
    """A bench of which nothing may change, which can be added to afterwards, and whose vault then is as it should be."""
    before = snapshot(bench.vault.layout.root)
    yield bench
    assert snapshot(bench.vault.layout.root) == before
    assert state(bench, "noted", {"text": "after"}).record.record.sequence == 3
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


def refused(client: CustodyClient, document: bytes) -> EvidenceSyncError:
    """What the vault refuses a record with."""
    with pytest.raises(EvidenceSyncError) as caught:
        client.append(document)
    client.link.close()
    return caught.value


# --- A hostile client --------------------------------------------------------------------------------------------------

OTHER_KEY = Person(name="Ana", principal="ana@lab", key="SHA256:" + "A" * 43)

STATEMENTS: dict[str, tuple[int, Callable[[CustodyClient], bytes]]] = {
    "about another item": (34, lambda client: client.statement(item="E2")),
    "about another case": (34, lambda client: client.statement(case="2026/12")),
    "about another vault": (34, lambda client: client.statement(vault_id="0" * 32)),
    "about an acquisition that was not made": (34, lambda client: client.statement("verified", acquisition=2)),
    "with a number too far": (34, lambda client: client.statement(sequence=4)),
    "with the number of another": (34, lambda client: client.statement(sequence=2)),
    "after a record that never was": (34, lambda client: client.statement(previous_sha256="0" * 64)),
    "as a first record": (34, lambda client: client.statement(sequence=1, previous_sha256=None, vault_id="0" * 32, item="E2")),
    "of another actor": (
        32,
        lambda client: client.statement(
            actor=Person(name="Ben", principal="ben@lab", key=client.bench.signer.public_key.fingerprint)
        ),
    ),
    "that names another key": (32, lambda client: client.statement(actor=OTHER_KEY)),
    "with control characters": (32, lambda client: client.statement(details={"text": "\x1b[2J"})),
    "with control characters in a name": (32, lambda client: client.statement(details={"a\nb": "x"})),
    "with hidden characters in the actor's name": (
        32,
        lambda client: client.statement(
            actor=Person(name="\u202eana", principal="ana@lab", key=client.bench.signer.public_key.fingerprint)
        ),
    ),
    "with a detail that is too long": (32, lambda client: client.statement(details={"text": "x" * (MAX_FREE_TEXT + 1)})),
    "with too many details": (40, lambda client: client.statement(details={str(n): "x" for n in range(MAX_DETAILS + 1)})),
    "with ten thousands of details": (32, lambda client: client.statement(details={str(n): "" for n in range(20_000)})),
    "in another form": (32, lambda client: client.statement().replace(b"  ", b" ")),
    "that is none": (32, lambda client: b"{}\n"),
    "of a time that is none": (32, lambda client: client.statement(time="2026-02-30T00:00:00.000000Z")),
    "that accepts what nobody handed over": (10, lambda client: client.statement("accepted", details={"record": "1"})),
    "that hands over to its signer": (32, lambda client: client.statement("handed-over", details={"to": "ana@lab"})),
    "that corrects a record to come": (10, lambda client: client.statement("corrected", details={"record": "9"})),
}


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_false_statement_is_refused_and_changes_nothing(victim: Bench, what: str) -> None:
    code, make = STATEMENTS[what]
    client = CustodyClient(victim)
    client.enter()
    document = make(client)
    if what == "as a first record":  # one that says it is late is not appended either; the chain is shown once more
        client.append(document)
        client.link.close()
        assert len(client.shown) == 2
        return
    assert refused(client, document).exit_code == code


@pytest.mark.parametrize("kind", [kind for kind, by in SIGNERS.items() if by is not SignedBy.VAULT])
def test_whatever_statement_the_vault_takes_verify_passes(bench: Bench, kind: RecordType) -> None:
    """Of every type, about the item or an acquisition, with and without details."""
    odd: list[dict[str, Any]] = [{}, {"acquisition": 1}, {"details": {}}, {"details": {"to": "ben@lab", "record": "1"}}]
    for changes in odd:
        client = CustodyClient(bench)
        client.enter()
        with contextlib.suppress(EvidenceSyncError):
            client.append(client.statement(kind, **changes))
        client.link.close()
        verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
        assert [one for one in verdict.findings if one.severity == "error"] == []


def test_a_record_about_a_timestamp_is_not_taken_without_it(victim: Bench) -> None:
    client = CustodyClient(victim)
    client.enter()
    error = refused(client, client.statement("timestamped", acquisition=1))
    assert (error.exit_code, "timestamp" in error.message) == (ExitCode.NOT_THERE, True)


@pytest.mark.parametrize("signer", ["another", "namespace", "none", "garbage"])
def test_a_statement_is_signed_by_the_key_that_opened_the_session(victim: Bench, signer: str) -> None:
    client = CustodyClient(victim)
    client.enter()
    document = client.statement()
    if signer == "another":
        client.hand_in(document, signer=new_signer())
    elif signer == "namespace":
        client.hand_in(document, namespace=RECEIPT_NAMESPACE)
    else:
        client.send(Append(document, b"" if signer == "none" else b"-----BEGIN SSH SIGNATURE-----\n"))
    with pytest.raises(EvidenceSyncError) as caught:
        client.listen()
    assert caught.value.exit_code is ExitCode.SIGNATURE


def test_a_key_that_is_revoked_while_the_session_is_open_adds_nothing(bench: Bench) -> None:
    client = CustodyClient(bench)
    client.enter()
    bench.vault.trust.revoke(bench.signer.public_key)
    assert refused(client, client.statement()).exit_code is ExitCode.SIGNATURE
    assert bench.vault.item(bench.name).ledger.head().sequence == 2


@pytest.mark.parametrize(
    "said",
    [frame_of(Alive()), frame_of(PageOffer(0, bytes(16))), data_frame(b"x"), b"\xff" * 64],
    ids=["alive", "page", "data", "noise"],
)
def test_nothing_else_can_be_said_in_this_conversation(victim: Bench, said: bytes) -> None:
    client = CustodyClient(victim)
    client.enter()
    client.send_bytes(said)
    assert client.ended().exit_code is ExitCode.PEER


def test_records_without_end_are_not_taken(bench: Bench) -> None:
    client = CustodyClient(bench)
    client.enter()
    with pytest.raises(EvidenceSyncError) as caught:
        for _ in range(MOST_APPENDS + 1):
            client.append(client.statement())
    assert caught.value.exit_code in (ExitCode.PEER, ExitCode.LINK_LOST)
    assert bench.vault.item(bench.name).ledger.head().sequence == 2 + MOST_APPENDS
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


def test_a_late_statement_is_not_appended_and_the_new_records_are_shown(bench: Bench) -> None:
    client = CustodyClient(bench)
    client.enter()
    late = client.statement()
    state(bench, "noted", {"text": "first"})
    assert client.append(late).count == 3
    assert decode_record(client.last).details == {"text": "first"}
    assert client.append(client.statement()).count == 4
    client.link.close()


def test_a_repeated_statement_stands_once(bench: Bench) -> None:
    client = CustodyClient(bench)
    client.enter()
    document = client.statement()
    assert client.append(document).count == 3
    assert client.append(document).count == 3
    client.link.close()


def test_a_custody_session_cannot_push(victim: Bench) -> None:
    client = CustodyClient(victim)
    client.enter()
    client.send(PageOffer(0, bytes(16)))
    assert client.ended().exit_code is ExitCode.PEER


def test_an_item_that_is_not_there_is_not_made(victim: Bench) -> None:
    client = CustodyClient(victim)
    client.send(client.begin(client.claim(client.hello(purpose="custody"), item="E9")))
    with pytest.raises(EvidenceSyncError) as caught:
        client.listen()
    assert caught.value.exit_code is ExitCode.NOT_THERE


def test_a_push_into_a_sealed_item_is_refused_and_the_rest_goes_on(bench: Bench) -> None:
    state(bench, "sealed", {"reason": "closed"})
    before = snapshot(bench.vault.layout.root)
    with pytest.raises(SealedError):
        bench.push()
    assert snapshot(bench.vault.layout.root) == before
    with pytest.raises(SealedError):
        state(bench, "sealed")
    assert refused_again(bench).exit_code is ExitCode.LOCKED
    ben = new_signer()
    bench.vault.trust.add(ben.public_key, "ben@lab")
    handed = state(bench, "handed-over", {"to": "ben@lab"}).record.record.sequence
    state(bench, "noted", {"text": "x"}, ben)
    state(bench, "corrected", {"record": "1", "make": "Dell"}, ben)
    state(bench, "accepted", {"record": str(handed)}, ben)
    assert chain_of(bench).history.statements.held_by == "ben@lab"
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


def refused_again(bench: Bench) -> EvidenceSyncError:
    """What a second sealing is refused with, where the client does not look first."""
    client = CustodyClient(bench)
    client.enter()
    return refused(client, client.statement("sealed"))


# --- A hostile vault ---------------------------------------------------------------------------------------------------

Tamper = Callable[[Message], Any]


def state_through(bench: Bench, tamper: Tamper, **changes: Any) -> Any:
    """An honest append to the real vault, behind something that changes what it says."""
    threads: list[threading.Thread] = []

    def reach() -> TamperedLink:
        link, thread = bench.serve()
        threads.append(thread)
        return TamperedLink(link, tamper)

    draft = RecordDraft("noted", {"text": "mine"})
    try:
        return append_record(reach, custody_request(bench, **changes), lambda _: draft)
    finally:
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()


def change_record(number: int, change: Callable[[CustodyRecord], CustodyRecord], bench: Bench | None = None) -> Tamper:
    """Changes one record on the way; with a bench it is signed anew with the vault's key."""

    def tamper(message: Message) -> Message:
        if not isinstance(message, Records):
            return message
        changed = []
        for document, signature in message.records:
            record = decode_record(document)
            if record.sequence != number:
                changed.append((document, signature))
                continue
            other = encode_readable(change(record))
            forged = signature if bench is None else sign_document(bench.vault.signer, CUSTODY_NAMESPACE, sha512_of(other))
            changed.append((other, forged))
        return msgspec.structs.replace(message, records=changed)

    return tamper


def only(kind: type[Message], **changes: Any) -> Tamper:
    return lambda message: msgspec.structs.replace(message, **changes) if isinstance(message, kind) else message


def without_records(keep: int) -> Tamper:
    """Shows the first records alone, and lies about where the chain stands accordingly."""

    def tamper(message: Message) -> Message:
        if isinstance(message, Records):
            return msgspec.structs.replace(message, records=message.records[:keep])
        return message

    return tamper


LIES: dict[str, tuple[int, Callable[[Bench], Tamper]]] = {
    "a changed record": (32, lambda _: change_record(1, lambda one: msgspec.structs.replace(one, details={"source": "/x"}))),
    "a record changed and signed by the vault": (
        32,
        lambda bench: change_record(1, lambda one: msgspec.structs.replace(one, details={}), bench),
    ),
    "a last record changed": (
        32,
        lambda _: change_record(2, lambda one: msgspec.structs.replace(one, time="2020-01-01T00:00:00.000000Z")),
    ),
    "a chain of another item": (34, lambda _: change_record(1, lambda one: msgspec.structs.replace(one, item="E2"))),
    "a chain without its end": (34, lambda _: without_records(1)),
    "no records": (34, lambda _: without_records(0)),
    "another head": (34, lambda _: only(Standing, head_sha256=bytes(32))),
    "no head": (34, lambda _: only(Standing, head_sha256=None)),
    "an empty chain": (40, lambda _: only(Standing, count=0, head_sha256=None)),
    "a chain longer than any": (40, lambda _: only(Standing, count=2**31)),
    "more records than it says": (40, lambda _: only(Standing, count=1)),
    "records from another number on": (40, lambda _: only(Records, first=2)),
    "records without end": (40, lambda _: only(Records, records=[], more=True)),
    "a name that steers a terminal": (40, lambda _: only(Standing, principal="\x1b[2J")),
    "no name": (40, lambda _: only(Standing, principal="")),
    "something else": (40, lambda _: lambda message: Alive() if isinstance(message, Standing) else message),
    "a push": (
        40,
        lambda _: lambda message: Ready("ana@lab", 1, 0, None, None, 0, "case", 0) if isinstance(message, Standing) else message,
    ),
    "data": (40, lambda _: lambda message: data_frame(b"x") if isinstance(message, Standing) else message),
    "that all is well, as a failure": (
        40,
        lambda _: lambda message: Failure("gaps", "done", None) if isinstance(message, Records) else message,
    ),
}


@pytest.mark.parametrize("what", LIES)
def test_nothing_is_signed_upon_a_chain_that_does_not_hold(victim: Bench, what: str) -> None:
    code, make = LIES[what]
    with pytest.raises(EvidenceSyncError) as caught:
        state_through(victim, make(victim))
    assert caught.value.exit_code == code, caught.value


def test_a_record_signed_by_nobody_who_may_is_found_by_the_examiner_too(victim: Bench) -> None:
    """The last record, `received`, is signed by the examiner in place of the vault."""

    def tamper(message: Message) -> Message:
        if not isinstance(message, Records):
            return message
        (acquired, (document, _)) = message.records
        forged = sign_document(victim.signer, CUSTODY_NAMESPACE, sha512_of(document))
        return msgspec.structs.replace(message, records=[acquired, (document, forged)])

    with pytest.raises(EvidenceSyncError) as caught:
        state_through(victim, tamper)
    assert caught.value.exit_code is ExitCode.SIGNATURE


def after_an_append(change: Callable[[Message], Any]) -> Tamper:
    """Honest until the chain was shown once."""
    seen: list[bool] = []

    def tamper(message: Message) -> Any:
        if len(seen) > 1:
            return change(message)
        if isinstance(message, Standing | Records):
            seen.append(True)
        return message

    return tamper


def test_a_vault_that_takes_a_record_and_does_not_show_it_is_found_out(bench: Bench) -> None:
    head = bytes.fromhex(bench.vault.item(bench.name).ledger.head().sha256 or "")

    def hide(message: Message) -> Message:
        if isinstance(message, Standing):
            return Standing("ana@lab", 2, head)
        return Records(3, [], more=False) if isinstance(message, Records) else message

    with pytest.raises(EvidenceSyncError, match="does not show it") as caught:
        state_through(bench, after_an_append(hide))
    assert caught.value.exit_code is ExitCode.CHAIN


@pytest.mark.parametrize("count", [1, 2])
def test_a_vault_that_cuts_the_chain_after_an_append_is_found_out(bench: Bench, count: int) -> None:
    cut = lambda message: msgspec.structs.replace(message, count=count) if isinstance(message, Standing) else message  # noqa: E731
    with pytest.raises(EvidenceSyncError) as caught:
        state_through(bench, after_an_append(cut))
    assert caught.value.exit_code in (ExitCode.CHAIN, ExitCode.PEER)


def test_a_vault_that_shows_less_after_a_lost_link_is_found_out(bench: Bench) -> None:
    """The link is lost at the acknowledgement; over the next one the vault shows the chain as it was before the chain grew."""
    state(bench, "noted", {"text": "earlier"})
    links: list[int] = []
    head = bytes.fromhex(bench.vault.item(bench.name).ledger.load(bench.vault.item(bench.name).ledger.files()[1]).sha256)

    class Lossy(TamperedLink):
        def __init__(self, link: LocalLink) -> None:
            links.append(1)
            super().__init__(link, after_an_append(self._lose) if len(links) == 1 else self._shorten)

        def _lose(self, message: Message) -> bytes:
            raise LinkLostError("lost")

        def _shorten(self, message: Message) -> Message:
            if isinstance(message, Standing):
                return Standing("ana@lab", 2, head)
            if isinstance(message, Records):
                return msgspec.structs.replace(message, records=message.records[:2])
            return message

    draft = RecordDraft("noted", {"text": "mine"})
    nothing_seen = HeadMemory(bench.source.parent / "nothing seen")
    with pytest.raises(EvidenceSyncError, match="another chain than it did") as caught:
        append_record(lambda: Lossy(bench.serve()[0]), custody_request(bench, retries=2, memory=nothing_seen), lambda _: draft)
    assert caught.value.exit_code is ExitCode.CHAIN


def test_a_push_is_not_disturbed_by_words_of_this_conversation(victim: Bench) -> None:
    with pytest.raises(EvidenceSyncError) as caught:
        push_tampered(victim, lambda message: Standing("ana@lab", 2, bytes(32)) if isinstance(message, Ready) else message)
    assert caught.value.exit_code is ExitCode.PEER
