"""`init` takes a signer's name from the key, and says what is typed next, ready to be pasted."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.cli import first_steps
from evidencesync.cli.first_steps import FirstSteps
from evidencesync.custody.publickey import PublicKey
from evidencesync.ssh.address import Address
from tests.support.every_command import run_in_process

LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
OTHER = LINE[:-1] + "e"
KEY = PublicKey.from_line(LINE)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine called vault.lab, with an account `keeper`, and no SSH server that is known of."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    monkeypatch.setattr(first_steps, "SSHD_FOLDER", folder)
    monkeypatch.setattr(first_steps, "account_name", lambda: "keeper")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "vault.lab", "6", "1", "x86_64")))
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/evidencesync"])
    return folder


def steps(root: str = "/srv/vault") -> FirstSteps:
    return FirstSteps.into(Path(root), [(KEY, "ana@lab")])


def test_the_line_lets_the_key_serve_this_vault_and_do_nothing_else() -> None:
    served = "/usr/local/bin/evidencesync serve --vault /srv/vault"
    assert steps().authorized_keys == [f'restrict,command="{served}" {LINE} ana@lab']


@pytest.mark.parametrize("name", ["a vault", "it's", 'a "vault"', "$HOME;ls"])
def test_what_a_shell_makes_of_the_line_and_of_the_command_is_the_vault(name: str) -> None:
    root = f"/srv/{name}"
    line = steps(root).authorized_keys[0]
    command = line.removeprefix('restrict,command="').removesuffix(f'" {LINE} ana@lab').replace('\\"', '"')
    echoed = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], check=True, capture_output=True, text=True).stdout
    assert echoed.splitlines()[-1] == root
    push = shlex.split(steps(root).commands[-1])
    assert push[:3] == ["evidencesync", "push", "SOURCE"]
    assert Address.parse(push[3]) == Address("keeper", "vault.lab", None, root, local=False)


@pytest.mark.parametrize("program", ["/somewhere/evidencesync/__main__.py", "-c", "no-such-program"])
def test_a_program_that_has_no_command_of_its_own_is_served_by_its_python(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert f'command="{sys.executable} -m evidencesync serve' in steps().authorized_keys[0]


@pytest.mark.parametrize(
    ("session", "settings", "port"),
    [
        ("", {}, None),
        ("192.0.2.1 50000 192.0.2.2 2222", {"sshd_config": "Port 3333\n"}, 2222),
        ("192.0.2.1 50000 192.0.2.2 22", {"sshd_config": "Port 3333\n"}, None),
        ("odd", {"sshd_config": "# Port 1\nport = 3333 # ours\nPort 4444\n"}, 3333),
        ("", {"sshd_config": "Port 3333\n", "sshd_config.d/a.conf": "Port 4444\n"}, 4444),
        ("", {"sshd_config": "Match User x\nPort 3333\n"}, None),
        ("", {"sshd_config": "Port 99999\n"}, None),
    ],
)
def test_the_port_is_named_where_it_is_not_22(
    session: str, settings: dict[str, str], port: int | None, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", session)
    (machine / "sshd_config.d").mkdir()
    for name, text in settings.items():
        (machine / name).write_text(text)
    trust, push = (shlex.split(command) for command in steps().commands)
    assert Address.parse(push[3]) == Address("keeper", "vault.lab", port, "/srv/vault", local=False)
    assert trust == ["evidencesync", "host", "trust", f"ssh://keeper@vault.lab:{port}" if port else "keeper@vault.lab"]


def test_the_fingerprint_of_the_host_key_comes_along_and_where_it_is_from(machine: Path) -> None:
    (machine / "ssh_host_ed25519_key.pub").write_text(f"{LINE} root@vault\n")
    assert steps().commands[0] == f"evidencesync host trust keeper@vault.lab --fingerprint {KEY.fingerprint}"
    note = f"           (fingerprint from {machine}/ssh_host_ed25519_key; if sshd uses another key, compare it yourself)"
    assert list(steps().lines())[-4:-3] == [note]
    (machine / "ssh_host_ed25519_key.pub").write_text("nonsense")
    assert steps().commands[0] == "evidencesync host trust keeper@vault.lab"
    assert "fingerprint" not in "".join(steps().lines())


def test_it_says_what_is_typed_where_others_reach_the_machine_by_another_name_or_port() -> None:
    note = list(steps().lines())[-3]
    assert "another name or port" in note
    assert "ssh://USER@NAME:PORT" in note


def test_what_cannot_be_typed_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps("/srv/a\nb") == FirstSteps([], [])
    assert FirstSteps.into(Path("/srv/vault"), []) == FirstSteps([], [])
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "(none)", "6", "1", "x86_64")))
    assert (len(steps().authorized_keys), steps().commands) == (1, [])


@pytest.fixture
def init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Makes a vault that trusts keys with these comments."""

    def run(*comments: str, principals: tuple[str, ...] = ()) -> tuple[int, str]:
        line = ["init", str(tmp_path / "vault")]
        for number, comment in enumerate(comments):
            algorithm, key = KEY.line().split() if not number else OTHER.split()
            file = tmp_path / f"{number}.pub"
            file.write_text(f"{algorithm} {key} {comment}\n")
            line += ["--trust", str(file)]
        for principal in principals:
            line += ["--principal", principal]
        code = run_in_process(line)
        out, err = capsys.readouterr()
        return code, out + err

    return run


def test_the_comment_that_ssh_keygen_writes_is_the_signers_name(init: Callable[..., tuple[int, str]]) -> None:
    code, said = init("ana@laptop")
    assert code == 0
    assert "trusts     ana@laptop  ssh-ed25519" in said
    assert (
        said.splitlines()[-1]
        == f"evidencesync push SOURCE keeper@vault.lab:{shlex.quote(said.split()[1])} --case CASE --item ITEM"
    )


def test_a_name_that_is_given_wins(init: Callable[..., tuple[int, str]]) -> None:
    code, said = init("ana@laptop", principals=("ana@lab",))
    assert (code, "ana@laptop" in said, "trusts     ana@lab " in said) == (0, False, True)


@pytest.mark.parametrize(
    "comment", ["", "no comment", "imported-openssh-key", "rsa-key-20260101", "ana@", "Ana Example <ana@lab>"]
)
def test_a_comment_that_names_nobody_is_refused_with_a_hint(
    comment: str, init: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, said = init(comment)
    assert (code, "which names nobody" in said, "--principal NAME" in said) == (2, True, True)
    assert not (tmp_path / "vault").exists()


@pytest.mark.parametrize("comment", ["vault@lab", "ana\u202e@lab"])
def test_a_comment_that_may_be_no_signers_name_is_refused(
    comment: str, init: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert init(comment)[0] == 2
    assert not (tmp_path / "vault").exists()


def test_a_key_that_is_trusted_later_gets_the_same_lines(
    init: Callable[..., tuple[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, made = init("ana@laptop")
    (tmp_path / "ben.pub").write_text(f"{OTHER} ben@laptop\n")
    assert run_in_process(["trust", "add", str(tmp_path / "vault"), str(tmp_path / "ben.pub")]) == 0
    lines, before = capsys.readouterr().out.splitlines(), made.splitlines()
    assert lines[-5].endswith(" ben@laptop")
    assert [line.replace(f"{OTHER} ben@", f"{LINE} ana@") for line in lines[-6:]] == before[-6:]


def test_names_for_some_of_the_keys_are_refused(init: Callable[..., tuple[int, str]]) -> None:
    code, said = init("ana@laptop", "ben@laptop", principals=("ana@lab",))
    assert (code, "or none: then the keys' comments" in said) == (2, True)
