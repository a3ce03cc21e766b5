from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from evidencesync.cli.trust_commands import _find_key
from evidencesync.cli.trust_files import load_public_key, load_trusted
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.trust import TrustedSigners
from evidencesync.custody.wire import write_string
from evidencesync.errors import NotThereError, SigningKeyError, UsageError
from evidencesync.vault.create import create_vault
from evidencesync.vault.vault import Vault


def _key(number: int) -> PublicKey:
    return PublicKey.from_blob(write_string(b"ssh-ed25519") + write_string(number.to_bytes(32, "big")))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return create_vault(tmp_path / "vault", "lab", [(_key(1), "ana@lab"), (_key(2), "ben@lab"), (_key(3), "ben@lab")])


def test_a_principal_with_one_key_is_meant_by_name(vault: Vault) -> None:
    assert _find_key(vault, "ana@lab") == _key(1)
    with pytest.raises(NotThereError):
        _find_key(vault, "eve@lab")


@pytest.mark.parametrize(
    ("typed", "meant"), [("ana", "ana@lab"), ("ann@lab", "ana@lab"), ("ben@lba", "ben@lab"), ("carl@other", None)]
)
def test_a_principal_that_nobody_has_leads_to_the_nearest(typed: str, meant: str | None, vault: Vault) -> None:
    with pytest.raises(NotThereError) as refused:
        _find_key(vault, typed)
    begins = "Who is trusted is listed by:" if meant is None else f"Did you mean {meant}"
    assert str(refused.value.hint).startswith(begins)


def test_a_principal_with_more_keys_is_not_guessed(vault: Vault) -> None:
    with pytest.raises(UsageError, match="more than one key") as refused:
        _find_key(vault, "ben@lab")
    assert all(_key(number).fingerprint in refused.value.message for number in (2, 3))


def test_a_fingerprint_with_a_slash_is_not_taken_for_a_path(vault: Vault) -> None:
    slashed = next(key for key in map(_key, range(4, 1000)) if "/" in key.fingerprint)
    vault.trust.add(slashed, "carl@lab")
    assert _find_key(vault, slashed.fingerprint) == slashed


def test_a_file_names_a_key_that_need_not_be_known(vault: Vault, tmp_path: Path) -> None:
    file = tmp_path / "eve.pub"
    file.write_text(_key(9).line("eve") + "\n")
    assert _find_key(vault, str(file)) == _key(9)


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"-----BEGIN OPENSSH PRIVATE KEY-----", b"ssh-ed25519 AAAA", b"\xff" * 40_000]
)
def test_what_is_no_public_key_is_12(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_bytes(data)
    for path in (file, tmp_path / "gone.pub", tmp_path):
        with pytest.raises(SigningKeyError):
            load_public_key(path)


def test_what_an_editor_on_windows_puts_around_a_key_or_a_list_is_no_part_of_it(tmp_path: Path) -> None:
    key, signers = tmp_path / "key.pub", tmp_path / "signers"
    for file, line in ((key, _key(9).line("ana")), (signers, f"ana@lab {_key(9).line('ana')}")):
        file.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n")
    assert load_public_key(key) == _key(9)
    assert TrustedSigners.parse(load_trusted(signers)).principal_for(_key(9), "manifest@evidencesync", 0) == "ana@lab"


@pytest.mark.parametrize("lines", [1, 2])
def test_lines_of_authorized_keys_lead_to_the_key_that_is_meant(lines: int, tmp_path: Path) -> None:
    file = tmp_path / "authorized keys"
    held = [f'restrict,command="evidencesync serve --vault /srv/v" {_key(9 + n).line(f"ana{n}@lab")}' for n in range(lines)]
    file.write_text("\n".join(held) + "\n")
    with pytest.raises(SigningKeyError, match="as authorized_keys does, and one public key is meant") as refused:
        load_public_key(file)
    command = str(refused.value.hint).partition("for the first of them: ")[2]
    assert command.endswith(" > ana0.pub")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)  # as a person pastes it
    assert load_public_key(tmp_path / "ana0.pub") == _key(9)
    assert shlex.split(command)[0] == "grep"


@pytest.mark.parametrize(
    ("data", "made"),
    [
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen {0}/k.x -L > {0}/k.pub"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\n", "ssh-keygen -i -f {0}/k.x > {0}/k.pub"),
    ],
)
def test_a_key_in_the_form_of_another_program_comes_with_what_makes_one_of_ours(data: str, made: str, tmp_path: Path) -> None:
    (tmp_path / "k.x").write_text(data)
    with pytest.raises(SigningKeyError, match="not written as OpenSSH") as refused:
        load_public_key(tmp_path / "k.x")
    assert str(refused.value.hint).endswith(made.format(tmp_path))
