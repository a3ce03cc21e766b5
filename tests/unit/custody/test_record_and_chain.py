"""Custody records, who may sign them, and the chain: nothing removed, reordered, replaced or put in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, get_args

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.chain import ChainChecker, ChainFacts, ChainSubject
from evidencesync.custody.documents import CustodyRecord, Person, RecordType
from evidencesync.custody.record import SIGNERS, VAULT_TYPES, SignedBy, check_signer, decode_record, encode_record, record_name
from evidencesync.errors import ChainError, EvidenceSyncError, MalformedDocumentError, UntrustedSignerError
from evidencesync.evidence.digest import sha256_of
from evidencesync.ssh.keys import KeySigner

VAULT_ID = "0" * 32
ITEM = ChainSubject(VAULT_ID, "2024/17", "1")
VAULT = ChainSubject(VAULT_ID)


def key_of(seed: int) -> KeySigner:
    return KeySigner.from_private(Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big")))


ANA, BEN, VAULT_KEY = key_of(1), key_of(2), key_of(3)
ACTOR = Person(name="Ana", principal="ana@lab", key=ANA.public_key.fingerprint)
PLAIN = CustodyRecord(
    format="evidencesync-custody/1",
    vault_id=VAULT_ID,
    sequence=1,
    type="noted",
    time="2024-06-01T10:00:00.000000Z",
    case="2024/17",
    item="1",
    actor=ACTOR,
    previous_sha256=None,
    details={"note": "seal intact"},
)
DOCUMENTS = {"manifest_sha256": "a" * 64, "receipt_sha256": "b" * 64}


def record(**changed: Any) -> CustodyRecord:
    return msgspec.structs.replace(PLAIN, **changed)


def chain_of(*steps: dict[str, Any]) -> list[bytes]:
    """Well-linked records of an item."""
    documents: list[bytes] = []
    for sequence, step in enumerate(steps, 1):
        previous = sha256_of(documents[-1]).hex() if documents else None
        documents.append(encode_record(record(sequence=sequence, previous_sha256=previous, **step)))
    return documents


def check_chain(documents: Iterable[bytes], subject: ChainSubject) -> ChainFacts:
    """Checks a whole chain, given as its records' exact bytes in order. Raises ChainError, naming the record."""
    checker = ChainChecker(subject)
    for document in documents:
        checker.add(document)
    return checker.facts()


def acquired(number: int) -> dict[str, Any]:
    return {"type": "acquired", "acquisition": number, "manifest_sha256": f"{number:064x}"}


def received(number: int) -> dict[str, Any]:
    return {"type": "received", "acquisition": number, "manifest_sha256": f"{number:064x}", "receipt_sha256": "b" * 64}


NOTED: dict[str, Any] = {"type": "noted"}
SEALED: dict[str, Any] = {"type": "sealed"}
GOOD = [acquired(1), received(1), NOTED, acquired(2), received(2), {"type": "verified", "acquisition": 1}, SEALED, NOTED]


def test_a_record_is_readable_and_comes_back() -> None:
    data = encode_record(PLAIN)
    assert decode_record(data) == PLAIN
    assert data.startswith(b'{\n  "format": "evidencesync-custody/1",\n')
    assert data.endswith(b"}\n")
    assert json.loads(data)["details"] == {"note": "seal intact"}
    assert record_name(PLAIN) == "0001-noted.json"


