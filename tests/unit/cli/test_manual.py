"""The man pages say what the help says, and are pages that readers of man pages accept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from docs.generate.command_tree import all_commands
from docs.generate.manual import manual_pages, page_name, write_manual
from tests.support.every_command import every_command

COMMITTED = Path(__file__).parents[3] / "docs" / "man"


def test_the_committed_pages_say_what_the_code_says() -> None:
    assert {file.name: file.read_text("utf-8") for file in COMMITTED.iterdir()} == manual_pages(), "run: make docs"


def test_every_command_has_a_page_and_stands_in_the_first_one() -> None:
    pages, first = manual_pages(), manual_pages()["evidencesync.1"].replace("\\", "")
    for name, _ in every_command():
        assert f"evidencesync-{name.replace(' ', '-')}.1" in pages
        assert f"evidencesync-{name.replace(' ', '-')} (1)" in first


def test_a_reader_of_man_pages_finds_nothing_wrong_and_every_option(require_program: Callable[[str], str]) -> None:
    mandoc = require_program("mandoc")
    files = sorted(map(str, COMMITTED.iterdir()))
    lint = subprocess.run([mandoc, "-T", "lint", "-W", "warning", *files], capture_output=True, text=True, check=False)
    said = [line for line in lint.stdout.splitlines() if "missing date" not in line]  # the same bytes on any day
    assert said == []
    for command in all_commands():
        page = COMMITTED / f"{page_name(command)}.1"
        shown = subprocess.run([mandoc, "-T", "ascii", str(page)], capture_output=True, text=True, check=True).stdout
        text = " ".join(_without_overstrikes(shown).split())
        for parameter in command.parameters:
            assert all(name in text for name in parameter.names)
            assert " ".join(parameter.text.split()) in text
        assert all(" ".join(line.split()) in text for line in command.examples.splitlines())


def _without_overstrikes(text: str) -> str:
    """Terminals show "x, back, x" as a bold x."""
    plain: list[str] = []
    for character in text:
        if character == "\b":
            plain.pop()
        else:
            plain.append(character)
    return "".join(plain)


def test_the_page_of_a_command_that_is_no_more_goes(tmp_path: Path) -> None:
    (tmp_path / "evidencesync-gone.1").write_text("")
    write_manual(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(manual_pages())
