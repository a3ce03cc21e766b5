"""A disk or modes that do not let a vault be read: each command says so with the path, and calls nothing gone or bad."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from evidencesync.cli.app import main
from tests.support.unreadable import Unreadable

ITEM = ("--case", "2024-017", "--item", "LAPTOP-1")
NEW = ("--case", "2024-017", "--item", "NEW-1")
CASE = "cases/2024-017"
OLD = f"{CASE}/LAPTOP-1/acquisitions/0001"

ACCUSING: Final = {30, 31, 32, 33, 34, 40}
COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "list": ("list", "{folder}/vault"),
    "show": ("show", "{folder}/vault", *ITEM, "--acquisition", "1"),
    "show files": ("show", "{folder}/vault", *ITEM, "--acquisition", "1", "--files"),
    "diff": ("diff", "{folder}/vault", "1", "2", *ITEM),
    "custody show": ("custody", "show", "{folder}/vault", *ITEM),
    "receipts": ("receipts", "check", "--vault", "{folder}/vault"),
    "restore": ("restore", "{folder}/vault", "{folder}/out/copy", *ITEM, "--acquisition", "1"),
    "export": ("export", "{folder}/vault", "{folder}/out/list", *ITEM, "--acquisition", "1", "--format", "hashdeep"),
    "report": ("report", "{folder}/vault", "--case", "2024-017", "-o", "{folder}/out/report.json"),
    "verify": ("verify", "{folder}/vault"),
    "compare": ("compare", f"{{folder}}/vault/{OLD}/manifest.jsonl", f"{{folder}}/vault/{OLD}/data"),
    "trust list": ("trust", "list", "{folder}/vault"),
    "timestamp show": ("timestamp", "show", "{folder}/vault", *ITEM),
    "reindex": ("reindex", "{folder}/vault"),
    "note": ("custody", "note", "{folder}/vault", *ITEM, "--sign-key", "{folder}/ana", "--text", "x"),
    "push": ("push", "{folder}/evidence", "{folder}/vault", *ITEM, "--sign-key", "{folder}/ana"),
    "push into a new item": ("push", "{folder}/evidence", "{folder}/vault", *NEW, "--sign-key", "{folder}/ana"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVIDENCESYNC_STATE", str(folder / "state"))
        patch.setenv("EVIDENCESYNC_RECEIPTS", str(folder / "receipts"))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ana", "-f", folder / "ana"], check=True)
        init = ("init", f"{folder}/vault", "--trust", f"{folder}/ana.pub", "--principal", "ana@lab", "-q")
        assert main(list(init)) == 0
        (folder / "evidence" / "sub").mkdir(parents=True)
        (folder / "evidence" / "sub" / "image").write_bytes(os.urandom(300_000))
        for number in range(2):
            (folder / "evidence" / "file").write_bytes(b"evidence %d" % number)
            push = ("push", f"{folder}/evidence", f"{folder}/vault", *ITEM, "--sign-key", f"{folder}/ana", "-q")
            assert main(list(push)) == 0
    return folder


@pytest.fixture
def desk(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "desk"
    shutil.copytree(template, folder, symlinks=True)
    (folder / "out").mkdir()
    monkeypatch.setenv("EVIDENCESYNC_STATE", str(folder / "state"))
    monkeypatch.setenv("EVIDENCESYNC_RECEIPTS", str(folder / "receipts"))
    return folder


def run(folder: Path, name: str, place: str, how: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The code of a command, and what it says, where one place of the vault cannot be read."""
    capfd.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        Unreadable(patch, folder / "vault" / place, how)
        code = main([word.format(folder=folder) for word in COMMANDS[name]])
    return code, "".join(capfd.readouterr())


PLACES: Final = (
    (f"{OLD}/manifest.jsonl", "read"),
    (f"{OLD}/receipt.json", "read"),
    (f"{OLD}/data", "open"),
    (f"{OLD}/data/file", "read"),
    (f"{CASE}/LAPTOP-1/custody/0001-acquired.json", "read"),
    (f"{CASE}/LAPTOP-1/custody", "read"),
    (f"{CASE}/LAPTOP-1/acquisitions", "open"),
    (CASE, "open"),
    ("custody", "read"),
    ("trusted_signers", "open"),
)
READING: Final = [name for name in COMMANDS if name not in {"reindex", "note", "push", "push into a new item"}]


@pytest.mark.parametrize(("place", "how"), PLACES)
def test_no_command_accuses_a_vault_of_what_its_disk_does_not_give(
    desk: Path, capfd: pytest.CaptureFixture[str], place: str, how: str
) -> None:
    for name in READING:
        code, said = run(desk, name, place, how, capfd)
        assert code not in ACCUSING, (name, code, said)
        assert "defect" not in said, (name, said)
        assert "missing or damaged" not in said, (name, said)
        assert code in (0, 1, 2, 3), (name, code, said)
        if code == 1:
            assert os.path.basename(place) in said, (name, said)
        if name in {"verify", "report"}:
            assert code == 3, (name, said)
        shutil.rmtree(desk / "out")
        (desk / "out").mkdir()


