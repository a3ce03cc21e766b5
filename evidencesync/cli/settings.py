"""What a user has settled once for all: a small TOML file, below the command line and the environment.

The file lies in the user's own configuration folder or is named with `--config`. It is never looked for in the current
folder, and one that lies among evidence is refused: evidence must not be able to say how it is handled.
"""

from __future__ import annotations

import os
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from evidencesync.errors import ConfigurationError
from evidencesync.evidence.display import safe_text

_MAX_FILE: Final = 64 * 1024  # a dozen short lines
_NO_FILE: Final = "none"
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The keys of the file; each is the default of the option of its name."""

    examiner: _Text | None = None
    organisation: _Text | None = None
    sign_key: _Text | None = None
    identity: _Text | None = None
    ssh_config: _Text | None = None
    known_hosts: _Text | None = None
    remote_command: _Text | None = None
    compress: Literal["auto", "always", "never"] | None = None
    limit_rate: _Text | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    receipts: _Text | None = None


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and the file they came from (None: there is none)."""

    values: Settings = field(default_factory=Settings)
    file: Path | None = None

    def path(self, text: str | None) -> Path | None:
        """A path that the file names: `~` is the home folder, what is relative is so to the file's own folder."""
        if text is None:
            return None
        path = Path(text).expanduser()
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
    """Where a user's own settings lie (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    root = Path(base) if base.startswith("/") else Path("~", ".config").expanduser()
    return root / "evidencesync" / "config.toml"


def load_settings(chosen: str | None) -> LoadedSettings:
    """The settings of `--config` (`none`: no file at all), else the user's own, which need not be there.

    Raises ConfigurationError for a file that cannot be read, and for a key or a value that is not one.
    """
    if chosen == _NO_FILE:
        return LoadedSettings()
    file = Path(chosen).expanduser().absolute() if chosen is not None else user_file()
    data = _read(file, must_exist=chosen is not None)
    return LoadedSettings() if data is None else LoadedSettings(_parse(data, file), file)


def _read(file: Path, *, must_exist: bool) -> bytes | None:
    shown = safe_text(str(file), 200)
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        if must_exist:
            raise ConfigurationError(f"there is no settings file {shown}") from error
        return None
    except OSError as error:
        raise ConfigurationError(f"the settings file {shown} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        data = stream.read(_MAX_FILE + 1) if is_file else b""
    if not is_file or len(data) > _MAX_FILE:
        raise ConfigurationError(f"{shown} is not a regular file of at most {_MAX_FILE} bytes")
    return data


def _parse(data: bytes, file: Path) -> Settings:
    try:
        return msgspec.convert(tomllib.loads(data.decode("utf-8")), Settings)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, msgspec.ValidationError) as error:
        raise ConfigurationError(
            f"the settings file {safe_text(str(file), 200)}: {safe_text(str(error), 300)}",
            hint="docs/commands.md lists the keys that a settings file may hold.",
        ) from error
