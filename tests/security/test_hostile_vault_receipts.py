"""Attack: an acknowledgement that is not what the vault signed for this very acquisition, or that leads the chain elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    RECEIPT_NAMESPACE,
    SESSION_NAMESPACE,
    CustodyRecord,
    Person,
    Receipt,
    Tally,
)
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.custody.text import encode_readable
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import Message, Published, Ready, Welcome
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.hostile_vault import Tamper, push_tampered

Forge = Callable[[Published, SigningKey], Published]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("template"))
    (bench.source / "small").write_bytes(b"small")
    bench.push()
    return bench


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    """With one acquisition already, so that there is something to confuse the next one with."""
    bench = copy_of(template, tmp_path)
    (bench.source / "more").write_bytes(b"more")
    return bench


def resigned(published: Published, signer: SigningKey, receipt: bytes, received: bytes) -> Published:
    """Forged documents with signatures that are good."""
    return msgspec.structs.replace(
        published,
        receipt=receipt,
        receipt_signature=sign_document(signer, RECEIPT_NAMESPACE, sha512_of(receipt)),
        received=received,
        received_signature=sign_document(signer, CUSTODY_NAMESPACE, sha512_of(received)),
    )


def other_receipt(**changes: Any) -> Forge:
    """Another receipt, signed by the vault, with a record that names it: only what it says is wrong."""

    def forge(published: Published, signer: SigningKey) -> Published:
        receipt = msgspec.json.decode(published.receipt, type=Receipt)
        encoded = encode_readable(msgspec.structs.replace(receipt, **changes))
        record = msgspec.json.decode(published.received, type=CustodyRecord)
        named = encode_readable(msgspec.structs.replace(record, receipt_sha256=sha256_of(encoded).hex()))
        return resigned(published, signer, encoded, named)

    return forge


def other_record(**changes: Any) -> Forge:
    def forge(published: Published, signer: SigningKey) -> Published:
        record = msgspec.json.decode(published.received, type=CustodyRecord)
        return resigned(published, signer, published.receipt, encode_readable(msgspec.structs.replace(record, **changes)))

    return forge


def fewer_at_a_point(name: str) -> Forge:
    def forge(published: Published, signer: SigningKey) -> Published:
        receipt = msgspec.json.decode(published.receipt, type=Receipt)
        point = msgspec.structs.replace(getattr(receipt.points, name), files=0, bytes=0)
        return other_receipt(points=msgspec.structs.replace(receipt.points, **{name: point}))(published, signer)

    return forge


def signed_as(receipt: str, received: str) -> Forge:
    def forge(published: Published, signer: SigningKey) -> Published:
        return msgspec.structs.replace(
            published,
            receipt_signature=sign_document(signer, receipt, sha512_of(published.receipt)),
            received_signature=sign_document(signer, received, sha512_of(published.received)),
        )

    return forge


def by_a_stranger(published: Published, _signer: SigningKey) -> Published:
    return resigned(published, new_signer(), published.receipt, published.received)


def flipped(field: str) -> Forge:
    def forge(published: Published, _signer: SigningKey) -> Published:
        data = bytearray(getattr(published, field))
        data[len(data) // 2] ^= 1
        return msgspec.structs.replace(published, **{field: bytes(data)})

    return forge


def replaced(**changes: Any) -> Forge:
    return lambda published, _signer: msgspec.structs.replace(published, **changes)


ZEROS, OTHER = "0" * 64, "0" * 32
FORGERIES: dict[str, Forge] = {
    "empty": replaced(receipt=b"", receipt_signature=b"", received=b"", received_signature=b""),
    "nonsense, signed": lambda published, signer: resigned(published, signer, b"{}\n", b"{}\n"),
    "nested without end, signed": lambda published, signer: resigned(published, signer, b"[" * 900_000, b"{}\n"),
    **{f"a bit in the {field}": flipped(field) for field in ("receipt", "receipt_signature", "received", "received_signature")},
    "by a stranger": by_a_stranger,
    "receipt signed as a manifest": signed_as(MANIFEST_NAMESPACE, CUSTODY_NAMESPACE),
    "receipt signed as a record": signed_as(CUSTODY_NAMESPACE, CUSTODY_NAMESPACE),
    "record signed as a receipt": signed_as(RECEIPT_NAMESPACE, RECEIPT_NAMESPACE),
    "record signed as a session": signed_as(RECEIPT_NAMESPACE, SESSION_NAMESPACE),
    "another number": replaced(acquisition=1),
    "receipt of another manifest": other_receipt(manifest_sha256=ZEROS),
    "receipt of another manifest's signature": other_receipt(manifest_signature_sha256=ZEROS),
    "receipt of another record": other_receipt(acquired_sha256=ZEROS),
    "receipt of another place in the chain": other_receipt(acquired_sequence=1),
    "receipt of another session": other_receipt(session=OTHER),
    "receipt of another case": other_receipt(case="2026/12"),
    "receipt of another item": other_receipt(item="E2"),
    "receipt of another vault": other_receipt(vault_id=OTHER),
    "receipt of another vault's key": other_receipt(vault_key="SHA256:" + "A" * 43),
    "receipt of the first acquisition": other_receipt(acquisition=1, previous_receipt_sha256=None),
    "receipt without a previous one": other_receipt(previous_receipt_sha256=None),
    "receipt of nothing stored": lambda published, signer: other_receipt(
        stored=msgspec.structs.replace(msgspec.json.decode(published.receipt, type=Receipt).stored, written=Tally(0, 0))
    )(published, signer),
    "receipt of fewer on the disk": fewer_at_a_point("disk"),
    "receipt of fewer that arrived": fewer_at_a_point("arrival"),
    "record of another type": other_record(type="sealed"),
    "record of another receipt": other_record(receipt_sha256=ZEROS),
    "record of no receipt": other_record(receipt_sha256=None),
    "record of another manifest": other_record(manifest_sha256=ZEROS),
    "record of another acquisition": other_record(acquisition=1),
    "record that forks the chain": other_record(previous_sha256=ZEROS),
    "record that begins a chain": other_record(previous_sha256=None, sequence=1),
    "record that leaves a number out": other_record(sequence=5),
    "record of another case": other_record(case="2026/12"),
    "record of another item": other_record(item="E2"),
    "record of another vault": other_record(vault_id=OTHER),
    "record that names another key": other_record(actor=Person("vault", "vault", "SHA256:" + "A" * 43)),
}


def tamper_with(forge: Forge, signer: SigningKey) -> Tamper:
    return lambda message: forge(message, signer) if isinstance(message, Published) else message


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_acknowledgement_is_never_taken_for_success(bench: Bench, forgery: str) -> None:
    with pytest.raises(EvidenceSyncError) as caught:
        push_tampered(bench, tamper_with(FORGERIES[forgery], bench.vault.signer))
    assert caught.value.exit_code in {ExitCode.SIGNATURE, ExitCode.CHAIN}


def test_the_acknowledgement_of_an_earlier_acquisition_is_not_one_of_this(bench: Bench) -> None:
    folder = bench.acquisition(1)
    old = Published(
        1,
        (folder / "receipt.json").read_bytes(),
        (folder / "receipt.json.sig").read_bytes(),
        (folder / "received.json").read_bytes(),
        (folder / "received.json.sig").read_bytes(),
        0,
        repeated=True,
    )
    for number in (1, 2):
        with pytest.raises(EvidenceSyncError) as caught:
            push_tampered(bench, tamper_with(replaced(**msgspec.structs.asdict(old) | {"acquisition": number}), new_signer()))
        assert caught.value.exit_code is ExitCode.SIGNATURE


def test_what_is_not_altered_on_the_way_is_success(bench: Bench) -> None:
    assert push_tampered(bench, lambda message: message).acquisition == 2


def test_a_relay_with_a_key_of_its_own_cannot_pass_a_real_vault_off_as_itself(bench: Bench) -> None:
    relay = new_signer()

    def tamper(message: Message) -> Message:
        if isinstance(message, Welcome):
            return msgspec.structs.replace(message, vault_key=relay.public_key.blob)
        return message

    with pytest.raises(EvidenceSyncError) as caught:
        push_tampered(bench, tamper)
    assert caught.value.exit_code is ExitCode.PEER
    assert bench.acquisitions() == ["0001"]


CHANGED_STATES: list[dict[str, Any]] = [
    {"acquisition": 3},
    {"acquisition": 1, "previous_manifest_sha256": None},
    {"chain_sequence": 7},
    {"chain_head_sha256": bytes(32)},
    {"previous_manifest_sha256": bytes(32)},
    {"principal": "mallory@lab"},
]


@pytest.mark.parametrize("changes", CHANGED_STATES, ids=",".join)
def test_a_state_that_was_changed_on_the_way_publishes_nothing(bench: Bench, changes: dict[str, Any]) -> None:
    def tamper(message: Message) -> Message:
        return msgspec.structs.replace(message, **changes) if isinstance(message, Ready) else message

    with pytest.raises(EvidenceSyncError) as caught:
        push_tampered(bench, tamper)
    assert caught.value.exit_code in {ExitCode.PEER, ExitCode.CHAIN, ExitCode.SIGNATURE}
    assert bench.acquisitions() == ["0001"]
