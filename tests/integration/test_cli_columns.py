"""What is shown fits 100 columns, also where names are long; times say that they are UTC."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.cli_program import ITEM, Lab

LONG = "Dr. Anastasia Maximiliane Example-Examiner, Certified Forensic Computer Examiner"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(Path(tmp_path_factory.mktemp("columns")))
    made.write("notes.txt", b"hello")
    assert made.run("push", "evidence", "vault", *ITEM, "--sign-key", "ana", "--examiner", "Ana").code == 0
    text = "a scratch on the lid, " * 12
    note = ("--text", text, "--detail", f"serial_number={'7' * 150}")
    assert made.run("custody", "note", "vault", *ITEM, "--sign-key", "ana", "--examiner", LONG, *note).code == 0
    return made


def test_a_chain_fits_and_a_long_name_moves_no_column(lab: Lab) -> None:
    lines = lab.run("custody", "show", "vault", *ITEM).out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].endswith("(times are UTC)")
    records = [line for line in lines if re.match(r"  [0-9]{4}  ", line)]
    assert len(records) == 3
    assert {record.index("acquisition") for record in records[:2]} == {
        len("  0001  2026-11-27 19:48:12  acquired      Ana (ana@lab)  ")
    }
    assert LONG[:10] in records[2]


def test_receipts_fit_but_for_their_folders(lab: Lab) -> None:
    brief = lab.run("receipts", "list").out.splitlines()
    assert max(map(len, brief)) <= 100
    assert re.fullmatch(r"2024-017 / LAPTOP-1 +0001  [0-9-]{10} [0-9:]{8}(?:  [0-9a-f ]{24})?", brief[1])
    lines = lab.run("receipts", "list", "-v").out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("  kept in ")) <= 100
    assert re.fullmatch(r"2024-017 / LAPTOP-1, acquisition 1, received [0-9-]{10} [0-9:]{8} UTC", lines[0])
    assert any(re.fullmatch(r"the vault's own chain: seen up to record 2 on [0-9-]{10} [0-9:]{8} UTC", line) for line in lines)


def test_a_list_of_what_a_vault_has_fits(lab: Lab) -> None:
    lines = lab.run("list", "vault").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].endswith("(times are UTC, when received)")
    assert lines[4] == "2024-017 / LAPTOP-1  3 custody records"


def test_signers_stand_in_columns_and_say_until_when_they_are_trusted(lab: Lab) -> None:
    lab.make_key("ben")
    assert lab.run("trust", "add", "vault", "ben.pub", "--principal", "benjamin.example@lab").code == 0
    assert lab.run("trust", "retire", "vault", "benjamin.example@lab").code == 0
    lines = lab.run("trust", "list", "vault").out.splitlines()
    assert max(map(len, lines)) <= 100
    keys = [line for line in lines if not line.startswith("    ")]
    assert len({line.index("SHA256:") for line in keys}) == 1
    assert re.fullmatch(r"    trusted from [0-9-]{10} [0-9:]{8} UTC  until [0-9-]{10} [0-9:]{8} UTC", lines[-1])


def test_a_list_of_files_names_where_it_goes_on_for_a_shell(lab: Lab) -> None:
    first = lab.run("show", "vault", *ITEM, "--files", "--limit", "1")
    assert first.out.endswith("; go on with --after .\n")
    assert lab.run("show", "vault", *ITEM, "--files", "--limit", "1", "--after", ".").code == 0
