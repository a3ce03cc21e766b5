"""A file among custody records that is none, or a signature that is gone: no command calls the chain broken for that."""

from __future__ import annotations

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
