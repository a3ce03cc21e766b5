"""A vault is verified from afar: verdicts that are no answer, or contradict themselves, and readers who ask for too much."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.acquire import verdict as asking
from evidencesync.custody.sshsig import sign_document
from evidencesync.errors import (
    BusyError,
    LinkLostError,
    MalformedDocumentError,
    ProtocolError,
    SignatureError,
    UntrustedSignerError,
    VersionError,
)
from evidencesync.ingest.admission import Reader
from evidencesync.ingest.verdict import _only_one
from evidencesync.limits import MAX_FILE_SIZE
from evidencesync.protocol.framing import encode_frame
from evidencesync.protocol.messages import ASKING_VERSION, HOLES_VERSION, READING_VERSION, Message, Status
from evidencesync.protocol.verdict_messages import Checking, RecordAsk, VerdictShown, VerifyAsk
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.vault_verdict import ChainEnd, VaultVerdict, encode_verdict
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.hostile_client import HostileReader, data_frame
from tests.support.hostile_vault import MadeUpVault, made_up_vault
from tests.support.verdicts import asked, finding, lies, verified, with_verdict

_ASK = VerifyAsk(bytes(32), None, None, None, all_digests=False)
Change = Callable[[VaultVerdict], VaultVerdict]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("made"))
    (bench.source / "a").write_bytes(b"evidence")
    bench.push()
    return bench


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    return copy_of(made, tmp_path)


def changed(**changes: Any) -> Change:
    return lambda document: msgspec.structs.replace(document, **changes)


def asked_otherwise(**changes: Any) -> Change:
    return lambda document: msgspec.structs.replace(document, asked=msgspec.structs.replace(document.asked, **changes))


def judged(**changes: Any) -> Change:
    return lambda document: with_verdict(document, **changes)


def counted(**changes: Any) -> Change:
    return lambda document: with_verdict(document, checked=msgspec.structs.replace(document.verdict.checked, **changes))


def headed(**changes: Any) -> Change:
    return lambda document: with_verdict(
        document, heads=[msgspec.structs.replace(one, **changes) for one in document.verdict.heads]
    )


# --- Vaults that lie -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        asked_otherwise(nonce="0" * 64),
        asked_otherwise(case="another"),
        asked_otherwise(all_digests=True),
        changed(vault_id="f" * 32),
        changed(session="f" * 32),
        changed(vault_key="SHA256:" + "A" * 43),
        changed(reader_key="SHA256:" + "A" * 43),
    ],
)
def test_a_verdict_for_another_question_reader_or_vault_is_no_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    lies(monkeypatch, change)
    with pytest.raises((ProtocolError, MalformedDocumentError)):
        asked(bench)


def test_a_verdict_of_yesterday_is_no_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    yesterday = asked(bench).verdict
    lies(monkeypatch, lambda _now: yesterday)
    with pytest.raises(ProtocolError, match="another question, or was made at another time"):
        asked(bench)


@pytest.mark.parametrize(
    "change",
    [
        judged(findings=[finding("file-damaged")]),
        judged(findings=[finding("file-damaged", severity="info")]),
        judged(findings=[finding("a-kind-of-tomorrow")]),
        judged(findings=[finding("unreadable")], verdict="incomplete", exit_code=30),
        judged(findings=[finding("file-damaged")], verdict="fail", exit_code=0),
        judged(findings=[finding("file-damaged")], verdict="fail", exit_code=3),
        judged(findings=[finding("file-damaged")], verdict="incomplete", exit_code=3),
        judged(findings=[finding("a-kind-of-tomorrow")], verdict="fail", exit_code=99),
        judged(findings=[finding("a-kind-of-tomorrow"), finding("rolled-back")], verdict="fail", exit_code=30),
        judged(verdict="fail", exit_code=30),
        judged(exit_code=30),
        judged(findings=[finding("source-gaps", severity="info", message="red\x1b[31m")]),
        judged(findings=[finding("source-gaps", severity="info", message="\u202eback")]),
        judged(findings=[finding("source-gaps", severity="info", path="a\x1b")]),
        judged(findings=[finding("source-gaps", severity="info", offset=-1)]),
        judged(trust="outside"),
        judged(digests=["blake3", "sha256"]),
        judged(vault_id=None),
        judged(heads=[]),
        counted(acquisitions=0),
        counted(bytes=-1),
        counted(files=MAX_FILE_SIZE + 1),
        headed(sequence=0),
        headed(sha256="0" * 64),
        headed(case="a", item=None),
        changed(chains=[]),
        changed(ended="2001-01-01T00:00:00.000000Z"),
        changed(begun="never"),
        changed(tool="\x07"),
        lambda document: msgspec.structs.replace(document, chains=document.chains * 2),
        lambda document: msgspec.structs.replace(
            document, chains=[ChainEnd(one.case, one.item, 1, [*one.digests, *one.digests]) for one in document.chains]
        ),
    ],
)
def test_a_verdict_that_contradicts_itself_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    lies(monkeypatch, change)
    with pytest.raises(MalformedDocumentError):
        asked(bench)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data + b"\n",
        lambda data: data.replace(b'"tool"', b'"more": 1,\n  "tool"', 1),
        lambda _: b"no JSON",
        lambda _: b"[" * 100_000,
        lambda data: data[:-40],
    ],
)
def test_a_verdict_in_another_form_is_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes], bytes]
) -> None:
    lies(monkeypatch, lambda document: spoil(encode_verdict(document)))
    with pytest.raises(MalformedDocumentError):
        asked(bench)


def test_a_finding_of_a_kind_that_only_a_later_version_knows_is_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lies(monkeypatch, judged(findings=[finding("a-kind-of-tomorrow")], verdict="fail", exit_code=30))
    assert asked(bench).verdict.verdict.exit_code == 30


def test_a_verdict_signed_by_another_key_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_signer()
    monkeypatch.setattr(
        "evidencesync.ingest.verdict.sign_document", lambda _key, namespace, digest: sign_document(other, namespace, digest)
    )
    with pytest.raises(SignatureError, match="another key"):
        asked(bench)


@pytest.mark.parametrize("namespace", ["receipt@evidencesync", "session@evidencesync"])
def test_a_signature_for_something_else_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
    monkeypatch.setattr("evidencesync.ingest.verdict.VERDICT_NAMESPACE", namespace)
    with pytest.raises(SignatureError, match="namespace"):
        asked(bench)


def test_a_signature_over_other_bytes_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "evidencesync.ingest.verdict.sign_document", lambda key, namespace, _digest: sign_document(key, namespace, bytes(64))
    )
    with pytest.raises(SignatureError):
        asked(bench)


def test_an_older_vault_is_told_from_one_that_has_grown(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    older = copy_of(bench, tmp_path / "older")
    bench.push()
    state = tmp_path / "state"
    assert verified(bench, state).exit_code == 0
    verdict = verified(older, state)
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert {one.slug for one in verdict.findings if one.severity == "error"} == {"older-copy"}
    bench.push()
    assert verified(bench, state).exit_code == 0


def test_another_history_is_told_and_not_remembered(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, state = copy_of(bench, tmp_path / "other"), tmp_path / "state"
    bench.push()
    assert verified(bench, state).exit_code == 0
    for _ in range(2):
        other.push()
    assert {one.slug for one in verified(other, state).findings if one.severity == "error"} == {"forked"}
    assert verified(bench, state).exit_code == 0


def test_a_vault_of_another_key_than_it_had_is_told(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verified(bench, tmp_path / "state").exit_code == 0
    for file in (tmp_path / "state").rglob("*.json"):
        file.write_text(file.read_text().replace(bench.vault.signer.public_key.fingerprint, "SHA256:" + "A" * 43))
    verdict = verified(bench, tmp_path / "state")
    assert verdict.exit_code == 34
    assert "this machine has seen it with" in verdict.findings[-1].message


def test_a_chain_that_has_grown_by_more_than_is_shown_is_not_remembered(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    assert verified(bench, state).exit_code == 0
    for _ in range(2):
        bench.push()
    monkeypatch.setattr("evidencesync.verify.vault_verdict.MAX_SHOWN_DIGESTS", 1)
    verdict = verified(bench, state)
    assert (verdict.exit_code, {one.slug for one in verdict.findings if one.severity == "warning"}) == (0, {"not-remembered"})


# --- Vaults' ends that are none --------------------------------------------------------------------------------------------


def answered(bench: Bench, answer: Callable[[MadeUpVault], object], version: int = ASKING_VERSION, **changes: Any) -> None:
    """Asks a vault's end that answers so, and then listens until we hang up."""

    def script(made_up: MadeUpVault) -> None:
        made_up.welcome(version=version)
        made_up.hear(VerifyAsk)
        answer(made_up)

    with made_up_vault(bench, script) as link:
        asked(bench, connect=lambda: link, **changes)


