"""What a person is told where a command refuses: the names that there are, and the command that goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.cli_program import ITEM, Lab


@pytest.fixture
def pushed(tmp_path: Path) -> Lab:
    lab = Lab.make(tmp_path)
    lab.write("notes.txt", b"hello")
    (lab.folder / "evidence" / "link").symlink_to("notes.txt")
    assert lab.push().code == 0
    return lab


def test_a_case_that_is_not_there_is_answered_with_those_that_are(pushed: Lab) -> None:
    done = pushed.run("verify", "vault", "--case", "NOPE")
    assert done.code == 10, done
    assert "the vault has no case NOPE: it has 2024-017" in done.out


def test_a_diff_without_numbers_is_answered_with_a_line_that_can_be_pasted(pushed: Lab) -> None:
    done = pushed.run("diff", "vault", *ITEM)
    assert done.code == 2, done
    assert "evidencesync diff vault 1 2 --case 2024-017 --item LAPTOP-1" in done.err


def test_a_key_that_was_revoked_is_refused_before_anybody_is_asked(pushed: Lab) -> None:
    assert pushed.run("trust", "revoke", "vault", "ana@lab", "--yes").code == 0
    done = pushed.run("trust", "revoke", "vault", "ana@lab")
    assert done.code == 2, done
    assert "was revoked already" in done.err
    assert "from now on" not in done.err


def test_a_good_receipt_is_one_line_of_a_check_and_all_of_it_with_v(pushed: Lab) -> None:
    brief = pushed.run("receipts", "check").out.splitlines()
    assert len(brief) == 3
    assert brief[0].startswith("2024-017 / LAPTOP-1")
    assert brief[-1] == "verdict: PASS"
    whole = pushed.run("receipts", "check", "-v").out
    assert "  kept in      " in whole
    assert "  vault key    SHA256:" in whole


def test_a_damaged_acquisition_is_not_exported_and_the_way_on_is_said(pushed: Lab) -> None:
    stored = pushed.acquisition(1) / "data/notes.txt"
    stored.chmod(0o600)
    stored.write_bytes(b"X" * stored.stat().st_size)
    done = pushed.run("export", "vault", "bag", "--format", "bagit", *ITEM)
    assert done.code == 30, done
    assert "next: " in done.out
    assert "NOTHING WAS EXPORTED" in done.out
    assert "evidencesync list vault" in done.err


def test_a_bag_that_cannot_be_is_refused_with_a_command_that_can(pushed: Lab) -> None:
    (pushed.folder / "evidence" / "caf\udce9").write_bytes(b"x")
    assert pushed.push().code == 0
    done = pushed.run("export", "vault", "bag", "--format", "bagit", *ITEM)
    assert done.code == 2, done
    assert "--format hashdeep" in done.err
    assert "evidencesync restore vault DIR --case 2024-017 --item LAPTOP-1" in done.err


def test_a_copy_of_a_data_folder_is_told_from_a_folder_that_lacks_links(pushed: Lab) -> None:
    shutil.copytree(pushed.acquisition(1) / "data", pushed.folder / "copy")
    manifest = str(pushed.acquisition(1) / "manifest.jsonl")
    done = pushed.run("compare", manifest, "copy")
    assert done.code == 31, done
    assert "add --data" in done.err
    assert pushed.run("compare", manifest, "copy", "--data").code == 0
