from __future__ import annotations

import pwd

import pytest

from evidencesync.cli import options
from evidencesync.cli.options import _check_person, login_name
from evidencesync.errors import UsageError


def _login(monkeypatch: pytest.MonkeyPatch, gecos: str, user: str = "ana") -> None:
    entry = pwd.struct_passwd((user, "x", 1, 1, gecos, "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    monkeypatch.setattr("getpass.getuser", lambda: user)


@pytest.mark.parametrize(
    ("gecos", "name"),
    [
        ("Ana Example,Room 1,,", "Ana Example"),
        ("", "ana"),
        (" , ", "ana"),
        ("& Example", "Ana Example"),
        ("Ana\x1b[1m", "ana"),
        ("x" * 300, "ana"),
    ],
)
def test_the_login_says_who_sits_here(gecos: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _login(monkeypatch, gecos)
    assert login_name() == name


def test_a_machine_that_knows_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_full_name", lambda: "")
    monkeypatch.setattr(options, "user_name", lambda: "\udcff")
    with pytest.raises(UsageError, match="your name"):
        login_name()


def test_a_name_that_cannot_stand_in_a_document_is_refused() -> None:
    assert _check_person("  Ana Ł. Example ", "x") == "Ana Ł. Example"
    for name in ("", "   ", "x" * 201, "a\nb", "a\u202eb"):
        with pytest.raises(UsageError):
            _check_person(name, "x")
