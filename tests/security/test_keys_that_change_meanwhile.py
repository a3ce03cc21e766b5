"""The vault's key is changed in a session that knows the old one: the session ends well, or says so, and accuses nobody."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidencesync.acquire.custody import RecordDraft, append_record
from evidencesync.acquire.trust import ask_for_change
from evidencesync.acquire.verdict import VerdictRequest, fetch_verdict
from evidencesync.errors import VaultKeyChangedError
from evidencesync.ingest import custody as served_custody
from evidencesync.ingest import trust as served_trust
from evidencesync.ingest import verdict as served_verdict
from evidencesync.vault.key_change import change_key
from evidencesync.vault.resume.leftovers import Leftovers
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import AuditScope
from evidencesync.verify.context import VerifyProgress
from evidencesync.verify.findings import Verdict
from tests.security.test_trust_from_afar import add_ben, administrator, audited, knows_ben, only
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.custody_client import custody_request


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "a").write_bytes(b"a")
    made.push()
    return made


def change(bench: Bench) -> None:
    vault = Vault.open(bench.vault.layout.root)
    change_key(vault, vault.keys.current)


def changing_before(bench: Bench, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, in front of which somebody changes the vault's key."""

    def called(*arguments: Any, **options: Any) -> Any:
        change(bench)
        return call(*arguments, **options)

    return called


def test_a_push_that_is_published_is_acknowledged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leftovers, "remove_continued", changing_before(bench, Leftovers.remove_continued))
    (bench.source / "b").write_bytes(b"b")
    assert bench.push().acquisition == 2
    assert audited(bench).verdict == "pass"


def test_a_verification_from_afar_is_to_be_run_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = served_verdict._audit

    def changing_behind(*known: Any) -> Verdict:
        verdict = audit(*known)
        change(bench)
        return verdict

    monkeypatch.setattr(served_verdict, "_audit", changing_behind)
    request = VerdictRequest(
        vault=b"",
        signer=bench.signer,
        session=secrets.token_hex(16),
        timeout_seconds=30,
        retries=0,
        scope=AuditScope(None, None, None),
        all_digests=False,
    )
    with pytest.raises(VaultKeyChangedError) as refused:
        fetch_verdict(lambda: bench.serve()[0], request, lambda _: None, VerifyProgress())
    assert refused.value.hint == "Run the same command again."


def test_a_custody_record_of_a_person_who_thought_for_long_is_to_be_signed_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_custody, "_receive", changing_before(bench, served_custody._receive))
    with pytest.raises(VaultKeyChangedError):
        append_record(lambda: bench.serve()[0], custody_request(bench), lambda _: RecordDraft("noted", {"text": "seen"}))


def test_a_change_of_trust_is_to_be_asked_for_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    only(bench, "admin")
    monkeypatch.setattr(served_trust, "carry_out", changing_before(bench, served_trust.carry_out))
    with pytest.raises(VaultKeyChangedError):
        ask_for_change(administrator(bench), lambda _: add_ben())
    assert not knows_ben(bench.vault)
