"""Vaults that are verified with `--fetch`, and show documents that are not those on which they have signed a verdict."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evidencesync.acquire import documents
from evidencesync.connection.link import Link
from evidencesync.errors import LimitExceededError, ProtocolError, VersionError
from evidencesync.protocol.document_messages import AllManifestsAsk, DocumentBatch, Stray
from evidencesync.protocol.messages import ASKING_VERSION, MANIFESTS_VERSION
from evidencesync.vault.documents import DocumentFile, wanted_documents
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.from_afar import joined
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.cut_links import CutLink
from tests.support.hostile_client import HostileReader, data_frame
from tests.support.hostile_vault import MadeUpVault, made_up_vault
from tests.support.reading import fetched
from tests.support.verdicts import asked, verified_fetched

_MANIFEST = "cases/C1/I1/acquisitions/{:04}/manifest.jsonl"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("made"))
    (bench.source / "a").write_bytes(b"evidence")
    bench.push()
    (bench.source / "a").write_bytes(b"more")
    bench.push()
    return bench


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    return copy_of(made, tmp_path)


@pytest.fixture
def other(bench: Bench, tmp_path: Path) -> Bench:
    """What shows other documents than the vault, with the vault's own key."""
    (tmp_path / "other").mkdir()
    return copy_of(bench, tmp_path / "other")


def errors_of(verdict: Any) -> set[str]:
    return {one.slug for one in verdict.findings if one.severity == "error"}


def without(monkeypatch: pytest.MonkeyPatch, is_hidden: Callable[[str], bool]) -> None:
    def shown(*arguments: Any) -> Iterator[DocumentFile]:
        return (one for one in wanted_documents(*arguments) if not is_hidden(one.path))

    monkeypatch.setattr("evidencesync.ingest.documents.wanted_documents", shown)


@pytest.mark.parametrize(
    ("hidden", "slugs"),
    [
        ("cases/", {"rolled-back"}),
        ("/acquisitions/0002/", {"missing-acquisition"}),
        ("/custody/0004-received.json", {"missing-document", "missing-record"}),
        ("/acquisitions/0001/manifest.jsonl.sig", {"missing-document"}),
        ("trusted_signers", {"missing-document", "trust-changed", "trust-file"}),
    ],
)
def test_what_is_left_out_of_the_documents_is_missed_here_though_the_vault_passes_itself(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: str, slugs: set[str]
) -> None:
    without(monkeypatch, lambda path: hidden in path)
    verdict = verified_fetched(bench, tmp_path / "state", tmp_path / "here")
    assert verdict.verdict != "pass"
    assert errors_of(verdict) & slugs
    assert not any(one.message.startswith("the vault says") for one in verdict.findings if one.severity == "error")


def test_a_manifest_of_another_acquisition_is_found_here(bench: Bench, other: Bench, tmp_path: Path) -> None:
    for name in ("manifest.jsonl", "manifest.jsonl.sig"):
        target = other.acquisition(1) / name
        target.unlink()
        shutil.copy(other.acquisition(2) / name, target)
    verdict = verified_fetched(other, tmp_path / "state", tmp_path / "here", judge=bench)
    assert verdict.verdict == "fail"
    assert {"document-damaged", "wrong-place"} <= errors_of(verdict)


def test_documents_of_before_are_older_than_what_this_machine_remembers(bench: Bench, other: Bench, tmp_path: Path) -> None:
    bench.push()
    assert verified_fetched(bench, tmp_path / "state", tmp_path / "1").exit_code == 0
    verdict = verified_fetched(other, tmp_path / "state", tmp_path / "2", judge=bench)
    assert (verdict.exit_code, errors_of(verdict)) == (34, {"older-copy"})


def test_a_verdict_on_less_than_the_documents_is_no_verdict_on_them(bench: Bench, other: Bench, tmp_path: Path) -> None:
    bench.push()
    verdict = verified_fetched(bench, tmp_path / "state", tmp_path / "here", judge=other)
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert {"rolled-back", "not-compared"} == errors_of(verdict)


def test_a_verdict_on_another_history_than_the_documents_is_no_verdict_on_them(
    bench: Bench, other: Bench, tmp_path: Path
) -> None:
    bench.push()
    other.push()
    other.push()
    verdict = verified_fetched(bench, tmp_path / "state", tmp_path / "here", judge=other)
    assert (verdict.exit_code, errors_of(verdict)) == (34, {"forked"})


def test_a_verdict_by_another_key_than_that_of_the_documents_is_no_verdict_on_them(bench: Bench, tmp_path: Path) -> None:
    vault, recalled = fetched(bench, tmp_path / "here", whole=None)
    here = audit_vault(vault.layout.root, now_ns=time.time_ns(), fetched=True)
    said = asked(bench)
    verdict = joined(here, "SHA256:" + "A" * 43, said.verdict, said.keys, recalled, time.time_ns())
    assert (here.exit_code, verdict.exit_code, errors_of(verdict)) == (0, 34, {"forked"})


