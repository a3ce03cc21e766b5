"""`list` of a case or an item: what is asked for and nothing else. What is not there is said as by every other command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.cli_program import Lab, schema_errors


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A vault with two cases: one with two items, one with one."""
    made = Lab.make(tmp_path_factory.mktemp("list"))
    made.write("notes.txt", b"hello")
    for case, item in (("A/1", "DISK"), ("A/1", "LAPTOP"), ("B", "DISK")):
        done = made.run("push", "evidence", "vault", "--case", case, "--item", item, "--sign-key", "ana")
        assert done.code == 0, done
    return made


def items(lab: Lab, *arguments: str) -> list[tuple[str, str]]:
    done = lab.run("list", "vault", *arguments, "--json")
    assert done.code == 0, done
    assert schema_errors(done.document, "list-output") == []
    return [(one["case"], one["item"]) for one in done.document["items"]]


def test_a_case_or_an_item_alone_is_listed(lab: Lab) -> None:
    assert items(lab) == [("A/1", "DISK"), ("A/1", "LAPTOP"), ("B", "DISK")]
    assert items(lab, "--case", "A/1") == [("A/1", "DISK"), ("A/1", "LAPTOP")]
    assert items(lab, "--case", "A/1", "--item", "LAPTOP") == [("A/1", "LAPTOP")]
    said = lab.run("list", "vault", "--case", "B").out
    assert ("B / DISK" in said, "A/1" in said) == (True, False)


@pytest.mark.parametrize("part", [("--case", "C"), ("--case", "B", "--item", "LAPTOP")])
def test_what_the_vault_does_not_have_is_not_there(lab: Lab, part: tuple[str, ...]) -> None:
    done = lab.run("list", "vault", *part, "--json")
    assert (done.code, done.error["slug"]) == (10, "not-there")


def test_an_item_needs_its_case(lab: Lab) -> None:
    done = lab.run("list", "vault", "--item", "DISK")
    assert (done.code, "--item needs --case" in done.err) == (2, True)


def test_an_item_that_was_removed_is_listed_where_it_is_asked_for_and_nowhere_else(lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(lab.folder / "vault", tmp_path / "vault", symlinks=True)
    shutil.rmtree(tmp_path / "vault" / "cases" / "B" / "DISK")
    vault = str(tmp_path / "vault")
    asked = lab.run("list", vault, "--case", "B", "--item", "DISK")
    assert (asked.code, "it is gone" in asked.out) == (34, True)
    other = lab.run("list", vault, "--case", "A/1")
    assert (other.code, "gone" in other.out) == (0, False)


def test_an_item_whose_records_were_replaced_by_those_of_another_one_is_not_listed_as_that_one(lab: Lab, tmp_path: Path) -> None:
    """Also where the vault's own chain and this machine know its last record, which is as it was."""
    vault = tmp_path / "vault"
    shutil.copytree(lab.folder / "vault", vault, symlinks=True)
    (case,) = (vault / "cases").glob("A-1-*")
    custody = case / "LAPTOP" / "custody"
    custody.chmod(0o755)
    for name in ("0001-acquired.json", "0001-acquired.json.sig"):
        (custody / name).chmod(0o644)
        (custody / name).write_bytes((case / "DISK" / "custody" / name).read_bytes())
    assert lab.run("verify", str(vault)).code == 34
    for part in ((), ("--case", "A/1")):
        done = lab.run("list", str(vault), *part, "--json")
        assert done.code == 32, done
        found = {one["item"]: one["problem"] for one in done.document["items"] if one["case"] != "B"}
        assert found["DISK"] is None
        assert found[None]["slug"] == "wrong-place"
