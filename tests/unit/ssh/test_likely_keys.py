"""A key file that does not exist leads to the one that may be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.cli.trust_files import load_public_key
from evidencesync.errors import SigningKeyError
from evidencesync.ssh.keys import load_signer

BRING = "Bring another person's key here: the file that ends in .pub, and never the private one"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "keys").mkdir()
    return tmp_path


def _pair(file: Path) -> None:
    file.touch()
    file.with_name(f"{file.name}.pub").touch()


def _hints(file: Path) -> tuple[str | None, str | None]:
    """For the private key, and for its public part."""
    with pytest.raises(SigningKeyError, match="does not exist") as private:
        load_signer(str(file), None, None)
    with pytest.raises(SigningKeyError, match="there is no public key") as public:
        load_public_key(file.with_name(f"{file.name}.pub"))
    return private.value.hint, public.value.hint


def test_a_slip_leads_to_the_key_in_the_same_folder(home: Path) -> None:
    _pair(home / "keys" / "ana 1")
    keys = home / "keys"
    assert _hints(keys / "anna 1") == (f"Did you mean '{keys}/ana 1'?", f"Did you mean '{keys}/ana 1.pub'?")


def test_else_the_keys_in_the_usual_place_are_named(home: Path) -> None:
    make = "Make a key with: ssh-keygen -t ed25519"
    assert _hints(home / "keys" / "x") == (make, f"{BRING}. {make}")
    for name in ("id_ed25519", "work"):
        _pair(home / ".ssh" / name)
    (home / ".ssh" / "known_hosts").touch()
    private, public = _hints(home / "keys" / "x")
    assert private == "Your keys: ~/.ssh/id_ed25519, ~/.ssh/work"
    assert public == f"{BRING}. Your keys: ~/.ssh/id_ed25519.pub, ~/.ssh/work.pub"


def test_a_public_part_that_is_missing_is_made_of_the_private_key(home: Path) -> None:
    (home / "keys" / "ana").touch()
    with pytest.raises(SigningKeyError) as refused:
        load_public_key(home / "keys" / "ana.pub")
    assert refused.value.hint == f"Make it of the private key: ssh-keygen -y -f {home}/keys/ana > {home}/keys/ana.pub"


def test_who_has_no_key_at_all_is_told_how_one_is_made(home: Path) -> None:
    with pytest.raises(SigningKeyError, match="no key to sign with") as refused:
        load_signer(None, None, None)
    assert str(refused.value.hint).endswith("Make a key with: ssh-keygen -t ed25519")
