"""Attack: a signature that was made for another time, place or purpose opens a session here."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec
import pytest

from evidencesync.custody.documents import CUSTODY_NAMESPACE, MANIFEST_NAMESPACE, RECEIPT_NAMESPACE
from evidencesync.errors import LinkLostError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import Begin, Published, Ready
from evidencesync.vault import heads as heads_module
from evidencesync.vault.ledger import iter_records
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.support.hostile_client import HostileClient


def test_a_begin_that_was_overheard_is_of_no_use_in_the_next_session(victim: Bench) -> None:
    first = HostileClient(victim)
    overheard = first.begin(first.claim(first.hello()))
    first.send(overheard)
    first.hear(Ready)
    first.hang_up()
    second = HostileClient(victim)
    second.hello()
    second.send(overheard)
    assert second.ended().exit_code is ExitCode.PEER


def test_each_session_has_a_nonce_of_its_own(victim: Bench) -> None:
    nonces = set()
    for _ in range(5):
        client = HostileClient(victim)
        nonces.add(client.hello().nonce)
        client.hang_up()
    assert len(nonces) == 5


def test_a_signature_for_another_vault_is_of_no_use(victim: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A vault that passes on another vault's nonce gets a signature with its own name in it."""
    other = make_bench(tmp_path_factory.mktemp("other"))
    other.vault.trust.add(victim.signer.public_key, "ana@lab")
    client = HostileClient(victim)
    welcome = client.hello()
    for changes in (
        {"vault_id": other.vault.settings.id},
        {"vault_key": other.vault.signer.public_key.fingerprint},
        {"vault_id": other.vault.settings.id, "vault_key": other.vault.signer.public_key.fingerprint},
    ):
        client = HostileClient(victim)
        welcome = client.hello()
        client.send(client.begin(client.claim(welcome, **changes)))
        assert client.ended().exit_code is ExitCode.PEER


@pytest.mark.parametrize("namespace", [MANIFEST_NAMESPACE, CUSTODY_NAMESPACE, RECEIPT_NAMESPACE, "file", "git", "ssh"])
def test_a_signature_for_another_purpose_opens_nothing(victim: Bench, namespace: str) -> None:
    client = HostileClient(victim)
    client.send(client.begin(client.claim(client.hello()), namespace))
    assert client.ended().exit_code is ExitCode.SIGNATURE


def test_a_claim_must_name_the_key_that_signs_it(victim: Bench) -> None:
    client = HostileClient(victim)
    client.send(client.begin(client.claim(client.hello(), key=new_signer().public_key.fingerprint)))
    assert client.ended().exit_code is ExitCode.SIGNATURE


@pytest.mark.parametrize("which", ["vault", "nobody"])
def test_a_key_that_is_not_an_examiners_opens_nothing(victim: Bench, which: str, tmp_path: Path) -> None:
    """Not a stranger's, and not even the vault's own, which is trusted for receipts and records."""
    signer = victim.vault.signer if which == "vault" else new_signer()
    client = HostileClient(victim)
    claim = client.claim(client.hello(), key=signer.public_key.fingerprint)
    honest = client.bench
    client.bench = Bench(honest.vault, signer, honest.source, honest.name)  # type: ignore[arg-type]
    client.send(client.begin(claim))
    error = client.ended()
    assert error.exit_code is ExitCode.SIGNATURE
    assert error.slug == "untrusted-signer"


def test_a_claim_changed_after_it_was_signed_opens_nothing(victim: Bench) -> None:
    client = HostileClient(victim)
    welcome = client.hello()
    signed = client.begin(client.claim(welcome))
    client.send(Begin(client.claim(welcome, item="E2"), signed.signature, read_back=True, resumes=False, seen=0, vault_seen=0))
    assert client.ended().exit_code is ExitCode.SIGNATURE


@pytest.mark.parametrize(
    "claim", [b"", b"{}", b"null", b"[" * 900_000, b'{"a":' * 100_000, b"\xff\xfe", b"\0" * 100], ids=lambda c: repr(c[:6])
)
def test_a_claim_that_is_none_opens_nothing(victim: Bench, claim: bytes) -> None:
    client = HostileClient(victim)
    client.hello()
    client.send(client.begin(claim))
    assert client.ended().exit_code is ExitCode.PEER


def test_a_claim_has_one_form_only(victim: Bench) -> None:
    client = HostileClient(victim)
    claim = client.claim(client.hello())
    client.send(client.begin(claim.replace(b'","', b'", "', 1)))
    assert client.ended().exit_code is ExitCode.PEER


@pytest.mark.parametrize("signature", [b"", b"\0", b"-----BEGIN SSH SIGNATURE-----\n" * 500])
def test_a_signature_that_is_none_opens_nothing(victim: Bench, signature: bytes) -> None:
    client = HostileClient(victim)
    begin = client.begin(client.claim(client.hello()))
    client.send(msgspec.structs.replace(begin, signature=signature))
    assert client.ended().exit_code is ExitCode.SIGNATURE


def test_a_session_that_is_published_already_only_gets_its_acknowledgement_again(victim: Bench) -> None:
    published = victim.vault.item(victim.name).header(1).session
    client = HostileClient(victim)
    client.session = published
    client.send(client.begin(client.claim(client.hello())))
    with pytest.raises(LinkLostError):
        client.hear(Ready)


def test_a_session_of_long_ago_that_is_repeated_makes_the_vault_state_no_head_of_long_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = make_bench(tmp_path)
    monkeypatch.setattr(heads_module, "_LOOKED_BACK", 1)
    session = secrets.token_hex(16)
    first = victim.push(session=session).acquisition
    victim.push()
    victim.push(name=ItemName(Title("2026/11"), Title("E2")))
    item = victim.vault.item(victim.name)
    head = item.ledger.head()
    client = HostileClient(victim, session=session)
    client.send(msgspec.structs.replace(client.begin(client.claim(client.hello())), resumes=True))
    assert client.hear(Published).acquisition == first
    client.link.close()
    place = f"{victim.name.case.folder}/{victim.name.item.folder}"
    stated = [one.record.details[place] for one in iter_records(victim.vault.ledger) if place in one.record.details]
    assert stated[-1] == f"{head.sequence} {head.sha256}"
    assert len(set(stated)) == len(stated)
