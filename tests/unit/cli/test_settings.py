from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.cli.options import RemoteChoice, SignChoice, local_vault
from evidencesync.cli.settings import LoadedSettings, load_settings, user_file
from evidencesync.errors import ConfigurationError, UsageError


def _file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_users_own_file_need_not_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_settings(None) == LoadedSettings()
    user_file().parent.mkdir()
    user_file().write_text('examiner = "Ana"\n')
    loaded = load_settings(None)
    assert (loaded.values.examiner, loaded.file) == ("Ana", user_file())
    assert load_settings("none") == LoadedSettings()


def test_a_relative_config_home_is_not_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "evidence")
    assert user_file() == Path("~/.config/evidencesync/config.toml").expanduser()


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no settings file"):
        load_settings(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    "text",
    [
        "examinr = 'x'",
        "examiner = 1",
        "examiner = ''",
        "sign_key = 'x'",
        "timeout = true",
        "timeout = nan",
        "timeout = 0",
        "timeout = 'long'",
        "not toml",
        "\x00",
        "a = 1\na = 2",
    ],
)
def test_an_unknown_key_or_value_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(_file(tmp_path, text))
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("limit_rate", "limit-rate"),
        ("examinr", "examiner"),
        ("Vault", "vault"),
        ("known_host", "known-hosts"),
        ("nonsense", None),
    ],
)
def test_a_slip_in_a_key_is_answered_with_the_right_one(key: str, meant: str | None, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(_file(tmp_path, f'{key} = "x"'))
    assert refused.value.message.endswith(f"called {key}: did you mean {meant}?" if meant else f"called {key}")
    assert str(refused.value.hint).endswith("evidencesync settings show --config none")


def test_what_is_not_a_small_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in (str(tmp_path), str(tmp_path / "fifo"), "/dev/zero", _file(tmp_path, "#" * 70_000)):
        with pytest.raises(ConfigurationError):
            load_settings(name)


def test_paths_are_relative_to_the_file_and_not_to_where_one_stands(tmp_path: Path) -> None:
    loaded = load_settings(
        _file(tmp_path, 'identity = "keys/ana"\nknown-hosts = "~/hosts"\nsign-key = "agent"\nssh-config = "none"\n')
    )
    options = RemoteChoice().options(loaded, None)
    assert options.identity == tmp_path / "keys/ana"
    assert options.known_hosts == Path("~/hosts").expanduser()
    assert options.config == Path("none")
    assert SignChoice().key_choice(loaded) == "agent"


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    loaded = load_settings(
        _file(tmp_path, 'identity = "a"\nsign-key = "b"\nremote-command = "c"\ntimeout = 5\nssh-config = "none"\n')
    )
    choice = RemoteChoice(identity="x", remote_command="y", timeout=9.0, ssh_config="z")
    options = choice.options(loaded, None)
    assert (options.identity, options.remote_command, options.timeout_seconds, options.config) == (Path("x"), "y", 9.0, Path("z"))
    assert SignChoice(sign_key="k").key_choice(loaded) == "k"
    assert SignChoice().key_choice(loaded) == str(tmp_path / "b")
    assert RemoteChoice().options(loaded, None).remote_command == "c"


def test_without_anything_the_defaults_hold() -> None:
    options = RemoteChoice().options(LoadedSettings(), None)
    assert (options.remote_command, options.timeout_seconds, options.identity, options.config) == (
        "evidencesync",
        60.0,
        None,
        None,
    )
    assert SignChoice().key_choice(LoadedSettings()) is None


def test_a_file_among_evidence_is_refused(tmp_path: Path) -> None:
    loaded = load_settings(_file(tmp_path, ""))
    loaded.refuse_within(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link", tmp_path.parent):
        with pytest.raises(ConfigurationError, match="among the evidence"):
            loaded.refuse_within(folder)


def test_a_remote_vault_is_refused_where_only_a_local_one_will_do() -> None:
    assert local_vault("vault") == Path("vault")
    for remote in ("lab:/srv/vault", "ssh://lab/srv/vault"):
        with pytest.raises(UsageError) as refused:
            local_vault(remote)
        assert refused.value.hint is not None
        assert "machine where the vault lies" in refused.value.hint


def test_a_file_that_was_saved_on_windows_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'\xef\xbb\xbfexaminer = "Ana"\r\n')
    assert load_settings(str(file)).values.examiner == "Ana"
