"""A command in a hint has the vault, the case and the item that were typed, so that it can be pasted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.cli_program import ITEM, Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("hints"), vault=False)
    made.write("a", b"a")
    assert made.run("init", "a vault", "--trust", "ana.pub", "--principal", "ana@lab").code == 0
    assert made.push(vault="a vault").code == 0
    return made


def hint(lab: Lab, *arguments: str) -> str:
    done = lab.run(*arguments)
    assert done.code != 0, done
    as_json = lab.run(*arguments, "--json").error["hint"]
    said = next(line for line in done.err.splitlines() if line.startswith("hint: ")).removeprefix("hint: ")
    assert as_json == said
    return said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "a vault", "--case", "2024-017", "--item", "X"), "evidencesync list 'a vault'"),
        (("restore", "a vault", "out", *ITEM, "b"), "evidencesync show 'a vault' --case 2024-017 --item LAPTOP-1 --files"),
        (("push", "evidence", "no vault", *ITEM, "--sign-key", "ana"), "evidencesync init 'no vault'"),
        (("trust", "retire", "a vault", "eve@lab"), "evidencesync trust list 'a vault'"),
        (
            ("custody", "accept", "a vault", *ITEM, "--sign-key", "ana"),
            "evidencesync custody show 'a vault' --case 2024-017 --item LAPTOP-1",
        ),
        (("compare", "evidence", "ana.pub"), "MANIFEST comes first, then FOLDER."),
        (("push", "evidence", "a vault", *ITEM, "--sign-key", "ana", "--files-from", "gone"), "a path on each line"),
        (
            ("timestamp", "fetch", "a vault", *ITEM, "--sign-key", "ana", "--tsa", "http://127.0.0.1:9"),
            "From another machine: evidencesync timestamp request",
        ),
    ],
)
def test_what_was_typed_stands_in_the_command(lab: Lab, arguments: tuple[str, ...], said: str) -> None:
    assert said in hint(lab, *arguments)


def test_a_key_that_is_not_trusted_is_added_where_the_vault_lies(lab: Lab, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "eve@lab", "-f", tmp_path / "eve"], check=True)
    said = hint(lab, "push", "evidence", "a vault", *ITEM, "--sign-key", str(tmp_path / "eve"))
    added = f"evidencesync trust add 'a vault' {tmp_path / 'eve.pub'} --principal eve@lab"
    assert said == f"Have it added, on the vault's machine: {added}"
    (tmp_path / "eve.pub").unlink()
    said = hint(lab, "push", "evidence", "a vault", *ITEM, "--sign-key", str(tmp_path / "eve"))
    assert said == "Have it added, on the vault's machine: evidencesync trust add 'a vault' KEY.pub --principal NAME"


def test_who_was_retired_is_not_told_to_be_added_again(lab: Lab, tmp_path: Path) -> None:
    key = str(tmp_path / "mia")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mia@lab", "-f", key], check=True)
    assert lab.run("trust", "add", "a vault", f"{key}.pub").code == 0
    assert lab.run("trust", "retire", "a vault", "mia@lab").code == 0
    said = hint(lab, "push", "evidence", "a vault", *ITEM, "--sign-key", key)
    assert "trust add" not in said
    assert "sk who keeps the vault" in said  # in the second in which it was retired, or later


@pytest.mark.parametrize("comment", ["vault@lab", "laptop", ""])
def test_a_name_that_trust_add_refuses_is_not_suggested(comment: str, lab: Lab, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", tmp_path / "eve"], check=True)
    said = hint(lab, "push", "evidence", "a vault", *ITEM, "--sign-key", str(tmp_path / "eve"))
    assert said.endswith(f"trust add 'a vault' {tmp_path / 'eve.pub'} --principal NAME (its owner, such as ana@lab)")
    refused = lab.run("trust", "add", "a vault", str(tmp_path / "eve.pub"))
    assert "--principal NAME, such as ana@lab" in refused.err


def test_a_vault_that_is_a_file_and_one_that_is_the_source_are_said(lab: Lab) -> None:
    assert "a vault is a folder, which ana.pub is not" in lab.run("list", "ana.pub").err
    swapped = lab.run("push", "a vault", "evidence", *ITEM, "--sign-key", "ana")
    assert (swapped.code, "evidencesync push evidence 'a vault' --case" in swapped.err) == (2, True)


def test_a_port_behind_a_colon_is_no_path_of_a_server(lab: Lab) -> None:
    assert hint(lab, "host", "trust", "ana@vault.lab:2222", "--yes") == "A port is written so: ssh://ana@vault.lab:2222"


def test_no_number_of_the_system_is_shown_for_an_authority_that_does_not_answer(lab: Lab) -> None:
    done = lab.run("timestamp", "fetch", "a vault", *ITEM, "--sign-key", "ana", "--tsa", "http://127.0.0.1:9")
    assert "cannot be reached: Connection refused" in done.err
    assert "Errno" not in done.err


def test_a_request_says_how_it_is_sent_and_is_not_taken_for_the_answer(lab: Lab) -> None:
    made = lab.run("timestamp", "request", "a vault", *ITEM, "-o", "out.tsq")
    sent = "curl -H 'Content-Type: application/timestamp-query' --data-binary @"
    assert made.code == 0
    assert any(sent in line and "out.tsq -o " in line and "out.tsr " in line for line in made.out.splitlines())
    for other in ("out.tsq", "ana.pub"):
        refused = lab.run("timestamp", "attach", "a vault", other, *ITEM, "--sign-key", "ana")
        assert "this is no authority's answer (.tsr, RFC 3161)" in refused.err


@pytest.mark.parametrize(
    ("named", "near"),
    [
        (("--case", "2024-17", "--item", "LAPTOP-1"), "Did you mean --case 2024-017? "),
        (("--case", "2024-017", "--item", "laptop_1"), "Did you mean --item LAPTOP-1? "),
        (("--case", "2024-017", "--item", "LAPTPO-1"), "Did you mean --item LAPTOP-1? "),
        (("--case", "2024-017", "--item", "PHONE"), ""),
    ],
)
def test_the_case_and_item_that_are_nearest_are_named(lab: Lab, named: tuple[str, ...], near: str) -> None:
    for command in (("show",), ("list",), ("timestamp", "show")):
        assert hint(lab, *command, "a vault", *named).startswith(f"{near}See what there is: ")
    said = lab.run("verify", "a vault", *named).out
    shown = near.removeprefix("Did you mean --").removesuffix("? ").partition(" ")[2]
    assert f": it has {shown}" in said  # the nearest; where none is near, what there is


def test_the_acquisitions_that_there_are_are_said(lab: Lab) -> None:
    assert hint(lab, "show", "a vault", *ITEM, "--acquisition", "9").startswith("It has acquisition 1 alone. See what there is: ")
    said = lab.run("verify", "a vault", *ITEM, "--acquisition", "9").out
    assert "the item has no acquisition 9: it has acquisition 1 alone\n" in said


def test_a_file_that_is_gone_from_the_vault_leads_to_what_can_be_done(lab: Lab) -> None:
    made = lab.run("init", "torn", "--trust", "ana.pub", "--principal", "ana@lab")
    assert made.code == 0
    assert lab.push(vault="torn").code == 0
    data = lab.folder / "torn" / "cases" / "2024-017" / "LAPTOP-1" / "acquisitions" / "0001" / "data"
    data.chmod(0o700)
    (data / "a").unlink()
    said = hint(lab, "restore", "torn", "copy", *ITEM)
    assert said.startswith(
        "Nothing was restored. See what else is gone: evidencesync verify torn --case 2024-017 --item LAPTOP-1."
    )
    assert not (lab.folder / "copy").exists()


def test_what_a_revocation_does_is_said_with_the_number_of_records(lab: Lab) -> None:
    assert lab.run("init", "lost", "--trust", "ana.pub", "--principal", "ana@lab").code == 0
    assert lab.push(vault="lost").code == 0
    done = lab.run("trust", "revoke", "lost", "ana@lab")
    assert done.code == 0
    assert "note: 1 record signed by this key fails from now on; to end the trust from now on alone: " in done.err
    assert "evidencesync trust retire lost ana@lab" in done.err
    assert done.out.splitlines()[-1] == "1 record signed by this key fails from now on"