@pytest.mark.parametrize(
    "changed",
    [
        {"details": {"note": "\x1b"}},
        {"details": {"a\nb": ""}},
        {"details": {"note": "x" * 9000}},
        {"details": {str(i): "" for i in range(20_000)}},
        {"case": None},
        {"item": None},
        {"case": "../x"},
        {"time": "2024-06-31T10:00:00.000000Z"},
        {"sequence": 2},
        {"previous_sha256": "0" * 64},
        {"type": "acquired"},
        {"type": "acquired", "acquisition": 1, **DOCUMENTS},
        {"type": "received", "acquisition": 1, "manifest_sha256": "a" * 64},
        {"type": "received", **DOCUMENTS},
        {"type": "heads"},
        {"type": "made"},
        {"type": "trust-changed", "case": None, "item": None},
        {"type": "made", "case": None, "item": None, "sequence": 2, "previous_sha256": "0" * 64},
        {"actor": Person(name="\u202e", principal="a", key=ACTOR.key)},
        {"type": "unheard-of"},
    ],
)
def test_a_record_that_no_reader_would_take_is_not_written(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedDocumentError):
        encode_record(record(**changed))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b"  ", b"    "),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b'"item"', b'"case": "other",\n  "item"'),
        lambda data: data.replace(b"seal", b"se\\u0061l"),
        lambda data: data.replace(b'"details"', b'"extra": 1,\n  "details"'),
        lambda data: data.replace(b'"sequence": 1', b'"sequence": 1.0'),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b"[" * 100_000,
        lambda data: b"{" + b" " * (1024 * 1024) + b"}",
        lambda data: b"",
        lambda data: msgspec.json.encode(PLAIN),
    ],
)
def test_a_record_has_one_form_only(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedDocumentError):
        decode_record(change(encode_record(PLAIN)))


@given(st.binary(max_size=300), st.integers(min_value=0))
def test_any_bytes_raise_our_errors_only(data: bytes, at: int) -> None:
    good = encode_record(PLAIN)
    at %= len(good)
    for attempt in (data, good[:at] + data + good[at:], good[:at] + data):
        try:
            decode_record(attempt)
        except EvidenceSyncError:
            continue


# --- Who may sign ------------------------------------------------------------------------------------------------------


def test_every_type_of_record_has_its_signer() -> None:
    assert set(SIGNERS) == set(get_args(RecordType))
    assert {kind for kind, rule in SIGNERS.items() if rule is SignedBy.VAULT} == VAULT_TYPES | {"received"}
    assert [kind for kind, rule in SIGNERS.items() if rule is SignedBy.ACQUIRER] == ["acquired"]


@pytest.mark.parametrize("kind", get_args(RecordType))
def test_only_the_right_key_may_sign(kind: RecordType) -> None:
    rule = SIGNERS[kind]
    allowed = {SignedBy.VAULT: [VAULT_KEY], SignedBy.ACQUIRER: [ANA], SignedBy.EXAMINER: [ANA, BEN]}[rule]
    for signer in (ANA, BEN, VAULT_KEY):
        principal = "vault" if signer is VAULT_KEY else "x"
        actor = Person(name="x", principal=principal, key=signer.public_key.fingerprint)
        one = record(type=kind, actor=actor)
        vault, manifest = VAULT_KEY.public_key.fingerprint, ANA.public_key.fingerprint
        if signer in allowed:
            check_signer(one, signer.public_key, vault, manifest)
        else:
            with pytest.raises(UntrustedSignerError, match="must be signed by"):
                check_signer(one, signer.public_key, vault, manifest)


@pytest.mark.parametrize("kind", get_args(RecordType))
def test_the_vault_signs_under_its_own_name_and_nobody_else_does(kind: RecordType) -> None:
    """A record by the vault's key that names an examiner would say that the examiner has received."""
    signer, principal = (VAULT_KEY, "ana@lab") if SIGNERS[kind] is SignedBy.VAULT else (ANA, "vault")
    one = record(type=kind, actor=Person(name="x", principal=principal, key=signer.public_key.fingerprint))
    with pytest.raises(UntrustedSignerError, match=f"names {principal} as its signer"):
        check_signer(one, signer.public_key, VAULT_KEY.public_key.fingerprint, ANA.public_key.fingerprint)


def test_the_actor_named_is_the_one_who_signed() -> None:
    with pytest.raises(UntrustedSignerError, match="names the key"):
        check_signer(PLAIN, BEN.public_key, VAULT_KEY.public_key.fingerprint, None)
    with pytest.raises(UntrustedSignerError):
        check_signer(record(type="acquired"), ANA.public_key, VAULT_KEY.public_key.fingerprint, None)


# --- The chain ---------------------------------------------------------------------------------------------------------


def test_a_good_chain_says_what_it_holds() -> None:
    documents = chain_of(*GOOD)
    facts = check_chain(documents, ITEM)
    assert facts.length == len(GOOD)
    assert facts.head_sha256 == sha256_of(documents[-1]).hex()
    assert (facts.acquisitions, facts.unfinished, facts.sealed) == (2, None, True)
    assert facts.holds(1, sha256_of(documents[0]).hex())
    assert not facts.holds(2, sha256_of(documents[0]).hex())
    assert not facts.holds(0, "")
    assert not facts.holds(9, "")


