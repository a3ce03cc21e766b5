"""How the help of a command shows its options: in groups, and with bounds in words."""

from __future__ import annotations

import re
from typing import Any, Final

import typer.core

OTHER_OPTIONS: Final = "Options"
_BOUNDS: Final = re.compile(r"(?P<low>[\d.]+)<=x<=(?P<high>[\d.]+)|x>=(?P<least>[\d.]+)|x<=(?P<most>[\d.]+)")


class GroupedCommand(typer.core.TyperCommand):
    """A command whose options stand under the title of their group: typer's `rich_help_panel`, which it shows with rich alone."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, the command's own options, then each group in the order of its first option."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], OTHER_OPTIONS: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                title = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OTHER_OPTIONS
                sections.setdefault(title, []).append((record[0], bounds_in_words(record[1])))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def bounds_in_words(text: str) -> str:
    """What click says of a range (`0<=x<=12`), as people write it: "0 to 12", "1 or more", "12 or less"."""

    def say(found: re.Match[str]) -> str:
        if found["low"] is not None:
            return f"{found['low']} to {found['high']}"
        return f"{found['least']} or more" if found["least"] is not None else f"{found['most']} or less"

    return _BOUNDS.sub(say, text)
