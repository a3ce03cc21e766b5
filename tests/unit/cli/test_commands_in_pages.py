"""Every command line of the pages for users names commands and options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.cli.capture import cut_words
from tests.support.every_command import every_command

ROOT = Path(__file__).parents[3]
PAGES = ("README.md", "docs/guide.md", "docs/set-up.md", "docs/one-key.md", "docs/watching.md")
COMMANDS = dict(every_command())
_LINE = re.compile(r"^(?:[$#] |ExecStart=\S*/)?(evidencesync [a-z].*)$", re.MULTILINE)
_INLINE = re.compile(r"`(evidencesync [a-z][^`]*)`")


def lines_of(page: str) -> Iterator[str]:
    """Command lines on lines of their own, and those within sentences and tables."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    yield from _LINE.findall(blocks)
    yield from (
        " ".join(line.split()) for line in _INLINE.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    )


def wrong_in(line: str) -> list[str]:
    """What of a command line does not exist."""
    _, *words = shlex.split(line.partition(" &")[0])
    words = cut_words(words, is_push=False)
    name = next((found for found in (" ".join(words[:2]), words[0]) if found in COMMANDS), None)
    if name is None:
        return [] if words[0] == "COMMAND" else [words[0]]
    known = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in known | {"--help", "-h", "-"}]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_of_a_page_has_a_command_and_options_that_exist(page: str) -> None:
    found = list(lines_of(page))
    assert found
    assert {line: wrong for line in found if (wrong := wrong_in(line))} == {}


def test_what_does_not_exist_is_found() -> None:
    assert wrong_in("evidencesync swallow VAULT") == ["swallow"]
    assert wrong_in("evidencesync push A B --case C --fast") == ["--fast"]


def test_the_guide_begins_with_what_to_type_for_most_commands() -> None:
    """Whoever works under pressure reads the first screens alone."""
    first = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8").partition("\n## ")[0]
    named = {line.split()[1] for line in _INLINE.findall(first)}
    assert {"push", "pull", "watch", "verify", "restore", "report", "export", "custody", "trust", "diff"} <= named