def test_a_vault_s_end_that_cannot_verify_from_afar_is_not_asked(bench: Bench) -> None:
    with pytest.raises(VersionError, match="cannot verify"):
        answered(bench, lambda _: None, version=READING_VERSION)


def test_a_verdict_of_a_gigabyte_is_refused_before_it_comes(bench: Bench) -> None:
    body = msgspec.msgpack.encode([1 << 30, b""])
    with pytest.raises(ProtocolError, match="malformed"):
        answered(bench, lambda vault: vault.link.write(encode_frame(63, body)))


def test_more_than_was_announced_is_refused(bench: Bench) -> None:
    def answer(vault: MadeUpVault) -> None:
        vault.say(VerdictShown(4, b""))
        vault.link.write(data_frame(b"x" * 5))

    with pytest.raises(ProtocolError):
        answered(bench, answer)


@pytest.mark.parametrize("said", [Status("receiving", 0, 0), Checking(0, 0, 0, 0, "on and on")])
def test_a_vault_that_only_says_that_it_works_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch, said: Message) -> None:
    monkeypatch.setattr("evidencesync.connection.vault_answers.MAX_CUSTODY_WORK_SECONDS", 0.0)
    monkeypatch.setattr(asking, "MAX_STANDSTILL_SECONDS", 0.0)

    def answer(vault: MadeUpVault) -> None:
        while True:
            vault.say(said)

    with pytest.raises(LinkLostError, match="has done nothing"):
        answered(bench, answer)


