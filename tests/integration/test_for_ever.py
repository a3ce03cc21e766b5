"""What cannot be undone is asked for at a terminal, and what makes no sense writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.cli_program import ITEM, Done, Lab, schema_errors
from tests.integration.test_cli_process import _on_a_terminal

SIGN = ("--sign-key", "ana")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("laboratory"))
    made.write("notes.txt", b"hello")
    assert made.push().code == 0
    made.make_key("ben")
    assert made.run("trust", "add", "vault", "ben.pub", "--principal", "ben@lab").code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path) -> Lab:
    return template.copy(tmp_path)


def files_of(lab: Lab) -> dict[str, bytes]:
    root = lab.folder / "vault"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


COMMANDS = {
    "seal": ("custody", "seal", "vault", *ITEM, *SIGN),
    "revoke": ("trust", "revoke", "vault", "ben@lab"),
}


@pytest.mark.parametrize("which", COMMANDS)
def test_what_is_for_ever_is_asked_at_a_terminal(lab: Lab, which: str) -> None:
    command, before = COMMANDS[which], files_of(lab)
    code, seen = _on_a_terminal(lab, *command, question=b"[y/yes or n/no]", answers=[b"no\n"])
    assert code == 130, seen
    assert b"for good?" in seen
    assert b"Nothing was done" in seen
    assert files_of(lab) == before
    code, seen = _on_a_terminal(lab, *command, question=b"[y/yes or n/no]", answers=[b"yes\n"])
    assert code == 0, seen
    assert files_of(lab) != before


@pytest.mark.parametrize("which", COMMANDS)
def test_what_was_answered_beforehand_is_not_asked(lab: Lab, which: str) -> None:
    code, seen = _on_a_terminal(lab, *COMMANDS[which], "--yes")
    assert code == 0
    assert b"[y/yes or n/no]" not in seen


@pytest.mark.parametrize("which", COMMANDS)
def test_a_script_is_not_asked(lab: Lab, which: str) -> None:
    assert lab.run(*COMMANDS[which]).code == 0


def hand_over(lab: Lab, *arguments: str) -> Done:
    return lab.run("custody", "hand-over", "vault", *ITEM, *SIGN, "--json", *arguments)


def test_nothing_is_handed_over_to_somebody_whom_nobody_knows(lab: Lab) -> None:
    before = files_of(lab)
    refused = hand_over(lab, "--to", "carl@lab")
    assert (refused.code, refused.error["slug"]) == (32, "untrusted-signer")
    assert "--outside" in refused.error["hint"]
    assert files_of(lab) == before
    assert lab.run("trust", "revoke", "vault", "ben@lab").code == 0
    before = files_of(lab)
    assert hand_over(lab, "--to", "ben@lab").code == 32  # he could not accept any more
    assert files_of(lab) == before


def test_it_may_be_handed_over_to_somebody_outside_if_that_is_meant(lab: Lab) -> None:
    done = hand_over(lab, "--to", "District court", "--outside", "--reason", "trial")
    assert done.code == 0, done
    assert done.document["record"]["details"] == {"to": "District court", "outside_recipient": "yes", "reason": "trial"}
    assert schema_errors(done.document, "custody-append-output") == []
    shown = lab.run("custody", "show", "vault", *ITEM, "--json").document
    assert [one["name"] for one in shown["known"]] == []
    assert lab.run("verify", "vault").code == 0


USELESS: dict[str, tuple[int, list[tuple[str, ...]], tuple[str, ...]]] = {
    "retire a revoked key": (2, [("trust", "revoke", "vault", "ben@lab")], ("trust", "retire", "vault", "ben.pub")),
    "retire twice": (10, [("trust", "retire", "vault", "ben@lab")], ("trust", "retire", "vault", "ben.pub")),
    "retire an unknown key": (10, [], ("trust", "retire", "vault", "eve.pub")),
    "retire an unknown name": (10, [], ("trust", "retire", "vault", "eve@lab")),
    "retire the vault's own key": (2, [], ("trust", "retire", "vault", "vault")),
    "revoke twice": (2, [("trust", "revoke", "vault", "ben@lab")], ("trust", "revoke", "vault", "ben.pub")),
    "revoke an unknown name": (10, [], ("trust", "revoke", "vault", "eve@lab")),
    "revoke the vault's own key": (2, [], ("trust", "revoke", "vault", "vault")),
    "add a revoked key": (
        2,
        [("trust", "revoke", "vault", "ben@lab")],
        ("trust", "add", "vault", "ben.pub", "--principal", "ben2@lab"),
    ),
    "add a key twice, with other roles": (2, [], ("trust", "add", "vault", "ben.pub", "--principal", "ben@lab", "--may", "read")),
    "add a key under two names": (2, [], ("trust", "add", "vault", "ben.pub", "--principal", "carl@lab")),
    "add the vault's key": (2, [], ("trust", "add", "vault", "vault/vault_key.pub", "--principal", "carl@lab")),
    "seal twice": (11, [("custody", "seal", "vault", *ITEM, *SIGN)], ("custody", "seal", "vault", *ITEM, *SIGN)),
    "accept what nobody hands over": (10, [], ("custody", "accept", "vault", *ITEM, *SIGN)),
    "accept what another one is handed": (
        32,
        [("custody", "hand-over", "vault", *ITEM, *SIGN, "--to", "ben@lab")],
        ("custody", "accept", "vault", *ITEM, *SIGN),
    ),
    "correct a record that is not there": (10, [], ("custody", "correct", "vault", *ITEM, *SIGN, "--record", "9", "--text", "x")),
}


@pytest.mark.parametrize("what", USELESS)
def test_what_makes_no_sense_writes_nothing(lab: Lab, what: str) -> None:
    code, before, command = USELESS[what]
    lab.make_key("eve")
    for one in before:
        assert lab.run(*one).code == 0
    files = files_of(lab)
    done = lab.run(*command, "--json")
    assert done.code == code, done
    assert schema_errors(done.document, "error-output") == []
    assert files_of(lab) == files


def test_who_retires_the_last_signer_is_told_what_that_means(lab: Lab) -> None:
    assert "nobody" not in lab.run("trust", "retire", "vault", "ben@lab").err
    last = lab.run("trust", "retire", "vault", "ana@lab")
    assert (last.code, "trusts nobody now but itself" in last.err) == (0, True), last
