"""Which of a vault's keys counts for what, by the order of its own chain; and how a key is proved by those before it."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord, Person
from evidencesync.custody.record import encode_record
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.vault_keys import KeyChange, VaultKeys, proven_keys
from evidencesync.errors import EvidenceSyncError, LimitExceededError, MalformedDocumentError
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.limits import MAX_KEY_CHANGES
from evidencesync.ssh.keys import KeySigner
from tests.support.bench_of_evidence import new_signer

ID = "0123456789abcdef" * 2
THREE = VaultKeys("a", (KeyChange(5, "b"), KeyChange(9, "c")))
Proof = tuple[bytes, bytes]


@pytest.mark.parametrize(("number", "key"), [(1, "a"), (4, "a"), (5, "a"), (6, "b"), (9, "b"), (10, "c"), (100, "c")])
def test_a_record_is_signed_with_the_key_that_the_last_change_before_it_names(number: int, key: str) -> None:
    assert THREE.at(number) == key


@pytest.mark.parametrize(
    ("key", "stated_by", "counts"),
    [
        ("a", 2, True),
        ("a", 4, True),
        ("a", 5, False),
        ("a", 6, False),
        ("a", None, False),
        ("b", 4, False),
        ("b", 6, True),
        ("b", 8, True),
        ("b", 10, False),
        ("b", None, False),
        ("c", 8, False),
        ("c", 10, True),
        ("c", None, True),
        ("d", 2, False),
        ("d", None, False),
    ],
)
def test_a_signature_counts_if_it_was_stated_in_its_keys_time(key: str, stated_by: int | None, counts: bool) -> None:
    assert THREE.in_time(key, stated_by) is counts


@given(some.lists(some.integers(2, 1000), unique=True, max_size=8), some.integers(2, 1001))
def test_at_every_place_of_the_chain_one_key_counts_but_for_the_changes_themselves(numbers: list[int], place: int) -> None:
    keys = VaultKeys("0", tuple(KeyChange(number, str(number)) for number in sorted(numbers)))
    counting = [key for key in keys.all if keys.in_time(key, place)]
    assert counting == ([] if place in numbers else [keys.at(place)])


def change(number: int, old: KeySigner, new: KeySigner, signer: KeySigner | None = None, **other: object) -> Proof:
    record = CustodyRecord(
        format="evidencesync-custody/1",
        vault_id=ID,
        sequence=number,
        type="key-changed",
        time=format_utc_time(time.time_ns()),
        case=None,
        item=None,
        actor=Person(name="Lab", principal="vault", key=old.public_key.fingerprint),
        previous_sha256="0" * 64,
        details={"key": new.public_key.fingerprint, "public_key": new.public_key.line()},
    )
    data = encode_record(msgspec.structs.replace(record, **other))
    return data, sign_document(signer or old, CUSTODY_NAMESPACE, sha512_of(data))


def proved(current: KeySigner, *changes: Proof) -> tuple[str, ...]:
    return proven_keys(ID, current.public_key.fingerprint, changes).all


def test_a_key_is_proved_by_every_change_that_led_to_it_and_by_nothing_else() -> None:
    a, b, c = (new_signer() for _ in range(3))
    first, second = change(5, a, b), change(9, b, c)
    assert proved(c, first, second) == tuple(one.public_key.fingerprint for one in (a, b, c))
    assert proved(a) == (a.public_key.fingerprint,)
    assert proved(c, second) == tuple(one.public_key.fingerprint for one in (b, c))
    wrong: list[tuple[KeySigner, list[Proof]]] = [
        (a, [first, second]),
        (c, [first]),
        (c, [second, first]),
        (c, [first, first, second]),
        (c, [first, change(9, b, c, signer=a)]),
        (c, [first, change(9, a, c)]),
        (c, [first, change(5, b, c)]),
        (c, [first, change(9, b, c, vault_id="f" * 32)]),
        (c, [first, (second[0], first[1])]),
        (c, [(first[0] + b"\n", first[1]), second]),
        (a, [first, change(9, b, a)]),
    ]
    for current, changes in wrong:
        with pytest.raises(EvidenceSyncError):
            proved(current, *changes)


def test_a_record_of_a_change_names_one_new_key_twice() -> None:
    a, b, c = (new_signer() for _ in range(3))
    key, line = b.public_key.fingerprint, b.public_key.line()
    for details in (
        {"key": key},
        {"public_key": line},
        {"key": c.public_key.fingerprint, "public_key": line},
        {"key": a.public_key.fingerprint, "public_key": a.public_key.line()},
        {"key": key, "public_key": "ssh-ed25519 AAAA"},
    ):
        with pytest.raises(MalformedDocumentError):
            change(5, a, b, details=details)


def test_a_vault_changes_its_key_so_often_and_no_more() -> None:
    signers = [new_signer() for _ in range(MAX_KEY_CHANGES + 2)]
    changes = [change(number, old, new) for number, (old, new) in enumerate(itertools.pairwise(signers), 2)]
    assert len(proved(signers[-2], *changes[:-1])) == MAX_KEY_CHANGES + 1
    with pytest.raises(LimitExceededError):
        proved(signers[-1], *changes)
