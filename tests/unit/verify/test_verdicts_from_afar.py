"""A vault verifies itself for who asks from afar: the verdict is that of a check there, bounded, signed, and compared here."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from evidencesync.connection.link import Link
from evidencesync.localstate.heads import HeadMemory
from evidencesync.verify import vault_verdict
from evidencesync.verify.audit import AuditScope, audit_vault
from evidencesync.verify.findings import Finding, Findings
from evidencesync.verify.vault_verdict import bounded_findings
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.cut_links import CutLink
from tests.support.verdicts import asked, finding, verified


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("made"))
    (bench.source / "a").write_bytes(b"evidence")
    (bench.source / "b").write_bytes(b"more")
    bench.push()
    return bench


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    return copy_of(made, tmp_path)


def damage(bench: Bench) -> None:
    file = bench.acquisition(1) / "data" / "a"
    file.chmod(0o600)
    file.write_bytes(b"EVIDENCE")
    file.chmod(0o400)


def lose(bench: Bench) -> None:
    folder = bench.acquisition(1) / "data"
    folder.chmod(0o700)
    (folder / "b").unlink()
    folder.chmod(0o500)


def nothing(_bench: Bench) -> None:
    return


@pytest.mark.parametrize("spoil", [nothing, damage, lose])
@pytest.mark.parametrize("all_digests", [False, True])
def test_the_verdict_is_the_one_that_the_vault_has_there(
    bench: Bench, tmp_path: Path, spoil: Callable[[Bench], None], all_digests: bool
) -> None:
    spoil(bench)
    there = audit_vault(bench.vault.layout.root, all_digests=all_digests, now_ns=time.time_ns())
    here = verified(bench, tmp_path / "state", all_digests=all_digests)
    assert msgspec.structs.replace(here, checked_at=there.checked_at) == there


def test_a_part_of_the_vault_is_verified_alone(bench: Bench) -> None:
    name = bench.name
    verdict = asked(bench, scope=AuditScope(name.case.text, name.item.text, 1)).verdict.verdict
    assert (verdict.verdict, verdict.asked.acquisition) == ("pass", 1)
    assert asked(bench, scope=AuditScope("no such case")).verdict.verdict.exit_code == 10


def test_what_a_pass_has_shown_is_remembered_as_after_a_verification_at_the_vault(bench: Bench, tmp_path: Path) -> None:
    audit_vault(bench.vault.layout.root, memory=HeadMemory(tmp_path / "there"), now_ns=time.time_ns())
    verified(bench, tmp_path / "here")
    there, here = (HeadMemory(tmp_path / name).recall_vault(bench.vault.settings.id) for name in ("there", "here"))
    assert [(one.subject, one.vault_key, one.chain) for one in here] == [(one.subject, one.vault_key, one.chain) for one in there]


def test_a_failure_is_not_remembered(bench: Bench, tmp_path: Path) -> None:
    damage(bench)
    assert verified(bench, tmp_path / "state").exit_code == 30
    assert HeadMemory(tmp_path / "state").recall_vault(bench.vault.settings.id) == []


def test_an_item_that_is_gone_is_told(bench: Bench, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert verified(bench, state).exit_code == 0
    bench.vault.layout.item(bench.name).root.rename(tmp_path / "gone")
    assert verified(bench, state).exit_code == 34


def test_what_this_machine_remembers_and_cannot_read_leaves_the_verdict_incomplete(bench: Bench, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert verified(bench, state).exit_code == 0
    for file in state.rglob("*.json"):
        file.write_text("damaged")
    verdict = verified(bench, state)
    assert (verdict.verdict, verdict.exit_code, verdict.findings[-1].slug) == ("incomplete", 3, "memory-damaged")


def test_a_lost_link_begins_the_verification_again_and_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.acquire.verdict.pause_seconds", lambda _attempt: 0.0)
    links: list[Link] = []
    said: list[str] = []

    def connect() -> Link:
        link = bench.serve()[0]
        links.append(link if links else CutLink(link, received=500))
        return links[-1]

    assert asked(bench, connect=connect, notify=said.append, retries=2).verdict.verdict.verdict == "pass"
    assert (len(links), len(said)) == (2, 1)
    assert "the verification begins again" in said[0]


def test_ssh_keygen_verifies_the_signature(bench: Bench, tmp_path: Path, require_program: Callable[[str], str]) -> None:
    signed = asked(bench)
    (tmp_path / "verdict.json.sig").write_bytes(signed.signature)
    (tmp_path / "signers").write_text(f"vault {bench.vault.signer.public_key.line()}\n")
    command = [require_program("ssh-keygen"), "-Y", "verify", "-f", "signers", "-I", "vault", "-n", "verdict@evidencesync"]
    done = subprocess.run(
        [*command, "-s", "verdict.json.sig"], input=signed.document, cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done


def test_of_many_findings_the_worst_are_shown_and_the_word_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    many: list[Finding] = [
        *[finding("source-gaps", severity="info", message=f"info {number}") for number in range(50)],
        *[finding("file-damaged", message=f"error {number}") for number in range(50)],
        finding("rolled-back"),
    ]
    monkeypatch.setattr(vault_verdict, "MAX_SHOWN_FINDINGS", 30 * len(msgspec.json.encode(many[60])))
    shown = bounded_findings(many)
    kinds = [one.slug for one in shown]
    assert (kinds.count("rolled-back"), kinds.count("source-gaps")) == (1, 1)
    assert 25 < kinds.count("file-damaged") < 35
    assert [one.message for one in shown if one.slug == "not-listed"] == [
        f"{50 - kinds.count('file-damaged')} more findings of the kind file-damaged are not listed",
        "49 more findings of the kind source-gaps are not listed",
    ]
    before, after = Findings(), Findings()
    for findings, ones in ((before, many), (after, shown)):
        for one in ones:
            findings.add(one)
    assert (after.outcome, after.exit_code) == (before.outcome, before.exit_code)


def test_an_error_of_a_kind_that_is_not_known_here_leaves_the_verdict_of_its_item_open() -> None:
    """What a vault of a later version has found is recorded item by item, by the version that asks."""
    own = Findings()
    own.add(finding("a-kind-of-tomorrow", severity="warning"))
    assert own.outcome == "pass"
    own.add(finding("a-kind-of-tomorrow"))
    assert (own.outcome, own.exit_code) == ("incomplete", 3)


def test_few_findings_are_all_shown_in_their_order() -> None:
    few = [finding("source-gaps", severity="info"), finding("file-damaged"), finding("unsafe-mode", severity="warning")]
    assert bounded_findings(few) == few