def test_an_empty_chain_has_no_head() -> None:
    facts = check_chain([], ITEM)
    assert (facts.length, facts.head_sha256) == (0, None)


def test_an_acquisition_whose_second_record_is_not_linked_yet_is_unfinished() -> None:
    facts = check_chain(chain_of(*GOOD[:4]), ITEM)
    assert (facts.unfinished, facts.acquisitions) == (2, 2)


def test_removing_any_record_but_the_last_is_found() -> None:
    documents = chain_of(*GOOD)
    for at in range(len(documents) - 1):
        with pytest.raises(ChainError, match=f"record {at + 1} "):
            check_chain([*documents[:at], *documents[at + 1 :]], ITEM)


def test_a_tail_that_was_cut_off_is_found_by_who_saw_it() -> None:
    documents = chain_of(*GOOD)
    seen = check_chain(documents, ITEM)
    cut = check_chain(documents[:-1], ITEM)
    assert seen.head_sha256 is not None
    assert not cut.holds(seen.length, seen.head_sha256)


def test_reordering_repeating_or_replacing_any_record_is_found() -> None:
    documents = chain_of(*GOOD)
    for at in range(len(documents) - 1):
        changed = [*documents]
        changed[at : at + 2] = [documents[at + 1], documents[at]]
        with pytest.raises(ChainError):
            check_chain(changed, ITEM)
        with pytest.raises(ChainError):
            check_chain([*documents[: at + 1], *documents[at:]], ITEM)
        replaced = decode_record(documents[at])
        other = encode_record(msgspec.structs.replace(replaced, details={"note": "another"}))
        with pytest.raises(ChainError):
            check_chain([*documents[:at], other, *documents[at + 1 :]], ITEM)


def test_every_flipped_bit_before_the_head_is_found() -> None:
    documents = chain_of(*GOOD[:3])
    for at in range(len(documents[1])):
        changed = bytearray(documents[1])
        changed[at] ^= 1 << at % 8
        with pytest.raises(ChainError):
            check_chain([documents[0], bytes(changed), documents[2]], ITEM)


@pytest.mark.parametrize(
    "subject",
    [
        ChainSubject("1" * 32, "2024/17", "1"),
        ChainSubject(VAULT_ID, "2024/18", "1"),
        ChainSubject(VAULT_ID, "2024/17", "2"),
        VAULT,
    ],
)
def test_a_chain_of_another_vault_case_or_item_is_found(subject: ChainSubject) -> None:
    with pytest.raises(ChainError, match="record 1"):
        check_chain(chain_of(*GOOD), subject)


@pytest.mark.parametrize(
    "steps",
    [
        [received(1)],
        [acquired(2)],
        [acquired(1), NOTED],
        [acquired(1), acquired(2)],
        [acquired(1), received(2)],
        [acquired(1), {**received(1), "manifest_sha256": "f" * 64}],
        [acquired(1), received(1), received(1)],
        [acquired(1), received(1), acquired(1)],
        [acquired(1), received(1), acquired(3)],
        [acquired(1), received(1), SEALED, acquired(2)],
        [{"type": "verified", "acquisition": 1}],
    ],
)
def test_acquisitions_count_up_and_each_is_received_at_once(steps: list[dict[str, Any]]) -> None:
    with pytest.raises(ChainError, match=f"record {len(steps)} "):
        check_chain(chain_of(*steps), ITEM)


def test_the_vaults_own_chain_begins_with_its_making() -> None:
    made = encode_record(record(type="made", case=None, item=None))
    changed = encode_record(record(type="trust-changed", case=None, item=None, sequence=2, previous_sha256=sha256_of(made).hex()))
    assert check_chain([made, changed], VAULT).length == 2
    with pytest.raises(ChainError):
        check_chain([changed], VAULT)
    with pytest.raises(ChainError):
        check_chain([made], ITEM)


def test_a_checker_gives_each_record_back() -> None:
    checker = ChainChecker(ITEM)
    assert [checker.add(document).type for document in chain_of(*GOOD)] == [step["type"] for step in GOOD]
