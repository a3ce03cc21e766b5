"""A file among custody records that is none, or a signature that is gone: no command calls the chain broken for that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.cli_program import ITEM, Lab

STRAY = ("1000000-noted.json", "README.json", "02-noted.json")


@pytest.mark.parametrize("name", [*STRAY, ""])
def test_every_command_says_the_same_of_it_as_verify(tmp_path: Path, name: str) -> None:
    lab = Lab.make(tmp_path)
    lab.write("notes.txt", b"hello")
    assert lab.push().code == 0
    (custody,) = (lab.folder / "vault").glob("cases/*/*/custody")
    if name:
        (custody / name).write_bytes((custody / "0002-received.json").read_bytes())
    else:
        (custody / "0002-received.json.sig").unlink()
    assert lab.run("verify", "vault").code == 31
    for command in (
        ("show", "vault"),
        ("custody", "show", "vault"),
        ("restore", "vault", "copy"),
        ("export", "vault", "list", "--format", "hashdeep"),
        ("report", "vault", "-o", "report.json"),
    ):
        about = ITEM[:2] if command[0] == "report" else ITEM
        done = lab.run(*command, *about, "--json")
        assert done.code == 31, (command, done)
    assert lab.run("list", "vault").code == 31


def test_an_acquisition_that_was_removed_is_missing_and_one_that_never_was_is_not_there(tmp_path: Path) -> None:
    lab = Lab.make(tmp_path)
    lab.write("notes.txt", b"hello")
    assert (lab.push().code, lab.push().code) == (0, 0)
    (first,) = (lab.folder / "vault").glob("cases/*/*/acquisitions/0001")
    shutil.rmtree(first)
    commands = (
        ("verify", "vault"),
        ("show", "vault"),
        ("restore", "vault", "copy"),
        ("export", "vault", "list", "--format", "hashdeep"),
        ("report", "vault", "-o", "report.json"),
        ("timestamp", "show", "vault"),
    )
    for number, code in ((1, 31), (3, 10)):
        codes = {command[0]: lab.run(*command, *ITEM, "--acquisition", str(number)).code for command in commands}
        assert set(codes.values()) == ({code} if number == 1 else {code, 31}), codes  # the first is missing all the same


def test_a_chain_that_was_removed_is_missing_and_not_only_unread(tmp_path: Path) -> None:
    lab = Lab.make(tmp_path)
    lab.write("notes.txt", b"hello")
    assert lab.push().code == 0
    shutil.rmtree(lab.folder / "vault" / "custody")
    assert lab.run("verify", "vault").code == 34  # this machine remembers it
    assert lab.run("list", "vault").code == 34
    assert lab.run("receipts", "check", "--vault", "vault").code == 34  # so does the receipt
    assert lab.run("trust", "list", "vault").code == 31


@pytest.mark.parametrize("removed", ["item", "case"])
def test_an_item_that_the_vaults_own_chain_has_stated_is_gone_and_one_that_never_was_is_not_there(
    tmp_path: Path, removed: str
) -> None:
    lab = Lab.make(tmp_path)
    lab.write("notes.txt", b"hello")
    assert lab.push().code == 0
    (item,) = (lab.folder / "vault").glob("cases/*/*")
    shutil.rmtree(item if removed == "item" else item.parent)
    assert lab.run("verify", "vault").code == 34
    commands = (
        ("verify", "vault"),
        ("show", "vault"),
        ("custody", "show", "vault"),
        ("diff", "vault"),
        ("restore", "vault", "copy"),
        ("export", "vault", "list", "--format", "hashdeep"),
        ("timestamp", "show", "vault"),
    )
    for words, code in ((ITEM, 34), ((*ITEM[:3], "never"), 10), (("--case", "never", "--item", "never"), 10)):
        codes = {
            command[0]: lab.run(*command, *words, *(("1", "1") if command[0] == "diff" else ())).code for command in commands
        }
        codes["report"] = lab.run("report", "vault", *words, "-o", "report.json").code
        assert set(codes.values()) == {code}, codes
    assert lab.run("report", "vault", *ITEM[:2], "-o", "report.json").code == 34


@pytest.mark.parametrize("document", ["trusted_signers", "custody/0001-acquired.json", "acquisitions/0001/receipt.json"])
def test_a_document_in_whose_place_lies_something_else_is_not_called_unread(tmp_path: Path, document: str) -> None:
    lab = Lab.make(tmp_path)
    lab.write("notes.txt", b"hello")
    assert lab.push().code == 0
    (file,) = (lab.folder / "vault").glob(document if document == "trusted_signers" else f"cases/*/*/{document}")
    file.rename(tmp_path / "away")
    asked = ("trust", "list", "vault") if document == "trusted_signers" else ("show", "vault", *ITEM)
    for put, take in (
        (Path.mkdir, Path.rmdir),
        (lambda path: path.symlink_to(tmp_path / "away"), Path.unlink),
        (os.mkfifo, os.unlink),
    ):
        put(file)
        assert lab.run("verify", "vault").code in (31, 32)
        for command in (asked, ("restore", "vault", "copy", *ITEM), ("report", "vault", *ITEM[:2], "-o", f"{put.__name__}.json")):
            done = lab.run(*command)
            assert done.code in (31, 32), (command, done)
            assert "disk" not in done.err
        take(file)