def test_a_verification_that_is_to_be_recorded_asks_first_whether_it_may(bench: Bench) -> None:
    """Only a vault's end that knows the question is asked; and no other answer is taken for a yes."""
    with pytest.raises(ProtocolError, match="RecordAllowed was expected"):

        def script(made_up: MadeUpVault) -> None:
            made_up.welcome(version=HOLES_VERSION)
            made_up.hear(RecordAsk)
            made_up.say(VerdictShown(4, b""))

        with made_up_vault(bench, script) as link:
            asked(bench, connect=lambda: link, to_record="Leave it out.")
    with pytest.raises(ProtocolError, match="malformed"):
        body = msgspec.msgpack.encode([1 << 30, b""])
        answered(bench, lambda vault: vault.link.write(encode_frame(63, body)), to_record="Leave it out.")


# --- Readers ---------------------------------------------------------------------------------------------------------------


class Gate:
    """Holds the first check of a vault until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

        def held(*args: Any, **named: Any) -> Any:
            if not self.reached.is_set():
                self.reached.set()
                assert self.opened.wait(30)
            return audit_vault(*args, **named)

        monkeypatch.setattr("evidencesync.ingest.verdict.audit_vault", held)


def inside(bench: Bench) -> HostileReader:
    reader = HostileReader(bench)
    reader.enter(reader.claim_to_read())
    return reader


def test_a_key_has_one_verification_at_a_time_and_others_have_theirs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    first = inside(bench)
    first.send(_ASK)
    assert gate.reached.wait(30)
    second = inside(bench)
    second.send(_ASK)
    assert isinstance(second.ended(), BusyError)
    gate.opened.set()
    assert first.hear(VerdictShown).size
    assert asked(bench).verdict.verdict.verdict == "pass"


def test_a_place_to_verify_cannot_be_taken_by_another_account(bench: Bench) -> None:
    """It lies in a file that the vault's account alone can open, and it is given back."""
    key = bench.vault.layout.root / "vault_key"
    before = key.stat()
    reader = Reader("ana@lab", bench.signer.public_key, "0" * 32, "0" * 64)
    with _only_one(bench.vault, reader):
        assert key.stat().st_mode & 0o077 == 0
        with pytest.raises(BusyError), _only_one(bench.vault, reader):
            pytest.fail("two at a time")
        assert "evidencesync-verify" not in Path("/proc/net/unix").read_text()
    with _only_one(bench.vault, reader):
        assert (key.stat().st_mtime_ns, key.stat().st_size) == (before.st_mtime_ns, before.st_size)


