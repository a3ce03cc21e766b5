from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from evidencesync.cli.app import main
from evidencesync.cli.help_text import _FIRST, bounds_in_words
from evidencesync.cli.lines import command_lines
from tests.support.every_command import KINDS, every_command

GROUPS = ("", "trust", "host", "custody", "timestamp", "receipts", "vault")
_COMMON = ["--json", "-q, --quiet", "-v, --verbose", "--config FILE", "-h, --help"]


def page(name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """The help of a command on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*name.split(), "--help"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out


def sections(shown: str) -> dict[str, list[str]]:
    """The lines below each title."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in shown.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            title = line[:-1]
        elif line:
            found.setdefault(title, []).append(line)
    return found


@pytest.mark.parametrize("name", [*GROUPS, *KINDS])
def test_help_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert [line for line in page(name, monkeypatch, capfd).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", KINDS)
def test_every_command_shows_an_example(name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    shown = page(name, monkeypatch, capfd)
    assert shown.startswith(f"Usage: evidencesync {name} ")
    assert [line for line in sections(shown)["Examples"] if line.startswith(f"  evidencesync {name} ")]


@pytest.mark.parametrize("name", KINDS)
def test_every_option_has_a_group_and_the_common_ones_come_last_in_a_line_each(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = sections(page(name, monkeypatch, capfd))
    assert "Options" not in found
    assert list(found)[-2:] == ["Common options", "Examples"]
    assert [line.strip().partition("  ")[0] for line in found["Common options"]] == _COMMON


@pytest.mark.parametrize("name", KINDS)
def test_an_example_is_read_by_a_shell_as_it_was_written(name: str) -> None:
    found = dict(every_command())[name]
    for example in found.epilog.splitlines()[1:]:
        if "evidencesync" in example and not example.strip().startswith(("#", "restrict,")):
            shown = "\n".join(command_lines(example.strip(), 50))
            assert shlex.split(shown.replace("\\\n", " ")) == shlex.split(example)


def test_the_commands_are_listed_by_what_they_are_for(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    found = sections(page("", monkeypatch, capfd))
    titles = ["Set up", "Acquire", "Check", "Look", "Hand over", "Keep"]
    assert [title for title in found if title in titles] == titles
    assert "Commands" not in found


@pytest.mark.parametrize("arguments", [[], ["trust"], ["host"], ["custody"], ["timestamp"], ["receipts"], ["vault"]])
def test_a_list_of_commands_cuts_no_sentence_short(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--help"]) == 0
    listed = capfd.readouterr().out.partition(":\n")[2].partition("Examples:")[0]
    assert listed.strip()
    assert "..." not in listed


def test_the_version_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    import evidencesync

    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"evidencesync {evidencesync.__version__}\n"


@pytest.mark.parametrize("name", KINDS)
def test_bounds_are_said_in_words(name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    shown = page(name, monkeypatch, capfd)
    assert not any(sign in shown for sign in ("range>", "x<=", "x>="))


def test_a_push_says_what_belongs_together(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    found = sections(page("push", monkeypatch, capfd))
    assert list(found) == [
        "",
        "Example",
        "Arguments",
        "Most used",
        "In detail",
        "What is read",
        "What is read once, out of a pipe",
        "How it is done",
        "What is recorded",
        "Who signs",
        "SSH",
        "Common options",
        "Examples",
    ]
    assert next(line for line in found["SSH"] if "--port" in line).endswith("[1 to 65535]")


@pytest.mark.parametrize("name", _FIRST)
def test_a_long_help_begins_with_one_screen_of_what_most_people_look_for(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = page(name, monkeypatch, capfd)
    found = sections(shown)
    assert list(found)[:4] == ["", "Example", "Arguments", "Most used"]
    first = found["Example"][0]
    assert first.startswith(f"  evidencesync {name} ")
    assert first in found["Examples"]
    most_used = "\n".join(found["Most used"])
    assert len(re.findall(r"^  -", most_used, re.MULTILINE)) == len(_FIRST[name])
    assert shown.index("In detail:") < shown.index("Common options:")
    assert len(shown.partition("In detail:")[0].splitlines()) <= 29  # of 24, and what scrolls past was read


@pytest.mark.parametrize(
    ("said", "shown"), [("[0<=x<=12]", "[0 to 12]"), ("[x>=1; required]", "[1 or more; required]"), ("x<=0.5", "0.5 or less")]
)
def test_a_range_is_said_in_words(said: str, shown: str) -> None:
    assert bounds_in_words(said) == shown


@pytest.mark.parametrize("arguments", [["--help"], ["push", "--help"], ["--version"]])
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    slow = ["asyncio", "asyncssh", "blake3", "cryptography", "logging", "pyfastcdc", "rich", "sqlite3", "zstandard"]
    script = (
        "import sys; from evidencesync.cli.app import main; code = main(sys.argv[1:]); "
        f"print(*sorted(set({slow}) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    # Measuring coverage would itself load a database, and more.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, env=plain)
    assert (done.returncode, done.stderr.strip()) == (0, "")
