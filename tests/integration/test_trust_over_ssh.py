"""`trust` of a vault on another machine, over a real sshd and one forced command: as it is there, for administrators alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.exit_codes import ExitCode
from tests.integration.cli_program import Done, Lab, far_program, schema_errors
from tests.integration.test_cli_remote import _ssh_options

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


class FarLab:
    """A vault behind one forced command, and Ana, who may do what a test says."""

    def __init__(self, lab: Lab, sshd: Sshd) -> None:
        self.lab = lab
        login = lab.make_key("login")
        lab.make_key("ben")
        served = f"{far_program()} serve --vault {lab.folder}/vault"
        with sshd.authorized_keys.open("a") as lines:
            lines.write(f'restrict,command="{served}" {login.with_suffix(".pub").read_text()}')
        self.address = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
        self.options = ("-i", str(login), *_ssh_options(sshd)[2:], "--sign-key", "ana")

    def trust(self, name: str, *arguments: str) -> Done:
        return self.lab.run("trust", name, self.address, *arguments, *self.options)

    def here(self, name: str, *arguments: str) -> Done:
        return self.lab.run("trust", name, f"{self.lab.folder}/vault", *arguments)

    def may(self, roles: str) -> None:
        assert self.here("change", "ana@lab", "--may", roles).code == 0


@pytest.fixture
def far(tmp_path: Path, sshd: Sshd) -> Iterator[FarLab]:
    before = sshd.authorized_keys.read_text()
    yield FarLab(Lab.make(tmp_path), sshd)
    sshd.authorized_keys.write_text(before)


def test_an_administrator_changes_trust_from_afar_as_it_is_changed_there(far: FarLab) -> None:
    far.lab.write("notes.txt", b"hello")
    assert far.lab.push().code == 0
    far.may("admin")
    added = far.trust("add", "ben.pub", "--principal", "ben@lab", "--json")
    assert added.code == 0, added.err
    assert schema_errors(added.document, "trust-output") == []
    assert [one["action"] for one in added.document["changes"]] == ["added"]
    for name, *arguments in (
        ("change", "ben@lab", "--may", "read", "--case", "2024-*"),
        ("change", "ben@lab", "--all-cases"),
        ("retire", "ben@lab"),
        ("revoke", "ben.pub", "--reason", "stolen"),
    ):
        done = far.trust(name, *arguments)
        assert done.code == 0, done.err
        assert far.trust("list").out == far.here("list").out
    assert far.lab.run("verify", "vault").code == 0


def test_everything_of_a_far_vault_goes_on_after_its_key_was_changed_and_again(far: FarLab) -> None:
    """Who knows the vault by an earlier key is led over: by a push, by trust, and by every command that reads."""
    lab, address, item = far.lab, far.address, ("--case", "2024-017", "--item", "LAPTOP-1")
    far.may("acquire,custody,read,verify,admin")
    lab.write("notes.txt", b"hello")
    reader = far.options
    assert lab.run("push", "evidence", address, *item, *reader).code == 0
    for number in (1, 2):
        rotated = lab.run("trust", "rotate-vault-key", "vault", "--yes", "--json")
        assert rotated.code == 0, rotated.err
        assert schema_errors(rotated.document, "trust-output") == []
        assert [one["action"] for one in rotated.document["changes"]] == ["vault-key-changed"]
        assert [one["given_up"] is None for one in rotated.document["signers"]].count(False) == number
        lab.write("notes.txt", b"hello" * number)
        for words in (
            ("verify", address),
            ("verify", address, "--fetch"),
            ("trust", "change", address, "ana@lab", "--may", "acquire,custody,read,verify,admin"),
            ("push", "evidence", address, *item),
            ("list", address),
            ("custody", "note", address, *item, "--text", f"after change {number}"),
            ("restore", address, f"copy-{number}", *item),
            ("report", address, "--case", "2024-017", "-o", f"report-{number}.html"),
            ("export", address, f"bag-{number}", *item, "--format", "bagit"),
        ):
            done = lab.run(*words, *reader)
            assert done.code == 0, (words, done.err)
    for here in (("verify", "vault"), ("receipts", "check"), ("receipts", "check", "--vault", "vault"), ("list", "vault")):
        done = lab.run(*here)
        assert done.code == 0, (here, done.err)


def test_what_is_refused_there_is_refused_from_afar(far: FarLab) -> None:
    far.may("admin")
    far.lab.make_key("eve")
    chain = sorted((far.lab.folder / "vault" / "custody").iterdir())
    for name, *arguments in (
        ("add", "ana.pub", "--principal", "other@lab"),
        ("add", "ana.pub", "--principal", "ana@lab", "--may", "read"),
        ("add", "ben.pub", "--principal", "vault"),
        ("add", "ben.pub"),
        ("add", "nothing.pub", "--principal", "ben@lab"),
        ("add", "ben.pub", "--principal", "ben@lab", "--may", "everything"),
        ("change", "ana@lab"),
        ("change", "nobody@lab", "--may", "read"),
        ("change", "eve.pub", "--may", "read"),
        ("change", "vault", "--may", "read"),
        ("retire", "nobody@lab"),
        ("retire", "eve.pub"),
        ("retire", "vault"),
        ("revoke", "vault"),
        ("revoke", "nobody@lab"),
    ):
        afar, here = far.trust(name, *arguments), far.here(name, *arguments)
        assert (afar.code != 0, afar.code) == (True, here.code), (name, arguments, afar, here)
        assert afar.err.partition("hint:")[0] == here.err.partition("hint:")[0]
    assert far.trust("revoke", "ana@lab").code == ExitCode.USAGE
    assert sorted((far.lab.folder / "vault" / "custody").iterdir()) == chain


def test_each_role_is_let_in_for_what_it_is_for(far: FarLab) -> None:
    for role, lists, changes in (
        ("acquire", False, False),
        ("custody", False, False),
        ("read", True, False),
        ("verify", False, False),
        ("admin", True, True),
    ):
        far.may(role)
        listed = far.trust("list")
        assert listed.code == (0 if lists else ExitCode.SIGNATURE), (role, listed.err)
        done = far.trust("add", "ben.pub", "--principal", "ben@lab")
        assert done.code == (0 if changes else ExitCode.SIGNATURE), (role, done.err)
        assert changes or f"may {role}, and not admin" in done.err


def test_a_key_again_is_not_added_twice_and_its_line_is_told(far: FarLab) -> None:
    far.may("admin")
    assert far.trust("add", "ben.pub", "--principal", "ben@lab").code == 0
    again = far.trust("add", "ben.pub", "--principal", "ben@lab")
    assert (again.code, "trusts this key already" in again.err) == (0, True)
    assert f'restrict,command="evidencesync serve --vault {far.lab.folder}/vault" ssh-ed25519 ' in again.out


def test_an_older_copy_of_the_vault_is_changed_by_nobody(far: FarLab, tmp_path: Path) -> None:
    far.may("admin")
    shutil.copytree(tmp_path / "vault", tmp_path / "older", symlinks=True)
    assert far.trust("add", "ben.pub", "--principal", "ben@lab").code == 0
    shutil.rmtree(tmp_path / "vault")
    (tmp_path / "older").rename(tmp_path / "vault")
    assert far.trust("change", "ana@lab", "--until", "2099-12-31").code == ExitCode.CHAIN
    assert far.trust("list").code == ExitCode.CHAIN
