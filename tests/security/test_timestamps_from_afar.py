"""Attack: a client that attaches what is no timestamp of the acquisition, or has a record name another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.roles import make_grant
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.timestamp import Request, Token, timestamp_details
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import sha512_of
from evidencesync.limits import MAX_TIMESTAMP
from evidencesync.protocol.messages import Attach
from evidencesync.vault.ledger import iter_records
from evidencesync.vault.timestamps import load_stamped, stated_manifest
from evidencesync.verify.audit import audit_vault
from tests.support.authority import Authority, make_authority
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.custody_client import CustodyClient
from tests.support.hostile_client import snapshot


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = make_bench(tmp_path_factory.mktemp("template"))
    for content in (b"evidence", b"more"):
        (made.source / "small").write_bytes(content)
        made.push()
    return made


@pytest.fixture
def victim(template: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A bench of which nothing may change."""
    bench = copy_of(template, tmp_path)
    before = snapshot(bench.vault.layout.root)
    yield bench
    assert snapshot(bench.vault.layout.root) == before
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


class Attacker:
    """Has a good answer about acquisition 1 with its request, and states of it what a test wants."""

    def __init__(self, bench: Bench, authority: Authority) -> None:
        self.bench, self.client, self.authority = bench, CustodyClient(bench), authority
        self.client.enter()
        self.item = bench.vault.item(bench.name)
        self.response, self.request = self.answer(1)

    def answer(self, number: int, nonce: int = 7) -> tuple[bytes, bytes]:
        stamped = load_stamped(self.item, number)
        return self.authority.forge(stamped, time.time_ns(), nonce=nonce), Request.over(stamped, "sha512", nonce).encode()

    def record(self, **changes: Any) -> bytes:
        known: dict[str, Any] = {
            "acquisition": 1,
            "manifest_sha256": stated_manifest(self.item.ledger, 1),
            "details": timestamp_details(Token.decode(self.response), self.response, self.request),
        }
        return self.client.statement("timestamped", **{**known, **changes})

    def attach(self, **changes: Any) -> EvidenceSyncError:
        record = changes.pop("record") if "record" in changes else self.record()
        signature = sign_document(self.bench.signer, CUSTODY_NAMESPACE, sha512_of(record))
        known = {"acquisition": 1, "response": self.response, "request": self.request, "record": record, "signature": signature}
        self.client.send(Attach(**{**known, **changes}))
        with pytest.raises(EvidenceSyncError) as caught:
            self.client.listen()
        return caught.value

    def attach_other(self, response: bytes, request: bytes) -> EvidenceSyncError:
        return self.attach(response=response, request=request)


LIES: dict[str, tuple[int, Callable[[Attacker], EvidenceSyncError]]] = {
    "an answer about another acquisition": (33, lambda one: one.attach(response=one.answer(2)[0], request=None)),
    "an answer to another request": (33, lambda one: one.attach(request=one.answer(1, nonce=8)[1])),
    "another answer than the record names": (34, lambda one: one.attach_other(*one.answer(1, 8))),
    "no request where the record names one": (34, lambda one: one.attach(request=None)),
    "what is no answer": (33, lambda one: one.attach(response=b"0" * MAX_TIMESTAMP)),
    "an acquisition that is not there": (34, lambda one: one.attach(acquisition=3)),
    "another acquisition than the record names": (33, lambda one: one.attach(acquisition=2)),
    "a record of another manifest": (10, lambda one: one.attach(record=one.record(manifest_sha256="0" * 64))),
    "a record of no manifest": (34, lambda one: one.attach(record=one.record(manifest_sha256=None))),
    "a record with another time": (
        34,
        lambda one: one.attach(record=one.record(details={"gen_time": "2020-01-01T00:00:00.000000Z"})),
    ),
    "a record of another type": (10, lambda one: one.attach(record=one.client.statement("noted"))),
    "no record where the chain has none": (10, lambda one: one.attach(record=b"", signature=b"")),
    "a signature by nobody": (32, lambda one: one.attach(signature=b"-----BEGIN SSH SIGNATURE-----\n")),
}


@pytest.mark.parametrize("lie", LIES)
def test_nothing_else_can_be_attached(victim: Bench, authority: Authority, lie: str) -> None:
    code, tell = LIES[lie]
    attacker = Attacker(victim, authority)
    assert tell(attacker).exit_code == code
    attacker.client.link.close()


def test_who_may_add_nothing_to_a_chain_puts_nothing_back_either(template: Bench, tmp_path: Path, authority: Authority) -> None:
    bench = copy_of(template, tmp_path)
    bench.vault.trust.change(bench.signer.public_key, make_grant(("read",), None, None))
    before = snapshot(bench.vault.layout.root)
    for record in (None, b""):
        attacker = Attacker(bench, authority)
        refused = attacker.attach() if record is None else attacker.attach(record=record, signature=b"")
        assert refused.exit_code == 32
        attacker.client.link.close()
    assert snapshot(bench.vault.layout.root) == before
    assert all(one.record.type != "timestamped" for one in iter_records(bench.vault.item(bench.name).ledger))
