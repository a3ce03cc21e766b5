"""`settings`: shows the user's settings and where each comes from, says where their file is, and opens it in an editor."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.settings import CONFIG_VARIABLE, LoadedSettings, load_settings, setting_keys, settings_file, variable_of
from evidencesync.errors import CommandKind, ConfigurationError, EvidenceSyncError, NoHomeError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.cli.settings_outputs import SettingOutput

_HEAD: Final = """\
# Settings of evidencesync, in TOML. Each is the default of the option or argument of its name. What is typed wins, then the
# environment (EVIDENCESYNC_VAULT ...), then this file. Take away the # in front of a line to set it.
# What holds now: evidencesync settings show

"""
_MEANINGS: Final[dict[str, tuple[str, str | int]]] = {
    "vault": ("The vault, where a command line leaves it out: a path, or an address.", "vault@vault.lab:/home/vault/vault"),
    "case": ("The case, where a command that needs one is given none.", "2024-017"),
    "examiner": ("Your name, as documents state it. Without it: your login's full name.", "Ana Example"),
    "organisation": ("Your organisation.", "Digital lab"),
    "sign-key": ("The key to sign with, or 'agent'. Without it: the identity, then ~/.ssh/id_ed25519.", "~/.ssh/id_ed25519"),
    "identity": ("The key for SSH. Without it, ssh decides.", "~/.ssh/id_ed25519"),
    "ssh-config": ("The configuration of ssh, or 'none'. Without it: ~/.ssh/config.", "~/.ssh/config"),
    "known-hosts": ("The only known_hosts file. Without it: those of ssh, and our own.", "~/.ssh/known_hosts"),
    "remote-command": ("The path of evidencesync on the other machine.", "/usr/local/bin/evidencesync"),
    "bundle": ("The bundle that pull --bring-agent brings: a .tar.zst.", "~/evidencesync-0.1.0-linux-x86_64.tar.zst"),
    "ssh": ("The SSH client, with options if needed.", "ssh"),
    "compress": ("auto, always or never.", "auto"),
    "limit-rate": ("At most so many bytes a second.", "2M"),
    "timeout": ("After so many seconds a silent connection counts as lost.", 60),
    "log": ("Where push, pull, watch, verify and restore append their events: a file, or syslog.", "~/evidencesync.jsonl"),
    "receipts": ("The folder for receipts. Keep it safe.", "~/.local/share/evidencesync/receipts"),
    "state": ("The folder for what is remembered of vaults.", "~/.local/state/evidencesync"),
    "tsa-root": ("Root certificates (PEM) of the time-stamping authorities that you trust.", "tsa-roots.pem"),
}
"""What each key means, and an example, in the order of the file."""


def add_commands(app: typer.Typer) -> None:
    """Adds the group `settings`."""
    settings = group(app, "settings", "Shows and changes your own settings.")
    command(settings, "show", "evidencesync settings show", "evidencesync settings show --json", kind=CommandKind.SHOWS)(show)
    command(settings, "path", "evidencesync settings path --json", kind=CommandKind.SHOWS, reads_settings=False)(path)
    examples = ("evidencesync settings edit --config settings.toml", "EDITOR=nano evidencesync settings edit")
    command(settings, "edit", *examples, kind=CommandKind.CHANGES, reads_settings=False)(edit)


def show(run: Run) -> ExitCode:
    """Lists every setting, its value, and where it comes from: the environment, the settings file, or the default.

    What is typed in a command line wins over all of them.
    """
    from evidencesync.cli.settings_outputs import SettingsOutput

    found = list(_settings(run.settings))
    file = safe_text(str(run.settings.file)) if run.settings.file is not None else None
    values = [_shown(one.value) for one in found]
    width = max(map(len, values))
    lines = [f"{'file':14}  {file or 'none is read'}"]
    for one, value in zip(found, values, strict=True):
        lines.append(f"{one.key:14}  {value:{width}}  {one.variable if one.source == 'environment' else one.source}")
    run.console.print_result(SettingsOutput(file, found), lines)
    return ExitCode.COMPLETE


def _shown(value: str | float | None) -> str:
    if value is None:
        return "-"
    return safe_text(value) if isinstance(value, str) else f"{value:g}"


def path(run: Run) -> ExitCode:
    """Prints where the settings file is, or would be."""
    from evidencesync.cli.settings_outputs import SettingsPathOutput

    file = _named(run.settings)
    exists, shown = os.path.lexists(file), safe_text(str(file))
    if not exists:
        run.console.print_message(f"note: there is no such file yet; {_edit_text(file)} makes it")
    run.console.print_result(SettingsPathOutput(shown, exists), [shown])
    return ExitCode.COMPLETE


def edit(run: Run) -> ExitCode:
    """Opens the settings file in your editor ($VISUAL, else $EDITOR), and then checks it.

    A file that is not there is made first, with every setting in it as a comment. If something is wrong with it afterwards,
    that is said, and the code is 2.
    """
    from evidencesync.cli.settings_outputs import SettingsEditOutput

    file, editor = _named(run.settings), _editor()
    made = _make(file)
    _open_in(editor, file, output=2 if run.console.as_json else None)  # not into the document
    loaded = _checked(file)
    keys = [key for key in setting_keys() if _value(loaded, key) is not None]
    shown = safe_text(str(file))
    run.console.print_result(
        SettingsEditOutput(shown, made, keys), [f"{shown} is right, and sets: {', '.join(keys) or 'nothing yet'}"]
    )
    return ExitCode.COMPLETE


def _named(settings: LoadedSettings) -> Path:
    if settings.file is None:
        raise UsageError("--config none names no settings file", hint="Leave it out, or name a file: --config FILE")
    return settings.file


def _value(settings: LoadedSettings, key: str) -> str | float | None:
    value: str | float | None = getattr(settings.values, key.replace("-", "_"))
    return value


def _settings(settings: LoadedSettings) -> Iterator[SettingOutput]:
    from evidencesync.cli.settings_outputs import SettingOutput

    for key in _MEANINGS:
        variable = variable_of(key)
        given, value = os.environ.get(variable), _value(settings, key)
        if given:
            yield SettingOutput(key, given, "environment", variable)
        elif value is not None:
            yield SettingOutput(key, value, "file", variable)
        else:
            yield SettingOutput(key, _default(key), "default", variable)


def _default(key: str) -> str | float | None:
    """What holds for a key that nobody has set; None where a command decides by itself, or this machine cannot tell."""
    from evidencesync.cli.options import DEFAULT_TIMEOUT_SECONDS, login_name

    plain: dict[str, str | float] = {
        "timeout": DEFAULT_TIMEOUT_SECONDS,
        "compress": "auto",
        "ssh": "ssh",
        "remote-command": "evidencesync",
    }
    if key in plain:
        return plain[key]
    try:
        if key == "examiner":
            return login_name()
        if key == "receipts":
            from evidencesync.localstate.receipts import default_receipts

            return str(default_receipts(None))
        if key == "state":
            from evidencesync.localstate.heads import state_folder

            return str(state_folder(None))
    except (NoHomeError, UsageError):
        pass
    return None


def _editor() -> list[str]:
    """The user's editor as a command line; at a terminal, one that this machine has. Raises UsageError."""
    from evidencesync.cli.terminal import has_terminal

    hint = "Set VISUAL or EDITOR to your editor, such as nano."
    for name in ("VISUAL", "EDITOR"):
        if text := os.environ.get(name, "").strip():
            try:
                return shlex.split(text)
            except ValueError as error:
                raise UsageError(f"{name} is no command line: {safe_text(text, 100)}", hint=hint) from error
    found = next(filter(None, map(shutil.which, ("editor", "nano", "vi"))), None) if has_terminal() else None
    if found is None:
        raise UsageError("no editor is known", hint=hint)
    return [found]


