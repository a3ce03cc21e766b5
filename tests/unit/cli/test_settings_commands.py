"""`settings` shows what holds and from where, and a file that was edited is checked."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidencesync.cli.app import main
from evidencesync.cli.own_state import STATE_VARIABLE
from evidencesync.cli.settings import load_settings, setting_keys, variable_of
from evidencesync.cli.settings_commands import _checks, template
from tests.support.every_command import every_command


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's settings file, which is not there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "evidencesync" / "config.toml"


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, tuple[Any, str]]]:
    """What `settings show --json` says of each key: value and source."""

    def show() -> dict[str, tuple[Any, str]]:
        assert main(["settings", "show", "--json"]) == 0
        return {one["key"]: (one["value"], one["source"]) for one in json.loads(capsys.readouterr().out)["settings"]}

    return show


def edited_by(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that appends, replaces, or does whatever a shell's line says of the file $1."""
    monkeypatch.setenv("VISUAL", f"sh -c {shlex.quote(script)} editor")


def test_every_key_is_shown_with_the_variable_that_commands_read(shown: Callable[[], dict[str, tuple[Any, str]]]) -> None:
    assert sorted(shown()) == sorted(setting_keys())
    read = {one.envvar for _, found in every_command() for one in found.params} | {STATE_VARIABLE}
    assert {variable_of(key) for key in setting_keys()} <= read


def test_the_environment_comes_before_the_file_and_that_before_the_default(
    file: Path, shown: Callable[[], dict[str, tuple[Any, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown()["timeout"] == (60.0, "default")
    assert shown()["vault"] == (None, "default")
    file.parent.mkdir(parents=True)
    file.write_text('timeout = 9\nvault = "/srv/vault"\n')
    assert shown()["timeout"] == (9.0, "file")
    monkeypatch.setenv("EVIDENCESYNC_VAULT", "/srv/other")
    monkeypatch.setenv("EVIDENCESYNC_TIMEOUT", "")
    assert (shown()["vault"], shown()["timeout"]) == (("/srv/other", "environment"), (9.0, "file"))


def test_people_see_a_line_for_each_key(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EVIDENCESYNC_CASE", "a\x1b[2Jb")
    assert main(["settings", "show"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["case", "a\\x1b[2Jb", "EVIDENCESYNC_CASE"] in rows
    assert ["timeout", "60", "default"] in rows


def test_the_path_is_that_of_the_file_that_commands_read(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "path"]) == 0
    out, err = capsys.readouterr()
    assert (out, "settings edit makes it" in err) == (f"{file}\n", True)
    assert main(["settings", "path", "--config", str(tmp_path / "mine.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(tmp_path / "mine.toml"), "exists": False}
    assert main(["settings", "path", "--config", "none"]) == 2


def test_a_file_that_is_not_there_is_made_with_every_key_in_a_comment(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edited_by('cp "$1" "$1.seen"', monkeypatch)
    assert main(["settings", "edit"]) == 0
    assert file.with_name("config.toml.seen").read_text() == file.read_text() == template()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "sets: nothing yet" in capsys.readouterr().out


def test_what_the_template_has_in_comments_is_a_right_file(tmp_path: Path) -> None:
    text = "\n".join(line.removeprefix("# ") if " = " in line else line for line in template().splitlines())
    assert sorted(tomllib.loads(text)) == sorted(setting_keys())
    (tmp_path / "mine.toml").write_text(text)
    values = load_settings(str(tmp_path / "mine.toml")).values
    for key, check in _checks().items():
        check(getattr(values, key.replace("-", "_")))


def test_a_file_that_is_there_is_edited_as_it_is(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.mkdir(parents=True)
    file.write_text('examiner = "Ana"\n')
    edited_by('echo \'case = "2024-017"\' >> "$1"', monkeypatch)
    assert main(["settings", "edit", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "made": False, "keys": ["case", "examiner"]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('examinr = "Ana"', "there is no setting called examinr"),
        ("timeout = 0", "timeout must be a number"),
        ('limit-rate = "fast"', "limit-rate: not a rate: fast"),
        ('compress = "max"', "compress: --compress is auto, always or never"),
        ('vault = "ssh://"', "vault: "),
        ('vault = "vault@vault.lab"', "vault: vault@vault.lab names a server, but no vault on it"),
        ('ssh = "\'"', "ssh: "),
        ("not toml", "config.toml: "),
    ],
)
def test_what_is_wrong_after_editing_is_said_and_can_be_edited_again(
    line: str, said: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edited_by(f'printf "%s\\n" {shlex.quote(line)} > "$1"', monkeypatch)
    assert main(["settings", "edit"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Edit it again: evidencesync settings edit" in err
    edited_by(': > "$1"', monkeypatch)
    assert main(["settings", "edit"]) == 0


def test_what_is_to_be_typed_names_the_file_that_was_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = str(tmp_path / "my file.toml")
    assert main(["settings", "path", "--config", mine]) == 0
    assert f"evidencesync settings edit --config '{mine}' makes it" in capsys.readouterr().err
    edited_by('echo wrong > "$1"', monkeypatch)
    assert main(["settings", "edit", "--config", mine]) == 2
    assert f"Edit it again: evidencesync settings edit --config '{mine}'\n" in capsys.readouterr().err


def test_visual_comes_before_editor_and_without_both_nobody_is_asked(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evidencesync.cli.terminal.has_terminal", lambda: False)
    monkeypatch.setenv("EDITOR", "false")
    assert main(["settings", "edit"]) == 0
    monkeypatch.delenv("VISUAL")
    assert main(["settings", "edit"]) == 2
    assert "the editor false ended with 1" in capsys.readouterr().err
    for wrong, said in (("", "no editor is known"), ("'", "EDITOR is no command line"), ("/no/such/editor", "cannot be started")):
        monkeypatch.setenv("EDITOR", wrong)
        assert main(["settings", "edit"]) == 2
        assert said in capsys.readouterr().err


def test_an_editor_says_nothing_into_the_document(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    edited_by("echo drawing", monkeypatch)
    assert main(["settings", "edit", "--json"]) == 0
    out, err = capfd.readouterr()
    assert (json.loads(out)["made"], "drawing" in err) == (True, True)


def test_no_settings_are_made_or_edited_in_a_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "vault"), "-q"]) == 0
    assert main(["settings", "edit", "--config", str(tmp_path / "vault" / "mine.toml")]) == 2
    assert "lies in a vault" in capsys.readouterr().err
    assert main(["settings", "edit", "--config", str(tmp_path / "vault" / "vault.toml")]) == 2