def test_a_case_that_cannot_be_read_hides_no_other_case_from_list(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    other = ("--case", "2024-018", "--item", "PHONE-1", "--sign-key", f"{desk}/ana", "-q")
    assert main(["push", f"{desk}/evidence", f"{desk}/vault", *other]) == 0
    code, said = run(desk, "list", CASE, "read", capfd)
    assert code == 3, said
    assert "2024-018 / PHONE-1" in said
    assert "could not list" in said
    assert "NOT AS IT WAS" not in said


@pytest.mark.parametrize("place", [f"{OLD}/manifest.jsonl", f"{OLD}/chunks.bin"])
@pytest.mark.parametrize("how", ["open", "read"])
def test_a_bad_sector_in_an_old_document_keeps_nobody_out_of_the_case(
    desk: Path, capfd: pytest.CaptureFixture[str], place: str, how: str
) -> None:
    code, said = run(desk, "reindex", place, how, capfd)
    assert code == 3, said
    assert "acquisition 1 of 2024-017/LAPTOP-1: could not read" in said
    for name in ("note", "push", "push into a new item"):
        code, said = run(desk, name, place, how, capfd)
        assert code == 0, (name, said)
    assert "damaged or unreadable in the vault, and not used" in said, said


@pytest.mark.parametrize("number", ["0001", "0002"])
@pytest.mark.parametrize("how", ["gone", "with a hole"])
def test_a_manifest_that_is_gone_or_damaged_keeps_no_push_out_of_its_item(
    desk: Path, capfd: pytest.CaptureFixture[str], number: str, how: str
) -> None:
    """As `verify` advises: the source may still be at hand."""
    manifest = desk / "vault" / OLD.replace("0001", number) / "manifest.jsonl"
    manifest.unlink() if how == "gone" else os.truncate(manifest, 2**20)
    for name in ("note", "push"):
        assert main([word.format(folder=desk) for word in COMMANDS[name]]) == 0, capfd.readouterr()
    third = ("--case", "2024-017", "--item", "LAPTOP-1", "--acquisition", "3")
    assert main(["restore", f"{desk}/vault", f"{desk}/out/copy", *third]) == 0, capfd.readouterr()
    assert main(["verify", f"{desk}/vault", "-q"]) == (31 if how == "gone" else 32)


@pytest.mark.parametrize("kept", [True, False])
def test_a_cut_record_has_one_code_and_keeps_nobody_out_of_the_case(
    desk: Path, capfd: pytest.CaptureFixture[str], *, kept: bool
) -> None:
    """Where the custody chain keeps it whole, the acquisition's own copy is not needed."""
    places = [f"{OLD.replace('0001', '0002')}/received.json"] + ([] if kept else [f"{CASE}/LAPTOP-1/custody/0004-received.json"])
    for place in places:
        os.chmod(desk / "vault" / place, 0o600)
        os.truncate(desk / "vault" / place, 100)
    for name in ("note", "push"):
        assert main([word.format(folder=desk) for word in COMMANDS[name]]) == (0 if kept else 34), capfd.readouterr()
    assert main(["verify", f"{desk}/vault", "-q"]) == (32 if kept else 34)
    assert main([word.format(folder=desk) for word in COMMANDS["push into a new item"]]) == 0, capfd.readouterr()


@pytest.mark.parametrize("how", ["cut", "read"])
def test_a_damaged_first_record_keeps_nobody_out_of_the_other_items(
    desk: Path, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    place = f"{CASE}/LAPTOP-1/custody/0001-acquired.json"
    if how == "cut":
        os.chmod(desk / "vault" / place, 0o600)
        os.truncate(desk / "vault" / place, 100)
    code, said = run(desk, "push into a new item", place, how, capfd)
    assert code == 0, said


def test_a_previous_manifest_that_cannot_be_read_is_no_basis_and_the_push_says_so(
    desk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    latest = OLD.replace("0001", "0002")
    code, said = run(desk, "push", f"{latest}/manifest.jsonl", "read", capfd)
    assert code == 0, said
    assert "unreadable in the vault, and not used" in said
    assert main(["verify", f"{desk}/vault", "-q"]) == 0
    code, said = run(desk, "diff", f"{OLD}/manifest.jsonl", "read", capfd)
    assert code == 3
    assert f"could not read {desk}/vault/{OLD}/manifest.jsonl: Input/output error" in said
