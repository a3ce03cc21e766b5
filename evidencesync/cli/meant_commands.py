"""Finds the command that was meant by a word that is none here: one of another group, a habit, or a slip of the hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from evidencesync.cli.command_table import MODULES
from evidencesync.cli.habits import FROM_OTHERS, IN_GROUPS

_MOST: Final = 2


def meant_commands(unknown: str, group: Any, path: str) -> list[str]:
    """The whole names of the commands, two at most, that a word in a group may mean. `path` is what the group is typed as."""
    above = path.split()[1:]
    if (found := IN_GROUPS.get((group.name, unknown))) is not None:
        return [found]
    if (habit := FROM_OTHERS.get(unknown, unknown)) in group.commands:
        return [" ".join([*above, habit])]
    inner = [f"{name} {unknown}" for name, one in group.commands.items() if unknown in getattr(one, "commands", ())]
    if near := near_names(unknown, group.commands) if not inner else []:
        return [" ".join([*above, name]) for name in near]
    if above and habit in MODULES:
        return [habit]
    return inner[:_MOST]


def near_names(given: str, known: Iterable[str]) -> list[str]:
    """The names, two at most, of options or of commands, for which `given` may be a slip."""
    import difflib  # only for an error

    names = list(known)
    begin_so = [name for name in names if name.startswith(given) and len(given) > 3]
    bare = {name.removeprefix("--"): name for name in names}  # dashes, which all of them have, are no likeness
    near = difflib.get_close_matches(given.removeprefix("--"), bare, n=_MOST, cutoff=0.7)
    return (begin_so or [bare[name] for name in near])[:_MOST]
