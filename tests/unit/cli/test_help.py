from __future__ import annotations

import os
import subprocess
import sys

import pytest

from evidencesync.cli.app import main

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
