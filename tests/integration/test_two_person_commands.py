"""Two people for a change of trust, as they type it: one proposes, another consents, here and from afar."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.exit_codes import ExitCode
from tests.integration.cli_program import ITEM, Done, Lab, far_program, schema_errors
from tests.integration.test_cli_remote import _ssh_options

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Ana and Ben administer, and every change of trust needs both."""
    made = Lab.make(tmp_path, vault=False)
    for name in ("ben", "cleo"):
        made.make_key(name)
    trusted = (word for name in ("ana", "ben") for word in ("--trust", f"{name}.pub", "--principal", f"{name}@lab"))
    done = made.run("init", "vault", "--two-person", "trust", *trusted)
    assert done.code == 0, done.err
    return made


def trust(lab: Lab, who: str, name: str, *arguments: str, vault: str = "vault") -> Done:
    return lab.run("trust", name, vault, *arguments, "--sign-key", who)


def proposals(lab: Lab) -> list[int]:
    listed = lab.run("trust", "list", "vault", "--json").document
    assert schema_errors(listed, "trust-output") == []
    assert "trust" in listed["two_person"]
    return [one["record"] for one in listed["proposals"]]


def test_one_proposes_and_another_consents(lab: Lab) -> None:
    proposed = trust(lab, "ana", "add", "cleo.pub", "--principal", "cleo@lab")
    assert proposed.code == 0, proposed.err
    (number,) = proposals(lab)
    assert "no effect before another administrator consents" in proposed.out
    assert f"proposed in record {number} by ana@lab" in lab.run("trust", "list", "vault").out
    refused = trust(lab, "ana", "consent", "--record", str(number))
    assert (refused.code, "another person" in refused.err) == (ExitCode.SIGNATURE, True)
    assert trust(lab, "ben", "consent", "--record", str(number + 1)).code == ExitCode.NOT_THERE
    done = trust(lab, "ben", "consent", "--record", str(number))
    assert done.code == 0, done.err
    assert "cleo@lab" in done.out
    assert proposals(lab) == []
    assert lab.run("verify", "vault").code == ExitCode.GAPS  # nothing was acquired


def test_what_a_proposal_prints_is_pasted_to_consent(lab: Lab, tmp_path: Path) -> None:
    """In another folder, by another person, also where the vault's name has a space."""
    (tmp_path / "vault").rename(tmp_path / "my vault")
    proposed = trust(lab, "ana", "add", "cleo.pub", "--principal", "cleo@lab", vault="my vault")
    (line,) = [line for line in proposed.out.splitlines() if line.startswith("proposed SHA256:")]
    program, *words = shlex.split(line.rpartition("another administrator consents: ")[2])
    assert (program, words[2]) == ("evidencesync", str(tmp_path / "my vault"))
    done = lab.run(*words, "--sign-key", "ben")
    assert (done.code, "cleo@lab" in done.out) == (0, True), done.err


def test_a_proposal_is_withdrawn(lab: Lab) -> None:
    assert trust(lab, "ana", "revoke", "ben@lab").code == 0
    (number,) = proposals(lab)
    assert trust(lab, "ben", "withdraw", "--record", str(number)).code == 0
    assert proposals(lab) == []


def test_the_rule_is_taken_back_by_two_over_ssh(lab: Lab, sshd: Sshd) -> None:
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    reach = (*_ssh_options(sshd), "--remote-command", far_program())
    proposed = trust(lab, "ana", "two-person", "--for", "nothing", *reach, vault=far)
    (number,) = proposals(lab)
    assert f"another administrator consents: evidencesync trust consent {far} --record {number}\n" in proposed.out
    assert trust(lab, "ben", "consent", "--record", str(number), *reach, vault=far).code == 0
    assert lab.run("trust", "list", "vault", "--json").document["two_person"] == []
    assert lab.run("trust", "add", "vault", "cleo.pub", "--principal", "cleo@lab").code == 0


def test_an_item_is_sealed_by_two(lab: Lab) -> None:
    lab.write("notes.txt", b"hello")
    assert trust(lab, "ana", "two-person", "--for", "seal,trust").code == 0
    (number,) = proposals(lab)
    assert trust(lab, "ben", "consent", "--record", str(number)).code == 0
    assert lab.push().code == 0
    item = (*ITEM, "--sign-key")
    proposed = lab.run("custody", "seal", "vault", *item, "ana", "--reason", "case closed", "--yes")
    assert (proposed.code, "until another person consents" in proposed.err) == (0, True)
    shown = lab.run("custody", "show", "vault", *ITEM, "--json")
    assert schema_errors(shown.document, "custody-show-output") == []
    assert (shown.document["sealed"], [one["principal"] for one in shown.document["open_seals"]]) == (False, ["ana@lab"])
    assert "to seal it, in record 3 by ana@lab" in lab.run("custody", "show", "vault", *ITEM).out
    assert lab.run("custody", "consent", "vault", *item, "ana").code == ExitCode.SIGNATURE
    assert lab.run("custody", "consent", "vault", *item, "ben").code == 0
    assert lab.run("custody", "show", "vault", *ITEM, "--json").document["sealed"]
    assert lab.run("custody", "withdraw", "vault", *item, "ben").code == ExitCode.NOT_THERE
    assert lab.run("verify", "vault").code == 0


def test_what_needs_two_people_is_typed_in_one_way(tmp_path: Path) -> None:
    lab = Lab.make(tmp_path)
    lab.make_key("ben")
    trusted = [word for name in ("ana", "ben") for word in ("--trust", f"{name}.pub", "--principal", f"{name}@lab")]
    assert lab.run("init", "other", "--two-person", "trust, seal", *trusted).code == 0
    assert lab.run("trust", "list", "other", "--json").document["two_person"] == ["seal", "trust"]
    assert lab.run("init", "third", "--two-person", "nothing").code == 0
    refused = [
        lab.run("init", "fourth", "--two-person", "trust,nothing"),
        lab.run("trust", "two-person", "vault", "--for", "trust,nothing"),
    ]
    assert [done.code for done in refused] == [ExitCode.USAGE, ExitCode.USAGE]
    assert refused[0].err == refused[1].err


def test_a_vault_of_one_person_cannot_demand_two(tmp_path: Path) -> None:
    lab = Lab.make(tmp_path)
    refused = lab.run("init", "other", "--two-person", "trust", "--trust", "ana.pub", "--principal", "ana@lab")
    assert (refused.code, (tmp_path / "other").exists()) == (ExitCode.USAGE, False)
    assert lab.run("trust", "two-person", "vault", "--for", "trust").code == ExitCode.USAGE
    assert lab.run("init", "other", "--two-person", "everything").code == ExitCode.USAGE
