"""`trust add`, `change` and `list` say what each key may do; whoever may not is told at once, and whom to ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.exit_codes import ExitCode
from tests.integration.cli_program import ITEM, Lab, schema_errors


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.make_key("ben")
    made.write("notes.txt", b"hello")
    return made


def grants(lab: Lab) -> dict[str, tuple[object, object, object]]:
    listed = lab.run("trust", "list", "vault", "--json").document
    assert schema_errors(listed, "trust-output") == []
    return {one["principals"][0]: (one["may"], one["cases"], one["until"]) for one in listed["signers"]}


def test_what_is_named_changes_and_the_rest_stays(lab: Lab) -> None:
    usual = ["acquire", "custody", "read", "verify"]
    added = lab.run("trust", "add", "vault", "ben.pub", "--principal", "ben@lab", "--may", "read,acquire", "--case", "2024-*")
    assert added.code == 0
    assert grants(lab) == {
        "vault": (None, None, None),
        "ana@lab": (usual, None, None),
        "ben@lab": (["acquire", "read"], ["2024-*"], None),
    }
    for options, expected in (
        (("--until", "2099-12-31"), (["acquire", "read"], ["2024-*"], "2099-12-31")),
        (("--may", "admin, read"), (["read", "admin"], ["2024-*"], "2099-12-31")),
        (("--case", "A?", "--case", "B/*"), (["read", "admin"], ["A?", "B/*"], "2099-12-31")),
        (("--all-cases", "--until", "never"), (["read", "admin"], None, None)),
    ):
        assert lab.run("trust", "change", "vault", "ben@lab", *options).code == 0
        assert grants(lab)["ben@lab"] == expected
    assert "may read, admin, in every case" in lab.run("trust", "list", "vault").out
    assert lab.run("verify", "vault").code == ExitCode.NOT_THERE or lab.push().code == 0
    assert lab.run("verify", "vault").code == 0


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--may", "everything"),
        ("--may", ""),
        ("--case", "*"),
        ("--case", "2024-[01]"),
        ("--case", "2024-**"),
        ("--until", "2026-02-30"),
        ("--until", "tomorrow"),
        ("--all-cases", "--case", "2024-*"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_before_anything_changes(lab: Lab, options: tuple[str, ...]) -> None:
    before = sorted((lab.folder / "vault" / "custody").iterdir())
    refused = lab.run("trust", "change", "vault", "ana@lab", *options)
    assert (refused.code, "hint: " in refused.err) == (ExitCode.USAGE, True)
    assert sorted((lab.folder / "vault" / "custody").iterdir()) == before


def test_who_may_not_is_told_before_anything_is_made_and_whom_to_ask(lab: Lab) -> None:
    assert lab.push().code == 0
    assert lab.run("trust", "add", "vault", "ben.pub", "--principal", "ben@lab", "--may", "admin").code == 0
    assert lab.run("trust", "change", "vault", "ana@lab", "--may", "acquire", "--case", "2025-*").code == 0
    key, case = ("--sign-key", "ana"), ("--case", ITEM[1])
    for command in (
        ("push", "evidence", "vault", *ITEM),
        ("push", "evidence", "vault", *ITEM, "--dry-run"),
        ("push", "evidence", "vault", *case, "--item", "NEW"),
        ("custody", "note", "vault", *ITEM, "--text", "seen"),
        ("custody", "seal", "vault", *ITEM, "--yes"),
        ("verify", "vault", *ITEM, "--record"),
    ):
        refused = lab.run(*command, *key)
        assert refused.code == ExitCode.SIGNATURE, (command, refused)
        assert "ana@lab may acquire" in refused.out + refused.err
        assert "hint: Ask ben@lab, who can change that on the vault's machine: evidencesync trust change vault" in refused.err
    assert sorted(one.name for one in (lab.folder / "vault" / "cases" / "2024-017").iterdir()) == ["LAPTOP-1"]
    for reads in (("list", "vault"), ("verify", "vault"), ("restore", "vault", "copy", *ITEM)):
        assert lab.run(*reads).code == 0  # whoever can open the files can read them
    assert lab.push("--case", "2025-1").code == 0
