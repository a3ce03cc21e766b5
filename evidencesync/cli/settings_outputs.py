"""What the commands `settings` print with `--json`."""

from __future__ import annotations

from typing import Literal

from evidencesync.cli.outputs import Output


class SettingOutput(Output, frozen=True):
    """One key of the settings. `value` is null where a command decides by itself; `variable` wins over the file."""

    key: str
    value: str | float | None
    source: Literal["default", "file", "environment"]
    variable: str


class SettingsOutput(Output, frozen=True):
    """What holds for a command that is given no options. `file` is null where no file is read."""

    file: str | None
    settings: list[SettingOutput]


class SettingsPathOutput(Output, frozen=True):
    """Where the settings file is, or would be."""

    file: str
    exists: bool


class SettingsEditOutput(Output, frozen=True):
    """A settings file that was edited, and is right. `made`: it was not there before."""

    file: str
    made: bool
    keys: list[str]
