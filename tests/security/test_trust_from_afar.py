"""Attack: to change whom a vault trusts from afar, without the role, or by a request that was made for another time or place."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from evidencesync.acquire.documents import DocumentsRequest
from evidencesync.acquire.trust import Administrator, ask_for_change
from evidencesync.connection.process import SteadyClock
from evidencesync.custody.documents import CUSTODY_NAMESPACE, Person, ReadingClaim
from evidencesync.custody.roles import USUAL, Grant, Role, make_grant
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.custody.trust_requests import ChangeOfTrust, SignedRequest, TrustRequest, added, changed, retired, revoked
from evidencesync.errors import EvidenceSyncError, LinkLostError, NotAllowedError
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest import trust as served
from evidencesync.ingest.documents import send_own_documents
from evidencesync.protocol.document_messages import DocumentBatch, DocumentsAsk
from evidencesync.protocol.messages import VERSIONS, Message
from evidencesync.protocol.trust_messages import OwnDocumentsAsk, TrustAsk
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Verdict
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.support.hostile_client import MOMENT, HostileReader
from tests.unit.vault.test_role_changes import older_vault

ROLES: tuple[Role, ...] = get_args(Role)
BEN = new_signer()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Ana may administer, and nothing else."""
    return only(make_bench(tmp_path), "admin")


def only(bench: Bench, *may: Role, cases: tuple[str, ...] | None = None) -> Bench:
    bench.vault.trust.change(bench.signer.public_key, make_grant(may, cases, None))
    return bench


class Admin(HostileReader):
    """A session with the purpose `trust`, in which anything may be asked."""

    def claim_to(self, purpose: str = "trust", said: str = "trust") -> bytes:
        welcome = self.hello(versions=[VERSIONS[-1]], purpose=purpose)
        return msgspec.json.encode(
            ReadingClaim(
                purpose=said,  # type: ignore[arg-type]
                nonce=welcome.nonce.hex(),
                vault_id=welcome.vault_id,
                vault_key=self.bench.vault.signer.public_key.fingerprint,
                session=self.session,
                key=self.bench.signer.public_key.fingerprint,
            )
        )

    @classmethod
    def entered(cls, bench: Bench) -> Admin:
        admin = cls(bench)
        admin.enter(admin.claim_to())
        return admin

    def request(self, change: ChangeOfTrust, **changes: Any) -> TrustRequest:
        assert self.welcome is not None
        settings, head = self.bench.vault.settings, self.bench.vault.ledger.head()
        known = TrustRequest(
            format="evidencesync-trust-request/1",
            vault_id=settings.id,
            vault_key=settings.key,
            head_sequence=head.sequence,
            head_sha256=head.sha256 or "",
            nonce=self.welcome.nonce.hex(),
            time=MOMENT,
            actor=Person(name="Ana", principal="ana@lab", key=self.bench.signer.public_key.fingerprint),
            action=change.action,
            details=change.details,
        )
        return msgspec.structs.replace(known, **changes)

    def ask(self, request: TrustRequest, signer: SigningKey | None = None) -> None:
        signed = SignedRequest.of(request, signer or self.bench.signer)
        self.send(TrustAsk(signed.data, signed.signature))

    def refused(self) -> str:
        with pytest.raises(EvidenceSyncError) as error:
            self.hear(DocumentBatch)
        return error.value.slug


def add_ben(grant: Grant = USUAL) -> ChangeOfTrust:
    return added(BEN.public_key, "ben@lab", grant)


def knows_ben(vault: Vault) -> bool:
    return any(known.signer.key == BEN.public_key for known in vault.trust.signers())


def audited(bench: Bench) -> Verdict:
    return audit_vault(bench.vault.layout.root, now_ns=SteadyClock()())


def administrator(bench: Bench, signer: SigningKey | None = None, **changes: Any) -> Administrator:
    """An honest one."""
    folders = iter(range(100))

    def make_folder() -> Path:
        made = bench.source.parent / f"fetched-{secrets.token_hex(4)}-{next(folders)}"
        made.mkdir()
        return made

    known = Administrator(
        connect=lambda: bench.serve()[0],
        request=DocumentsRequest(b"", signer or bench.signer, secrets.token_hex(16), own=True, purpose="trust"),
        name="Ana",
        organisation=None,
        recall=lambda _: None,
        make_folder=make_folder,
        require=lambda _: None,
        tell=lambda _: None,
        now=SteadyClock(),
    )
    return replace(known, **changes)


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_administer_opens_the_session_and_asks(bench: Bench, role: Role) -> None:
    only(bench, role)
    if role == "admin":
        assert ask_for_change(administrator(bench), lambda _: add_ben())[1] is not None
        assert knows_ben(bench.vault)
        return
    with pytest.raises(NotAllowedError):
        ask_for_change(administrator(bench), lambda _: add_ben())
    assert not knows_ben(bench.vault)