def test_a_vault_that_cannot_be_written_verifies_itself_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("evidencesync.ingest.verdict.os.open", refused)
    reader = Reader("ana@lab", bench.signer.public_key, "0" * 32, "0" * 64)
    with _only_one(bench.vault, reader), _only_one(bench.vault, reader):
        pass


def test_who_is_told_that_the_vault_is_busy_waits_and_asks_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    first = inside(bench)
    first.send(_ASK)
    assert gate.reached.wait(30)
    pauses: list[int] = []

    def pause(attempt: int) -> float:
        pauses.append(attempt)
        gate.opened.set()
        first.hear(VerdictShown)
        return 0.0

    monkeypatch.setattr(asking, "pause_seconds", pause)
    assert asked(bench, retries=1).verdict.verdict.verdict == "pass"
    assert pauses == [0]


def test_a_reader_that_leaves_ends_the_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    reader = inside(bench)
    reader.send(_ASK)
    assert gate.reached.wait(30)
    reader.link.close()
    gate.opened.set()
    assert isinstance(reader.ended(), LinkLostError)
    assert asked(bench).verdict.verdict.verdict == "pass"  # nothing is held any more


def test_a_thousand_questions_of_a_reader_that_leaves_are_not_answered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    reader = inside(bench)
    reader.send(*[_ASK] * 1000)
    assert gate.reached.wait(30)
    reader.link.close()
    gate.opened.set()
    assert isinstance(reader.ended(), LinkLostError)


def test_a_key_that_is_no_longer_trusted_gets_no_verdict(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    reader = inside(bench)
    reader.send(_ASK)
    assert gate.reached.wait(30)
    monkeypatch.setattr(
        type(bench.vault.load_trust()), "principal_for", lambda *_: (_ for _ in ()).throw(UntrustedSignerError("retired"))
    )
    gate.opened.set()
    assert isinstance(reader.ended(), UntrustedSignerError)


@pytest.mark.parametrize(
    "ask",
    [
        VerifyAsk(bytes(32), None, "I1", None, all_digests=False),
        VerifyAsk(bytes(32), "C1", None, 1, all_digests=False),
        VerifyAsk(bytes(32), "../..", None, None, all_digests=False),
        VerifyAsk(bytes(32), "C1", "a\x1bb", None, all_digests=False),
    ],
)
def test_what_cannot_be_verified_ends_the_session(bench: Bench, ask: Message) -> None:
    reader = inside(bench)
    reader.send(ask)
    assert isinstance(reader.ended(), ProtocolError)


def test_data_where_a_question_stands_end_the_session(bench: Bench) -> None:
    reader = inside(bench)
    reader.send(_ASK)
    reader.hear(VerdictShown)
    reader.send_data(b"x")
    assert isinstance(reader.ended(), ProtocolError)
