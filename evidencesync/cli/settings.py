"""Reads the user's settings: a small TOML file. The command line and the environment take precedence.

The file lies in the user's own configuration folder, or is named with `--config`. It is never searched in the current folder,
and a file among evidence is refused: evidence must not control how it is handled.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from evidencesync.errors import ConfigurationError, NoHomeError
from evidencesync.evidence.display import safe_text
from evidencesync.home import NO_REGULAR_FILE, expand, home_folder, own_folder, read_named

if TYPE_CHECKING:
    pass

_MAX_FILE: Final = 64 * 1024  # a dozen short lines
_MAX_TEXT: Final = 4096
_MAX_TIMEOUT: Final = 86_400
_NO_FILE: Final = "none"
CONFIG_VARIABLE: Final = "EVIDENCESYNC_CONFIG"


class Settings(msgspec.Struct, frozen=True):
    """The keys of the file (with `-` for `_`); each is the default of the option or argument of its name.

    All but `timeout` are texts.
    """

    vault: str | None = None
    case: str | None = None
    examiner: str | None = None
    organisation: str | None = None
    sign_key: str | None = None
    identity: str | None = None
    ssh_config: str | None = None
    known_hosts: str | None = None
    remote_command: str | None = None
    bundle: str | None = None
    ssh: str | None = None
    compress: str | None = None
    limit_rate: str | None = None
    timeout: float | None = None
    receipts: str | None = None
    log: str | None = None
    state: str | None = None
    tsa_root: str | None = None


class LoadedSettings(msgspec.Struct, frozen=True):
    """Settings, and their file (None without one). `notice` says why no file was looked for."""

    values: Settings = msgspec.field(default_factory=Settings)
    file: Path | None = None
    notice: str | None = None

    def path(self, text: str | None) -> Path | None:
        """A path that the file names: `~` is the home folder, what is relative is so to the file's own folder."""
        if text is None:
            return None
        path = home_folder() / text[2:] if text == "~" or text.startswith("~/") else Path(text)
        return path if self.file is None else self.file.parent / path

    def refuse_within(self, folder: Path) -> None:
        """Raises ConfigurationError when the file lies in a folder that holds evidence."""
        if self.file is None:
            return
        file, evidence = Path(os.path.realpath(self.file)), Path(os.path.realpath(folder))
        if file.is_relative_to(evidence):
            raise ConfigurationError(
                f"the settings file lies among the evidence: {safe_text(str(self.file), 200)}",
                hint="Copy it elsewhere and name it with --config FILE, or use none: --config none",
            )


def user_file() -> Path:
    """Where a user's own settings lie (XDG Base Directory Specification). Raises NoHomeError."""
    return own_folder("XDG_CONFIG_HOME", ".config") / "evidencesync" / "config.toml"


def settings_file(chosen: str | None) -> Path | None:
    """The file of `--config` (`none`: no file at all, None), else the user's own, which need not be there. Raises NoHomeError."""
    if chosen == _NO_FILE:
        return None
    return expand(chosen).absolute() if chosen is not None else user_file()


def variable_of(key: str) -> str:
    """The environment variable that wins over a key of the file."""
    return f"EVIDENCESYNC_{key.replace('-', '_').upper()}"


def load_settings(chosen: str | None, *, read: bool = True) -> LoadedSettings:
    """The settings of a file (see `settings_file`), if it is there. Without `read`, it is only named, and may be broken.

    Raises ConfigurationError for a file that cannot be read, and for an unknown key or a wrong value. If the folder is closed
    to this process (it may belong to the user before a `su`), there are no settings, and a notice says so.
    """
    try:
        file = settings_file(chosen)
    except NoHomeError:
        if chosen is not None or not read:
            raise
        return LoadedSettings()
    if file is None or not read:
        return LoadedSettings(file=file)
    if chosen is None and not _may_look_into(file.parent):
        return LoadedSettings(notice=f"no settings are read: {safe_text(str(file.parent), 200)} is closed to this user")
    data = _read(file, must_exist=chosen is not None)
    return LoadedSettings() if data is None else LoadedSettings(_parse(data, file), file)


def _may_look_into(folder: Path) -> bool:
    """Whether this process can find out what a folder, or the nearest one above it, holds."""
    try:
        os.stat(folder / ".")
    except PermissionError:
        return False
    except OSError:
        return True
    return os.access(folder, os.X_OK, effective_ids=os.access in os.supports_effective_ids)


_OTHER_FILE: Final = "Name another with --config FILE, or go without: --config none"


def _read(file: Path, *, must_exist: bool) -> bytes | None:
    shown = safe_text(str(file), 200)
    try:
        data = read_named(file, _MAX_FILE, again=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        if must_exist:
            hint = "Make one with: evidencesync settings edit; or go without: --config none"
            raise ConfigurationError(f"there is no settings file {shown}", hint=hint) from error
        return None
    except OSError as error:
        if error.strerror == NO_REGULAR_FILE:
            raise ConfigurationError(f"{shown} is not a regular file of at most {_MAX_FILE} bytes", hint=_OTHER_FILE) from error
        raise ConfigurationError(f"the settings file {shown} cannot be read: {error.strerror}", hint=_OTHER_FILE) from error
    if len(data) > _MAX_FILE:
        raise ConfigurationError(f"{shown} is not a regular file of at most {_MAX_FILE} bytes", hint=_OTHER_FILE)
    return data


def _parse(data: bytes, file: Path) -> Settings:
    import tomllib

    try:
        return _checked(tomllib.loads(data.decode("utf-8-sig")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigurationError(
            f"the settings file {safe_text(str(file), 200)}: {safe_text(str(error), 300)}",
            hint="The keys that a settings file may hold are listed by: evidencesync settings show --config none",
        ) from error


def setting_keys() -> list[str]:
    """The keys of a settings file, in the file's spelling."""
    return [name.replace("_", "-") for name in Settings.__struct_fields__]


def _checked(table: dict[str, Any]) -> Settings:
    """Raises ValueError for an unknown key, and for a value of another type or size."""
    unknown = sorted(table.keys() - set(setting_keys()))
    if unknown:
        import difflib  # only for an error

        close = difflib.get_close_matches(unknown[0].lower().replace("_", "-"), setting_keys(), n=1, cutoff=0.7)
        raise ValueError(f"there is no setting called {unknown[0]}" + (f": did you mean {close[0]}?" if close else ""))
    for key, value in table.items():
        if key == "timeout":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_TIMEOUT:
                raise ValueError(f"timeout must be a number of seconds, up to {_MAX_TIMEOUT}")
        elif not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
            raise ValueError(f"{key} must be a text of 1 to {_MAX_TEXT} characters")
    return Settings(**{key.replace("-", "_"): value for key, value in table.items()})