def test_who_may_administer_in_some_cases_changes_no_trust(bench: Bench) -> None:
    only(bench, "admin", cases=("2026/*",))
    with pytest.raises(NotAllowedError, match="not in all cases"):
        ask_for_change(administrator(bench), lambda _: add_ben())


def test_the_role_is_asked_for_again_with_the_request(bench: Bench) -> None:
    admin = Admin.entered(bench)
    admin.send(OwnDocumentsAsk())
    while admin.hear(DocumentBatch).files:
        pass
    only(bench, "read")
    admin.ask(admin.request(add_ben()))
    assert (admin.refused(), knows_ben(bench.vault)) == ("not-allowed", False)


def test_a_session_that_reads_changes_nothing(bench: Bench) -> None:
    reader = Admin(bench)
    reader.enter(reader.claim_to("read", "read"))
    reader.ask(reader.request(add_ben()))
    assert (reader.refused(), knows_ben(bench.vault)) == ("protocol-violation", False)


def test_a_claim_to_read_opens_no_session_for_trust(bench: Bench) -> None:
    for purpose, said in (("trust", "read"), ("read", "trust")):
        reader = Admin(bench)
        reader.enter(reader.claim_to(purpose, said))
        assert reader.refused() == "protocol-violation"


@pytest.mark.parametrize("message", [DocumentsAsk(None, None, [])])
def test_an_administrator_asks_nothing_else(bench: Bench, message: Message) -> None:
    admin = Admin.entered(bench)
    admin.send(message)
    assert admin.refused() == "protocol-violation"


OTHER = "0" * 32


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"nonce": "0" * 64}, "protocol-violation"),
        ({"vault_id": OTHER}, "protocol-violation"),
        ({"vault_key": BEN.public_key.fingerprint}, "protocol-violation"),
        ({"head_sha256": "0" * 64}, "head-moved"),
        ({"head_sequence": 1}, "head-moved"),
        ({"actor": Person(name="Ana", principal="ana@lab", key=BEN.public_key.fingerprint)}, "bad-signature"),
        ({"actor": Person(name="Ana", principal="vault", key="")}, "malformed-document"),
        ({"details": {**add_ben().details, "more": "x"}}, "malformed-document"),
        ({"details": {"principal": "ben@lab"}}, "malformed-document"),
        ({"action": "retired"}, "malformed-document"),
    ],
)
def test_a_request_for_another_time_place_or_form_changes_nothing(bench: Bench, changes: dict[str, Any], slug: str) -> None:
    admin, before = Admin.entered(bench), bench.vault.ledger.head()
    request = admin.request(add_ben(), **changes)
    data = msgspec.json.encode(request)

    admin.send(TrustAsk(data, sign_document(bench.signer, CUSTODY_NAMESPACE, sha512_of(data))))
    assert (admin.refused(), bench.vault.ledger.head(), knows_ben(bench.vault)) == (slug, before, False)


def test_a_request_of_somebody_else_is_refused(bench: Bench) -> None:
    bench.vault.trust.add(BEN.public_key, "ben@lab", make_grant(["admin"], None, None))
    admin = Admin.entered(bench)
    person = Person(name="Ben", principal="ben@lab", key=BEN.public_key.fingerprint)
    admin.ask(admin.request(retired(BEN.public_key.fingerprint), actor=person), BEN)
    assert admin.refused() == "untrusted-signer"
    admin = Admin.entered(bench)
    hers = msgspec.structs.replace(person, key=bench.signer.public_key.fingerprint)
    admin.ask(admin.request(retired(BEN.public_key.fingerprint), actor=hers))
    assert admin.refused() == "untrusted-signer"


