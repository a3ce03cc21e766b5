"""A working copy or an export that does not fit is refused before a byte of it is written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidencesync.limits import MIB
from evidencesync.vault.index.case_index import CaseIndex
from tests.integration.cli_program import ITEM, Lab
from tests.support.every_command import run_in_process
from tests.support.file_systems import mounted


@pytest.fixture
def small(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Path]:
    with mounted("tmpfs", tmp_path, 4 * MIB, require_program) as place:
        yield place


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "lab").mkdir()
    made = Lab.make(tmp_path / "lab")
    made.write("image", os.urandom(6 * MIB))
    made.write("note", b"small")
    assert made.push().code == 0
    return made


COMMANDS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "restore": lambda place: ("restore", "vault", str(place / "copy"), *ITEM),
    "export a folder": lambda place: ("export", "vault", str(place / "bag"), *ITEM, "--format", "bagit"),
}


@pytest.mark.parametrize("which", COMMANDS)
def test_what_does_not_fit_is_refused_before_it_is_begun(lab: Lab, small: Path, which: str) -> None:
    refused = lab.run(*COMMANDS[which](small), "--json")
    assert (refused.code, refused.error["slug"]) == (13, "no-space"), refused
    assert "are needed" in refused.error["message"]
    assert refused.error["hint"]
    assert os.listdir(small) == []


def test_an_index_that_has_no_room_is_blamed_on_no_document(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> bool:
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise full

    monkeypatch.setenv("HOME", str(lab.folder / "home"))
    with monkeypatch.context() as patch:
        patch.setattr(CaseIndex, "add", refuse)
        assert run_in_process(["reindex", str(lab.folder / "vault")]) == 13
    said = capfd.readouterr()
    assert "no room" in said.err
    assert "hint: Free space" in said.err
    assert "could not be read" not in said.out + said.err
    assert run_in_process(["reindex", str(lab.folder / "vault")]) == 0


def test_a_part_that_fits_is_restored(lab: Lab, small: Path) -> None:
    assert lab.run(*COMMANDS["restore"](small), "note").code == 0
    assert (small / "copy" / "note").read_bytes() == b"small"


def test_holes_need_no_room(lab: Lab, small: Path) -> None:
    (lab.folder / "evidence" / "image").unlink()
    with (lab.folder / "evidence" / "sparse").open("wb") as file:
        file.truncate(64 * MIB)
    assert lab.push().code == 0
    assert lab.run(*COMMANDS["restore"](small)).code == 0
    assert (small / "copy" / "sparse").stat().st_size == 64 * MIB
