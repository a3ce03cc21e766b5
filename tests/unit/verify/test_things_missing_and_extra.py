"""What is missing, what is too much, and what is no plain file."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from evidencesync.verify.checks import MEANINGS, Check
from evidencesync.verify.findings import Finding, Findings, shown_place
from tests.unit.verify.sample import FIRST, ITEM, Made, edit, only, slugs


def test_each_stored_file_that_is_gone_is_named(made: Made) -> None:
    data = made.acquisition(1) / "data"
    for path in FIRST:
        file = data / os.fsdecode(path)
        content = file.read_bytes()
        file.unlink()
        verdict = made.audit()
        assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 31, {"missing-file"})
        assert only(verdict, "missing-file").check == Check.PRESENCE
        file.write_bytes(content)
        file.chmod(0o444)
    assert made.audit().verdict == "pass"


def test_a_folder_that_is_gone_is_named_with_all_that_was_in_it(made: Made) -> None:
    shutil.rmtree(made.acquisition(1) / "data" / "logs")
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (31, {"missing-file"})
    assert len(verdict.findings) == 8  # three folders and five files


def test_without_any_data_every_file_is_missing(made: Made) -> None:
    shutil.rmtree(made.acquisition(1) / "data")
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (31, {"missing-document", "missing-file"})
    assert len([one for one in verdict.findings if one.slug == "missing-file"]) == len(FIRST)


@pytest.mark.parametrize("number", [1, 2])
def test_every_document_that_is_gone_is_named(made: Made, number: int) -> None:
    folder = made.acquisition(number)
    documents = [file for file in folder.iterdir() if file.is_file()]
    assert len(documents) == 11
    for file in documents:
        content = file.read_bytes()
        file.unlink()
        verdict = made.audit()
        assert verdict.verdict == "fail"
        missing = only(verdict, "missing-document")
        assert (missing.path, missing.acquisition) == (f"{ITEM}/acquisitions/{number:04d}/{file.name}", number)
        file.write_bytes(content)
        file.chmod(0o444)


@pytest.mark.parametrize(
    "place",
    [
        "cases/file",
        "cases/.hidden/",
        "cases/2026-117-2db29d5b/file",
        f"{ITEM}/file",
        f"{ITEM}/folder/",
        f"{ITEM}/acquisitions/notes.txt",
        f"{ITEM}/acquisitions/1/",
        f"{ITEM}/acquisitions/0001/report.pdf",
        f"{ITEM}/acquisitions/0001/manifest.jsonl.bak",
        f"{ITEM}/acquisitions/0001/data/a",
        f"{ITEM}/acquisitions/0001/data/zzz",
        f"{ITEM}/acquisitions/0001/data/logs/deep/er/y",
        f"{ITEM}/acquisitions/0001/data/logs/folder/",
        f"{ITEM}/custody/readme",
        f"{ITEM}/custody/0009-noted.json.sig",
        f"{ITEM}/incoming/file",
        f"{ITEM}/incoming/folder/",
        "custody/readme",
    ],
)
def test_anything_that_does_not_belong_into_the_layout_is_found(made: Made, place: str) -> None:
    new = made.path / place
    if place.endswith("/"):
        new.mkdir()
    else:
        new.write_bytes(b"x")
        new.chmod(0o444)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 31, {"extra-entry"})
    assert only(verdict, "extra-entry").path == place.rstrip("/")


def test_what_lies_beside_the_vaults_own_files_is_a_warning(made: Made) -> None:
    (made.path / "notes.txt").write_bytes(b"")
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "warning")) == ("pass", {"foreign-entry"})


def plant(place: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        os.mknod(place, stat.S_IFSOCK | 0o644)  # bind(2) takes short paths only
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "link"])
def test_a_file_that_became_something_else_is_found_and_not_opened(made: Made, kind: str) -> None:
    file = made.acquisition(1) / "data" / "a.txt"
    file.unlink()
    plant(file, kind)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 31, {"wrong-type"})


@pytest.mark.parametrize("kind", ["fifo", "socket", "link"])
def test_something_planted_among_the_files_is_found_and_not_opened(made: Made, kind: str) -> None:
    plant(made.acquisition(1) / "data" / "logs" / "new", kind)
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (31, {"wrong-type"})


@pytest.mark.parametrize(
    "name",
    ["data", "manifest.jsonl", "manifest.jsonl.sig", "receipt.json", "SHA256SUMS", "BLAKE3SUMS", "chunks.bin", "acquired.json"],
)
@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_a_document_that_became_something_else_is_found_and_not_opened(made: Made, name: str, kind: str) -> None:
    document = made.acquisition(2) / name
    document.rename(made.path.parent / "aside")
    plant(document, kind)
    verdict = made.audit()
    assert verdict.verdict == "fail"
    assert only(verdict, "wrong-type").path == f"{ITEM}/acquisitions/0002/{name}"


@pytest.mark.parametrize("place", ["cases", "custody", ITEM, f"{ITEM}/custody", f"{ITEM}/acquisitions", "vault.toml"])
def test_a_link_in_place_of_the_layout_is_never_followed(made: Made, place: str) -> None:
    moved = made.path.parent / "moved"
    (made.path / place).rename(moved)
    (made.path / place).symlink_to(moved)
    assert made.audit().verdict == "fail"


def test_a_folder_of_evidence_that_became_a_link_to_itself_is_found(made: Made) -> None:
    logs = made.acquisition(1) / "data" / "logs"
    logs.rename(made.path.parent / "logs")
    logs.symlink_to(made.path.parent / "logs")
    assert slugs(made.audit()) == {"wrong-type", "missing-file"}


@pytest.mark.parametrize(("mode", "bad"), [(0o444, False), (0o400, False), (0o644, True), (0o555, True), (0o4444, True)])
def test_modes_that_evidence_must_not_have_are_warnings(made: Made, mode: int, bad: bool) -> None:
    (made.acquisition(1) / "data" / "a.txt").chmod(mode)
    (made.acquisition(1) / "receipt.json").chmod(mode)
    verdict = made.audit()
    assert verdict.verdict == "pass"
    assert [one.slug for one in verdict.findings] == (["unsafe-mode"] * 2 if bad else [])


def test_folders_that_others_may_change_are_warnings(made: Made) -> None:
    for folder in ("data", "data/logs"):
        (made.acquisition(1) / folder).chmod(0o777)
    verdict = made.audit()
    assert (verdict.verdict, [one.slug for one in verdict.findings]) == ("pass", ["unsafe-mode"] * 2)


def test_a_vaults_key_that_others_can_read_is_a_warning_and_one_that_is_away_is_none(made: Made) -> None:
    (made.path / "vault_key").chmod(0o640)
    assert slugs(made.audit(), "warning") == {"unsafe-mode"}
    (made.path / "vault_key").unlink()
    assert made.audit().findings == []


def test_several_findings_are_all_reported(made: Made) -> None:
    data = made.acquisition(1) / "data"
    (data / "a.txt").unlink()
    edit(data / "logs.txt", b"x" * len(FIRST[b"logs.txt"]))
    (data / "new").write_bytes(b"")
    (data / "new").chmod(0o444)
    verdict = made.audit()
    assert slugs(verdict) == {"missing-file", "file-damaged", "extra-entry"}
    assert verdict.exit_code == 30  # more severe than 31


def test_names_from_evidence_are_only_shown_safely(made: Made) -> None:
    name = "evil\x1b[31m\u202e\n"
    (made.acquisition(1) / "data" / name).write_bytes(b"")
    finding = only(made.audit(), "extra-entry")
    assert finding.path is None
    for text in (finding.message, shown_place(finding)):
        assert text.isprintable()
        assert "\\x1b[31m\\u202e\\x0a" in text


def test_a_million_findings_of_one_kind_do_not_fill_the_memory_and_still_count() -> None:
    findings = Findings()
    for number in range(10_050):
        findings.add(Finding(8, "error", "missing-file", None, None, None, f"{number}", None, None, None, ""))
    listed = findings.listed()
    assert (len(listed), findings.outcome, int(findings.exit_code)) == (10_001, "fail", 31)
    assert listed[-1].message.startswith("50 more")


def test_every_kind_of_finding_has_a_meaning() -> None:
    assert len(MEANINGS) > 40
    for slug, meaning in MEANINGS.items():
        assert slug == slug.lower()
        assert meaning.text
        assert (meaning.severity == "error") <= (meaning.code != 0)
