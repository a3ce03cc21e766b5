"""Attack: a key that is trusted when the session begins and not when it ends, or that is not the one of the session."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.custody.documents import MANIFEST_NAMESPACE
from evidencesync.custody.sshsig import sign_document
from evidencesync.errors import ExitCode
from evidencesync.evidence.digest import sha512_of
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.support.hostile_client import ROOT, HostileClient, entry_of


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


def test_a_key_that_is_revoked_during_the_transfer_publishes_nothing(bench: Bench) -> None:
    client = HostileClient(bench)
    client.shake_hands()
    manifest = client.send_manifest([ROOT, entry_of(b"planted", content=b"x")], [b"x"])
    bench.vault.trust.revoke(bench.signer.public_key, "stolen")
    client.send(client.finish(manifest))
    assert client.ended().exit_code is ExitCode.SIGNATURE
    assert bench.acquisitions() == []


def test_another_key_of_the_same_person_does_not_finish_the_session(bench: Bench) -> None:
    client = HostileClient(bench)
    client.shake_hands()
    manifest = client.send_manifest([ROOT, entry_of(b"planted", content=b"x")], [b"x"])
    other = new_signer()
    bench.vault.trust.add(other.public_key, "ana@lab")
    client.send(client.finish(manifest, signature=sign_document(other, MANIFEST_NAMESPACE, sha512_of(manifest))))
    assert client.ended().exit_code is ExitCode.SIGNATURE
    assert bench.acquisitions() == []
