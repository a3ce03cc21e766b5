from __future__ import annotations

import os
import subprocess
import sys

import pytest

from evidencesync.cli.app import main
from evidencesync.cli.command import bounds_in_words
from tests.support.every_command import KINDS

COMMANDS = (
    "init",
    "trust add",
    "trust list",
    "trust retire",
    "trust revoke",
    "host trust",
    "push",
    "serve",
    "verify",
    "compare",
    "export",
    "list",
    "show",
    "diff",
    "restore",
    "custody show",
    "custody note",
    "custody correct",
    "custody hand-over",
    "custody accept",
    "custody seal",
    "reindex",
    "clean",
    "vault writer",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_examples(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert f"Usage: evidencesync {name} " in out
    assert f"  Examples:\n    evidencesync {name} " in out
    assert "--json" in out


@pytest.mark.parametrize("arguments", [[], ["trust"], ["host"], ["custody"], ["timestamp"], ["receipts"], ["vault"]])
def test_a_list_of_commands_cuts_no_sentence_short(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--help"]) == 0
    listed = capfd.readouterr().out.partition("Commands:\n")[2].partition("Examples:")[0]
    assert listed.strip()
    assert "..." not in listed


def test_the_version_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    import evidencesync

    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"evidencesync {evidencesync.__version__}\n"


@pytest.mark.parametrize("name", KINDS)
def test_options_stand_in_groups_and_bounds_in_words(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    out = capfd.readouterr().out
    assert "Output and settings:\n  --json" in out
    assert "range>" not in out
    assert "x<=" not in out
    assert "x>=" not in out


def test_a_push_says_what_belongs_together(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "--help"]) == 0
    lines = capfd.readouterr().out.splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles[:4] == ["Arguments:", "Options:", "Case and item:", "Who signs:"]
    assert "SSH:" in titles
    assert next(line for line in lines if "--port" in line).endswith("[1 to 65535]")


@pytest.mark.parametrize(
    ("said", "shown"), [("[0<=x<=12]", "[0 to 12]"), ("[x>=1; required]", "[1 or more; required]"), ("x<=0.5", "0.5 or less")]
)
def test_a_range_is_said_in_words(said: str, shown: str) -> None:
    assert bounds_in_words(said) == shown


@pytest.mark.parametrize("arguments", [["--help"], ["push", "--help"], ["--version"]])
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    slow = ["asyncio", "asyncssh", "blake3", "cryptography", "logging", "msgspec", "pyfastcdc", "rich", "sqlite3", "zstandard"]
    script = (
        "import sys; from evidencesync.cli.app import main; code = main(sys.argv[1:]); "
        f"print(*sorted(set({slow}) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    # Measuring coverage would itself load a database, and more.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, env=plain)
    assert (done.returncode, done.stderr.strip()) == (0, "")
