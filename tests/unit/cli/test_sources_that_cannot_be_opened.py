"""The hint of a source that cannot be opened fits the reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from evidencesync.errors import SourceNotFoundError
from evidencesync.source.root import resolve_source, source_not_found
from tests.support.every_command import run_in_process

ITEM = ("--case", "1", "--item", "A")


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOENT, "disk is mounted"), (errno.ENOTDIR, "disk is mounted"), (errno.EACCES, "may not open it"), (errno.EIO, None)],
)
def test_what_is_not_there_is_told_from_what_is_closed(number: int, hint: str | None) -> None:
    given = source_not_found(b"/mnt/x", OSError(number, os.strerror(number))).hint
    assert given is None if hint is None else hint in str(given)


def test_a_single_file_that_this_account_may_not_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An acquisition of nothing would be published for ever. What a disk does not give is acquired with its gaps."""
    (tmp_path / "shadow").write_text("root:x")
    real = os.open

    def closed(number: int) -> None:
        def refuse(path: bytes, flags: int, *rest: int, **more: int) -> int:
            if os.fsencode(path).endswith(b"/shadow"):
                raise OSError(number, os.strerror(number))
            return real(path, flags, *rest, **more)

        monkeypatch.setattr(os, "open", refuse)

    closed(errno.EACCES)
    with pytest.raises(SourceNotFoundError, match="Permission denied") as refused:
        resolve_source(tmp_path / "shadow")
    assert "sudo" in str(refused.value.hint)
    closed(errno.EIO)
    assert not resolve_source(tmp_path / "shadow").is_folder


def test_the_words_of_a_hint_are_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["push", "/etc", "/srv/vault", "--case", "CASE", "--item", "ITEM"]) == 2
    assert "CASE and ITEM stand for" in capsys.readouterr().err


def test_a_path_without_anything_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError) as refused:
        resolve_source(tmp_path / "nothing")
    assert str(refused.value.hint).startswith("Nothing is at this path")


@pytest.mark.parametrize("command", ["push", "watch"])
def test_a_vault_in_the_place_of_the_source_is_said_to_stand_there(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evidence").mkdir()
    assert run_in_process([command, "vault.lab:/srv/vault", "evidence", *ITEM]) == 2
    hint = capsys.readouterr().err.splitlines()[-1]
    assert hint.startswith("hint: SOURCE comes first, then VAULT")
    assert hint.endswith("evidencesync pull vault.lab:/srv/vault VAULT")


def test_a_name_with_a_colon_that_is_a_folder_here_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    assert resolve_source("a:b").is_folder
