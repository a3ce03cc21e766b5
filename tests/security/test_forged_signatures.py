"""Attack: the right evidence, but not signed by whoever opened the session, or signed as something else."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    RECEIPT_NAMESPACE,
    SESSION_NAMESPACE,
)
from evidencesync.custody.sshsig import sign_document
from evidencesync.evidence.digest import sha512_of
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import Finish
from tests.support.bench_of_evidence import Bench, new_signer
from tests.support.hostile_client import ROOT, HostileClient, entry_of

Forge = Callable[[HostileClient, bytes, Finish], Finish]


def namespace(name: str, field: str) -> Forge:
    def forge(client: HostileClient, manifest: bytes, honest: Finish) -> Finish:
        signed = manifest if field == "signature" else honest.acquired
        return msgspec.structs.replace(honest, **{field: sign_document(client.bench.signer, name, sha512_of(signed))})

    return forge


def by_another_key(field: str, name: str) -> Forge:
    def forge(client: HostileClient, manifest: bytes, honest: Finish) -> Finish:
        signed = manifest if field == "signature" else honest.acquired
        return msgspec.structs.replace(honest, **{field: sign_document(new_signer(), name, sha512_of(signed))})

    return forge


def by_the_vault(client: HostileClient, manifest: bytes, honest: Finish) -> Finish:
    signer = client.bench.vault.signer
    return msgspec.structs.replace(honest, signature=sign_document(signer, MANIFEST_NAMESPACE, sha512_of(manifest)))


def over_other_bytes(client: HostileClient, manifest: bytes, honest: Finish) -> Finish:
    other = sign_document(client.bench.signer, MANIFEST_NAMESPACE, sha512_of(manifest + b"\n"))
    return msgspec.structs.replace(honest, signature=other)


def swapped(client: HostileClient, manifest: bytes, honest: Finish) -> Finish:
    return msgspec.structs.replace(honest, signature=honest.acquired_signature, acquired_signature=honest.signature)


BAD_SIGNATURES: dict[str, Forge] = {
    "none": lambda client, manifest, honest: msgspec.structs.replace(honest, signature=b""),
    "garbage": lambda client, manifest, honest: msgspec.structs.replace(honest, signature=b"-----BEGIN SSH SIGNATURE-----\n"),
    "none for the record": lambda client, manifest, honest: msgspec.structs.replace(honest, acquired_signature=b""),
    "over other bytes": over_other_bytes,
    "by another key": by_another_key("signature", MANIFEST_NAMESPACE),
    "by the vault's key": by_the_vault,
    "record by another key": by_another_key("acquired_signature", CUSTODY_NAMESPACE),
    "swapped": swapped,
    **{
        f"{field} as {name}": namespace(name, field)
        for field, right in (("signature", MANIFEST_NAMESPACE), ("acquired_signature", CUSTODY_NAMESPACE))
        for name in (MANIFEST_NAMESPACE, CUSTODY_NAMESPACE, RECEIPT_NAMESPACE, SESSION_NAMESPACE, "file", "git")
        if name != right
    },
}


def attack(bench: Bench, forge: Forge) -> HostileClient:
    client = HostileClient(bench)
    client.shake_hands()
    manifest = client.send_manifest([ROOT, entry_of(b"planted", content=b"x")], [b"x"])
    client.send(forge(client, manifest, client.finish(manifest)))
    return client


@pytest.mark.parametrize("forge", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES)
def test_what_the_opener_of_the_session_did_not_sign_is_not_published(victim: Bench, forge: Forge) -> None:
    assert attack(victim, forge).ended().exit_code is ExitCode.SIGNATURE


@pytest.mark.parametrize(
    "changes",
    [{"manifest_size": 1}, {"manifest_sha256": bytes(32)}, {"manifest_size": 0, "manifest_sha256": bytes(32)}],
    ids=",".join,
)
def test_a_manifest_that_is_not_the_one_that_arrived(victim: Bench, changes: dict[str, object]) -> None:
    client = attack(victim, lambda client, manifest, honest: msgspec.structs.replace(honest, **changes))
    assert client.ended().exit_code is ExitCode.DIGEST


FORKS: dict[str, dict[str, object]] = {
    "the first record of a new chain": {"sequence": 1, "previous_sha256": None},
    "the same number again": {"sequence": 2},
    "a number left out": {"sequence": 4},
    "another head": {"previous_sha256": "0" * 64},
    "no head": {"previous_sha256": None},
    "another type": {"type": "sealed"},
    "the vault's type": {"type": "received", "receipt_sha256": "0" * 64},
    "another manifest": {"manifest_sha256": "0" * 64},
    "another acquisition": {"acquisition": 1},
    "another case": {"case": "2026/12"},
    "another item": {"item": "E2"},
    "another vault": {"vault_id": "0" * 32},
    "about the vault itself": {"case": None, "item": None},
}


@pytest.mark.parametrize("fork", FORKS)
def test_a_record_that_forks_the_chain_is_refused(victim: Bench, fork: str) -> None:
    def forge(client: HostileClient, manifest: bytes, honest: Finish) -> Finish:
        return client.finish(manifest, msgspec.json.format(msgspec.json.encode(records(client, manifest)), indent=2) + b"\n")

    def records(client: HostileClient, manifest: bytes) -> object:
        record = msgspec.json.decode(client.record(manifest))
        return dict((record | FORKS[fork]).items())

    error = attack(victim, forge).ended()
    assert error.exit_code in {ExitCode.CHAIN, ExitCode.SIGNATURE}


@pytest.mark.parametrize("acquired", [b"", b"{}", b"[" * 100_000, b"\xff", b"null"], ids=lambda data: repr(data[:8]))
def test_a_record_that_is_none_is_refused(victim: Bench, acquired: bytes) -> None:
    client = attack(victim, lambda client, manifest, honest: client.finish(manifest, acquired))
    assert client.ended().exit_code is ExitCode.SIGNATURE


@pytest.mark.parametrize(("principal", "code"), [("ben@lab", ExitCode.CHAIN), ("vault", ExitCode.SIGNATURE)])
def test_an_actor_who_is_not_the_signer_is_refused(victim: Bench, principal: str, code: ExitCode) -> None:
    def forge(client: HostileClient, manifest: bytes, honest: Finish) -> Finish:
        actor = msgspec.structs.replace(client.examiner(), principal=principal)
        return client.finish(manifest, client.record(manifest, actor=actor))

    assert attack(victim, forge).ended().exit_code is code