def test_a_request_that_was_carried_out_is_of_no_use_again(bench: Bench) -> None:
    admin = Admin.entered(bench)
    signed = SignedRequest.of(admin.request(add_ben()), bench.signer)
    admin.send(TrustAsk(signed.data, signed.signature))
    admin.hear(DocumentBatch)
    bench.vault.trust.retire(BEN.public_key)
    again = Admin.entered(bench)
    again.send(TrustAsk(signed.data, signed.signature))
    assert again.refused() == "protocol-violation"


def test_a_key_does_not_revoke_itself(bench: Bench) -> None:
    admin = Admin.entered(bench)
    admin.ask(admin.request(revoked(bench.signer.public_key)))
    assert admin.refused() == "usage"


def test_in_a_vault_older_than_roles_nobody_administers_from_afar_before_somebody_has_said_so(tmp_path: Path) -> None:

    signer = new_signer()
    vault = older_vault(tmp_path / "vault", signer)
    (tmp_path / "source").mkdir()
    bench = Bench(vault, signer, tmp_path / "source", ItemName(Title("2026/11"), Title("E1")))
    with pytest.raises(NotAllowedError, match="older than roles"):
        ask_for_change(administrator(bench), lambda _: add_ben())


def test_the_record_says_who_asked_and_verify_believes_it(bench: Bench) -> None:
    _, number = ask_for_change(administrator(bench), lambda _: add_ben())
    stored = bench.vault.ledger.last("trust-changed")
    assert stored is not None
    assert (stored.record.sequence, stored.record.details["asked_by"]) == (number, "ana@lab")
    kept = SignedRequest.kept_in(stored.record.details)
    assert kept is not None
    assert kept.signer(low_s=True) == bench.signer.public_key
    assert audited(bench).verdict == "incomplete"  # nothing to verify, and nothing wrong
    assert not [one for one in audited(bench).findings if one.severity == "error"]


def test_an_administrator_may_take_the_own_role_and_key_away(bench: Bench) -> None:
    key = bench.signer.public_key.fingerprint
    ask_for_change(administrator(bench), lambda _: changed(key, USUAL))
    assert not [one for one in audited(bench).findings if one.severity == "error"]
    only(bench, "admin")
    ask_for_change(administrator(bench), lambda _: retired(key))
    assert not [one for one in audited(bench).findings if one.severity == "error"]


def test_of_two_administrators_at_once_the_second_is_told_and_asks_again(bench: Bench) -> None:
    told: list[str] = []

    def compose(_: Vault) -> ChangeOfTrust:
        if not told and not knows_ben(bench.vault):
            bench.vault.trust.add(BEN.public_key, "ben@lab")
        return changed(BEN.public_key.fingerprint, make_grant(["read"], None, None))

    _, number = ask_for_change(administrator(bench, tell=told.append), compose)
    assert len(told) == 1
    assert "ends with record" in told[0]
    assert bench.vault.load_trust().grant_of(BEN.public_key).may == ("read",)
    assert number == bench.vault.ledger.head().sequence


def test_a_lost_answer_does_not_make_the_change_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is lost when the change is made and not shown yet."""

    send, lost = send_own_documents, threading.Event()

    def cut(connection: Any, vault: Vault) -> None:
        if knows_ben(vault) and not lost.is_set():
            lost.set()
            connection.close()
            raise LinkLostError("cut")
        send(connection, vault)

    monkeypatch.setattr(served, "send_own_documents", cut)
    asking = administrator(bench)
    asking = replace(asking, request=replace(asking.request, retries=2))
    _, number = ask_for_change(asking, lambda _: add_ben())
    assert lost.is_set()
    assert [one.kind for one in bench.vault.ledger.files()].count("trust-changed") == 2
    assert bench.vault.ledger.files()[(number or 0) - 1].kind == "trust-changed"


def test_an_administrator_sees_whom_the_vault_trusts_and_so_does_who_may_read(bench: Bench) -> None:
    for role, shown in (("admin", True), ("read", True), ("verify", False), ("acquire", False)):
        only(bench, role)  # type: ignore[arg-type]
        reader = Admin(bench)
        reader.enter(reader.claim_to("read", "read"))
        reader.send(OwnDocumentsAsk())
        if shown:
            named = dict(reader.hear(DocumentBatch).files)
            assert {"trusted_signers", "roles.json"} <= named.keys()
            assert not [path for path in named if path.startswith("cases/")]
        else:
            assert reader.refused() == "not-allowed"