def test_what_was_added_since_is_said_to_be_checked_by_the_vault_alone(bench: Bench, other: Bench, tmp_path: Path) -> None:
    bench.push()
    verdict = verified_fetched(other, tmp_path / "state", tmp_path / "here", judge=bench)
    assert verdict.exit_code == 0
    assert [one.slug for one in verdict.findings].count("gone-on") == 2
    assert {one.sequence for one in verdict.heads if one.case is not None} == {4}


def test_a_second_answer_with_other_documents_takes_nothing_of_the_first(
    bench: Bench, other: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "pause_seconds", lambda _attempt: 0.0)
    bench.push()
    links: list[Link] = [CutLink(bench.serve()[0], received=2000), other.serve()[0]]
    vault, _ = fetched(bench, tmp_path / "here", connect=lambda: links.pop(0), whole=None, retries=1)
    assert not links
    kept = {path.relative_to(vault.layout.root) for path in vault.layout.root.rglob("*.json")}
    assert kept
    assert all((other.vault.layout.root / path).exists() for path in kept)


# --- Vaults' ends that are none --------------------------------------------------------------------------------------------


def shown_by(bench: Bench, folder: Path, script: Callable[[MadeUpVault], object], version: int = MANIFESTS_VERSION) -> None:
    def answer(made_up: MadeUpVault) -> None:
        made_up.welcome(version=version)
        made_up.hear(AllManifestsAsk)
        script(made_up)

    with made_up_vault(bench, answer) as link:
        fetched(bench, folder, connect=lambda: link, whole=None)


def test_manifests_without_end_are_given_up(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_FETCHED_BYTES", 1_000_000)

    def script(made_up: MadeUpVault) -> None:
        for number in range(1, 10_000):
            made_up.say(DocumentBatch([(_MANIFEST.format(number), 60_000)]))
            made_up.link.write(data_frame(b"x" * 60_000))

    with pytest.raises(LimitExceededError, match="more documents than are taken at once") as refused:
        shown_by(bench, tmp_path / "here", script)
    assert "--case CASE" in (refused.value.hint or "")
    assert sum(path.stat().st_size for path in (tmp_path / "here").rglob("*") if path.is_file()) <= 1_000_000


def test_documents_without_end_are_given_up(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_FETCHED_DOCUMENTS", 100)

    def script(made_up: MadeUpVault) -> None:
        for number in range(1, 10_000):
            made_up.say(DocumentBatch([(f"custody/{number:04}-heads.json", 1)]))
            made_up.link.write(data_frame(b"x"))

    with pytest.raises(LimitExceededError):
        shown_by(bench, tmp_path / "here", script)


def test_large_rows_of_chunks_that_nobody_asked_for_are_refused(bench: Bench, tmp_path: Path) -> None:
    def script(made_up: MadeUpVault) -> None:
        made_up.say(DocumentBatch([("cases/C1/I1/acquisitions/0001/chunks.bin", 1 << 30)]))

    with pytest.raises(LimitExceededError):
        shown_by(bench, tmp_path / "here", script)


def test_an_older_vault_s_end_is_not_asked(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="does not show all of its manifests"):
        shown_by(bench, tmp_path / "here", lambda _: None, version=ASKING_VERSION)


def test_strays_without_end_are_given_up(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_FETCHED_DOCUMENTS", 100)

    def script(made_up: MadeUpVault) -> None:
        for number in range(1, 10_000):
            made_up.say(Stray("cases/C1/I1/acquisitions", b"%04d" % number))

    with pytest.raises(LimitExceededError):
        shown_by(bench, tmp_path / "here", script)


@pytest.mark.parametrize("ask", [AllManifestsAsk(None, "I1"), AllManifestsAsk("../..", None), AllManifestsAsk("C1", "a\x1bb")])
def test_what_cannot_be_asked_ends_the_session(bench: Bench, ask: AllManifestsAsk) -> None:
    client = HostileReader(bench)
    client.enter(client.claim_to_read())
    client.send(ask)
    assert isinstance(client.ended(), ProtocolError)


def test_a_vault_gives_all_of_its_manifests_and_no_rows_of_chunks(bench: Bench, tmp_path: Path) -> None:
    vault, _ = fetched(bench, tmp_path / "here", whole=None)
    for number in (1, 2):
        there = vault.layout.item(bench.name).acquisition(number)
        assert (there / "manifest.jsonl").read_bytes() == (bench.acquisition(number) / "manifest.jsonl").read_bytes()
        assert not (there / "chunks.bin").exists()