def _make(file: Path) -> bool:
    """Makes the file, if it is not there, for its owner alone. Returns whether it did. Raises ConfigurationError, UsageError."""
    from evidencesync.outside import open_folder_outside

    shown = safe_text(str(file), 200)
    try:
        folder = open_folder_outside(file.parent, shown, (), "Name another file: --config FILE", follow=True)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(file.name, flags, 0o600, dir_fd=folder), "w", encoding="utf-8") as made:
                made.write(template())
        finally:
            os.close(folder)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigurationError(
            f"the settings file {shown} cannot be made: {error.strerror}", hint="Name another with --config FILE."
        ) from error
    return True


def template() -> str:
    """A settings file with every key in a comment."""
    parts = [f"# {meaning}\n# {key} = {_toml(example)}\n" for key, (meaning, example) in _MEANINGS.items()]
    return _HEAD + "\n".join(parts)


def _toml(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'


def _open_in(editor: list[str], file: Path, output: int | None) -> None:
    """Waits for the editor. Ctrl-C is the editor's then. Raises UsageError."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # a handler, for the editor would inherit that it is ignored
    try:
        code = subprocess.run([*editor, str(file)], stdout=output, check=False).returncode
    except OSError as error:
        what = f"the editor {safe_text(editor[0], 100)} cannot be started: {error.strerror}"
        raise UsageError(what, hint="Name another one in the variable EDITOR.") from error
    finally:
        signal.signal(signal.SIGINT, before)
    if code:
        raise UsageError(f"the editor {safe_text(editor[0], 100)} ended with {code}", hint="The settings were not checked.")


def _checked(file: Path) -> LoadedSettings:
    """Reads the file as every command does, and each value as its own command would. Raises ConfigurationError."""
    try:
        loaded = load_settings(str(file))
        for key, check in _checks().items():
            if (value := _value(loaded, key)) is not None:
                _check(file, key, check, value)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, hint=f"Edit it again: {_edit_text(file)}") from error
    return loaded


def _edit_text(file: Path) -> str:
    """The command that edits this very file."""
    try:
        usual = settings_file(os.environ.get(CONFIG_VARIABLE) or None)
    except NoHomeError:
        usual = None
    return shell_text("evidencesync", "settings", "edit", *([] if usual == file else ["--config", str(file)]))


def _check(file: Path, key: str, check: Callable[[Any], object], value: str | float) -> None:
    try:
        check(value)
    except EvidenceSyncError as error:
        hint = error.hint or "Open it with: evidencesync settings edit"
        raise ConfigurationError(f"the settings file {safe_text(str(file), 200)}: {key}: {error.message}", hint=hint) from error


def _checks() -> dict[str, Callable[[Any], object]]:
    from evidencesync.cli.acquire import parse_compress
    from evidencesync.cli.number_format import parse_rate
    from evidencesync.cli.options import parse_address
    from evidencesync.evidence.identity import Title
    from evidencesync.ssh.options import parse_program

    return {
        "vault": lambda text: parse_address(text, "vault"),
        "case": Title,
        "ssh": parse_program,
        "compress": parse_compress,
        "limit-rate": parse_rate,
    }
