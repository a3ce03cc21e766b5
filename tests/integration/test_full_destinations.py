"""A working copy or an export that does not fit is refused before a byte of it is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidencesync.limits import MIB
from tests.integration.cli_program import ITEM, Lab
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
